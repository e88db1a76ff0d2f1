"""Output files that are named pipes: a reader that comes late, reads slowly, or never comes."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from harness import Command, await_line, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

NOBODY = "An output file is a named pipe that nobody reads"
LARGE = ("--metadata", "sandbox_bytes=300000")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe that nobody has opened."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.row(NOBODY)
@pytest.mark.parametrize("option", ["--output-text-file", "--output-json-file"])
@pytest.mark.parametrize("reader", ["none", "opens it only"])
def test_a_pipe_that_nobody_reads(
    command: Command, sandbox: Sandbox, pipe: Path, option: str, reader: str
) -> None:
    """At the wait limit the run ends with exit 9, and `next` can save the result."""
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if reader == "opens it only" else None
    argv = ("submit", "--prompt", "x", *LARGE, "--poll-seconds", "0.05", option, str(pipe))
    began = time.monotonic()
    result = command.run(*argv, "--max-wait-seconds", "2")
    assert time.monotonic() - began < 5
    codes = [line["code"] for line in result.lines if line["event"] == "warning"]
    assert (result.code, result.last["status"], codes) == (9, "completed", ["write_failed"])
    assert "show" in result.last["next"]
    if held is not None:
        os.close(held)
    assert len(sandbox.posts) == 1


@pytest.mark.row(NOBODY)
def test_a_signal_while_a_pipe_waits(command: Command, pipe: Path) -> None:
    """Without a wait limit, the run waits for a reader; a signal ends it."""
    argv = ("submit", "--prompt", "x", "--poll-seconds", "0.05", "--output-text-file", str(pipe))
    process = command.start(*argv)
    _, read = await_line(process, "poll")
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    result = command.end(process, 10)
    assert (result.code, parsed(read + result.out)[-1]["event"]) == (143, "interrupted")


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_a_reader_that_comes_late(command: Command, pipe: Path, pause: float) -> None:
    """A reader that comes late, and reads slowly, gets the whole text."""
    found: list[bytes] = []

    def read() -> None:
        time.sleep(1)
        with pipe.open("rb", buffering=0) as file:
            while chunk := file.read(20_000):
                found.append(chunk)
                time.sleep(pause)

    thread = threading.Thread(target=read)
    thread.start()
    argv = ("submit", "--prompt", "x", *LARGE, "--poll-seconds", "0.05")
    result = command.run(*argv, "--output-text-file", str(pipe))
    thread.join()
    assert result.code == 0
    (wrote,) = [line for line in result.lines if line["event"] == "wrote_text"]
    assert len(b"".join(found)) == wrote["bytes"] >= 300_000
