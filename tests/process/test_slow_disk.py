"""Signals on a slow disk, where each sync of a file takes half a second."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import Command, await_line
from runs import line, rerun

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

SIGNAL = "SIGHUP, SIGINT or SIGTERM while the command sleeps, polls or saves"


@pytest.fixture
def slow(command: Command, tmp_path: Path) -> IoFault:
    """A slow disk, on which the local state exists already."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    assert command.run("submit", "--prompt", "x", "--poll-seconds", "0.05").code == 0
    return IoFault(mode="slow", below=str(tmp_path), at=1, error=500)


def end_by_signal(
    command: Command, like: tuple[str, ...], argv: tuple[str, ...], slow: IoFault, delay: float
) -> Result:
    """End a command by SIGTERM some time after its first poll.

    Check that it does not wait for the disk: it ends in less than half of the time that the command
    `like` takes from its first poll to its end.
    """
    process = command.start(*like, fault=slow)
    await_line(process, "poll")
    began = time.monotonic()
    assert command.end(process).code == 0
    whole = time.monotonic() - began
    process = command.start(*argv, fault=slow)
    await_line(process, "poll")
    time.sleep(delay)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert time.monotonic() - began < whole / 2
    return result


@pytest.mark.row(SIGNAL)
def test_a_signal_while_a_result_is_saved(
    command: Command, sandbox: Sandbox, slow: IoFault, tmp_path: Path
) -> None:
    """A signal while the state and the files of an ended job are written ends the run at once."""
    output = ("--output-text-file", str(tmp_path / "answer.md"))
    argv = ("submit", "--prompt", "x", "--metadata", "sandbox_seconds=0.2", "--poll-seconds", "0.4")
    result = end_by_signal(command, (*argv, *output), (*argv, *output), slow, 0.8)
    assert result.code == 143
    (tmp_path / "answer.md").unlink()
    again = command.run(*rerun(result.last["next"]))
    assert (again.code, len(sandbox.posts)) == (0, 3)
    assert (tmp_path / "answer.md").read_text()


@pytest.mark.row(SIGNAL)
def test_a_signal_in_a_run(
    command: Command, sandbox: Sandbox, slow: IoFault, tmp_path: Path
) -> None:
    """A signal while the results of a run are written ends it at once; a rerun completes it."""
    jobs = tmp_path / "jobs.jsonl"
    lines = [line(str(one), metadata={"sandbox_seconds": "0.2"}) for one in range(4)]
    jobs.write_text("".join(json.dumps(one) + "\n" for one in lines))

    def argv(key: str) -> tuple[str, ...]:
        named = ("--jobs-file", str(jobs), "--results-file", str(tmp_path / f"{key}.jsonl"))
        return ("submit", *named, "--job-key", key, "--events", "all", "--poll-seconds", "0.4")

    result = end_by_signal(command, argv("like"), argv("k"), slow, 1.5)
    assert result.code == 143
    again = command.run(*argv("k"))
    assert (again.code, again.last["counts"]) == (0, {"completed": 4})
    assert len(sandbox.posts) == 9
