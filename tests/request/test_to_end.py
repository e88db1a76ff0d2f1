"""Input from pipes: it is read to its end, but no longer than the wait limit."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from io import FileIO
from typing import TYPE_CHECKING

import pytest

from runs import FAST, new_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

PARTS = (b"first ", b"", b"second")
MESSAGES = json.dumps([{"role": "user", "content": "first second"}]).encode()


@contextmanager
def pipe(*, blocking: bool = True) -> Iterator[tuple[int, FileIO]]:
    """Yield the ends of a pipe; reads of one that is not `blocking` fail until data arrives."""
    reader, writer = os.pipe()
    os.set_blocking(reader, blocking)
    with FileIO(reader, "r"), FileIO(writer, "w") as file:
        yield reader, file


@pytest.mark.process
@pytest.mark.parametrize("option", ["--prompt", "--prompt-file", "--messages-json-file"])
@pytest.mark.parametrize("blocking", [True, False])
def test_stdin_that_never_ends(
    command: Command, sandbox: Sandbox, option: str, blocking: bool
) -> None:
    """A stdin that never ends is an error at the wait limit, and nothing is sent."""
    with pipe(blocking=blocking) as (reader, writer):
        writer.write(b"half of it")
        argv = ("submit", option, "-", "--max-wait-seconds", "0.5")
        result = command.run(*argv, stdin=reader)
    assert (result.code, result.last["code"]) == (7, "wait_spent")
    assert "bytes have arrived. Nothing was sent." in result.last["message"]
    assert result.last["outcome"] == "not_created"
    assert not sandbox.requests


@pytest.mark.process
def test_ids_on_a_stdin_that_never_ends(command: Command, sandbox: Sandbox) -> None:
    """`monitor -` waits for the end of its IDs no longer than the limit, wherever it is given."""
    (job,) = new_jobs(sandbox, 1)
    for argv in (("-", "--max-wait-seconds", "0.5"), ("--max-wait-seconds", "0.5", "-")):
        with pipe() as (reader, writer):
            writer.write(job.encode())
            result = command.run("monitor", *argv, stdin=reader)
        assert (result.code, result.last["code"]) == (7, "wait_spent")
    assert not sandbox.requests


@pytest.mark.process
@pytest.mark.parametrize(
    "option",
    ["--prompt-file", "--input-json-file", "--body-json-file", "--tools-json-file"],
)
def test_a_fifo_that_nobody_writes_to(
    command: Command, sandbox: Sandbox, tmp_path: Path, option: str
) -> None:
    """A named pipe without a writer is an error at the wait limit, whichever option reads it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    prompt = () if option in ("--prompt-file", "--input-json-file") else ("--prompt", "x")
    result = command.run("submit", *prompt, option, str(path), "--max-wait-seconds", "0.5")
    assert (result.code, result.last["code"]) == (7, "wait_spent")
    assert f"{path}: the wait limit was reached" in result.last["message"]
    assert not sandbox.requests


@pytest.mark.process
@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("option", ["--prompt", "--prompt-file"])
def test_a_prompt_in_several_parts(
    command: Command, sandbox: Sandbox, blocking: bool, option: str
) -> None:
    """A prompt whose parts arrive late is sent as a whole, also if reads don't block."""
    with pipe(blocking=blocking) as (reader, writer):
        process = command.start("submit", option, "-", *FAST, stdin=reader)
        for part in PARTS:
            time.sleep(0.3)
            writer.write(part)
        assert not sandbox.requests
        writer.close()
        result = command.end(process)
    assert result.code == 0
    (post,) = sandbox.posts
    assert post.body["input"][0]["content"] == [{"type": "input_text", "text": "first second"}]


@pytest.mark.process
def test_ids_in_several_parts(command: Command, sandbox: Sandbox) -> None:
    """An ID that arrives in two parts is one ID, also if reads don't block."""
    (job,) = new_jobs(sandbox, 1, 0.01)
    with pipe(blocking=False) as (reader, writer):
        process = command.start("monitor", "-", *FAST, stdin=reader)
        for part in (job[:9], job[9:]):
            time.sleep(0.3)
            writer.write(part.encode())
        writer.close()
        result = command.end(process)
    assert (result.code, result.last["counts"]) == (0, {"completed": 1})


@pytest.mark.process
def test_a_fifo_with_a_late_writer(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """A named pipe is read when its writer comes."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    process = command.start("submit", "--messages-json-file", str(path), *FAST, fresh=True)
    time.sleep(0.3)
    path.write_bytes(MESSAGES)
    assert command.end(process).code == 0
    assert sandbox.posts[0].body["input"] == json.loads(MESSAGES)


@pytest.mark.process
def test_a_signal_while_input_is_awaited(command: Command, sandbox: Sandbox) -> None:
    """SIGTERM ends a command that waits for the end of its input."""
    with pipe() as (reader, _):
        process = command.start("submit", "--prompt", "-", stdin=reader)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        result = command.end(process)
    assert (result.code, result.last["event"]) == (143, "interrupted")
    assert not sandbox.requests


def test_a_hyphen_as_the_prompt(run: Callable[..., Result], stdin: Callable[[bytes], None]) -> None:
    """`--prompt -` reads stdin, which no other option can then read."""
    stdin(b"What is new?\n")
    result = run("submit", "--prompt", "-", "--dry-run")
    assert result.last["body"]["input"][0]["content"][0]["text"] == "What is new?\n"
    result = run("submit", "--prompt", "-", "--tools-json-file", "-", "--dry-run")
    assert (result.code, result.last["code"]) == (2, "usage")
    assert "Only one option can read stdin" in result.last["message"]
