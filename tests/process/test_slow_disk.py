"""Signals on a slow disk, where each sync of a file takes half a second."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import Command, await_line
from runs import line

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

SIGNAL = "SIGHUP, SIGINT or SIGTERM while the command sleeps, polls or saves"
SECONDS = 2.0
"""A second, and another one for a busy machine. To wait for all syncs would take 5 s and more."""


@pytest.fixture
def slow(command: Command, tmp_path: Path) -> IoFault:
    """A slow disk, on which the local state exists already."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    assert command.run("submit", "--prompt", "x", "--poll-seconds", "0.05").code == 0
    return IoFault(mode="slow", below=str(tmp_path), at=1, error=500)


@pytest.mark.row(SIGNAL)
@pytest.mark.parametrize("delay", [0.1, 0.8, 1.6, 2.4, 3.2, 4.0])
def test_a_signal_while_a_result_is_saved(
    command: Command, sandbox: Sandbox, slow: IoFault, tmp_path: Path, delay: float
) -> None:
    """A signal while the state and the files of an ended job are written ends the run at once."""
    output = ("--output-text-file", str(tmp_path / "answer.md"))
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_seconds=0.2")
    process = command.start(*argv, "--poll-seconds", "0.4", *output, fault=slow)
    await_line(process, "poll")
    time.sleep(delay)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert time.monotonic() - began < SECONDS
    assert result.code == 143
    again = command.run(*argv, "--poll-seconds", "0.4", *output)
    assert (again.code, len(sandbox.posts)) == (0, 2)
    assert (tmp_path / "answer.md").read_text()


@pytest.mark.row(SIGNAL)
@pytest.mark.parametrize("delay", [0.2, 1.5, 3.0])
def test_a_signal_in_a_run(
    command: Command, sandbox: Sandbox, slow: IoFault, tmp_path: Path, delay: float
) -> None:
    """A signal while the results of a run are written ends it at once; a rerun completes it."""
    jobs, results = tmp_path / "jobs.jsonl", tmp_path / "results.jsonl"
    lines = [line(str(one), metadata={"sandbox_seconds": "0.2"}) for one in range(4)]
    jobs.write_text("".join(json.dumps(one) + "\n" for one in lines))
    argv = ("submit", "--jobs-file", str(jobs), "--results-file", str(results), "--events", "all")
    process = command.start(*argv, "--poll-seconds", "0.4", fault=slow)
    await_line(process, "poll")
    time.sleep(delay)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert time.monotonic() - began < SECONDS + 1
    assert result.code in (143, 0)
    again = command.run(*argv, "--poll-seconds", "0.4")
    assert (again.code, again.last["counts"]) == (0, {"completed": 4})
    assert len(sandbox.posts) == 5
