"""A stderr that nobody reads never delays a job, its last line, or the end of the process."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from harness import Command, full_pipe, parsed, wait_until
from oaibg.sandbox import Fault
from runs import finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.sandbox import Sandbox

UNREAD = "Nobody reads stderr, and its pipe is full"
LONG = ("--metadata", "sandbox_seconds=600")
LOG = {"OPENAI_LOG": "debug"}
SECONDS = 10.0
"""Enough for a whole run on a busy machine; a process that hangs would never end."""


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe that is full and that nobody reads."""
    reader, writer = full_pipe()
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.mark.row(UNREAD)
@pytest.mark.parametrize("human", [(), ("--human",)])
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("submit", "--prompt", "x", "--poll-seconds", "abc"), 2),
        (("submit", "--no-such-option"), 2),
        (("monitor", "bad id\n"), 2),
        (("monitor", "resp_1", "--max-wait-seconds", "1"), 5),
        (("show", "resp_1"), 5),
        (("submit", "--prompt", "x", "--metadata", "sandbox_outcome=nonsense"), 1),
        (("submit", "--prompt", "x", "--poll-seconds", "0.05"), 0),
    ],
)
def test_the_end_of_a_command(
    command: Command,
    sandbox: Sandbox,
    unread: int,
    argv: tuple[str, ...],
    code: int,
    human: tuple[str, ...],
) -> None:
    """A command whose messages nobody reads ends as usual, with its last line on stdout."""
    began = time.monotonic()
    process = command.start(*argv, *human, stderr=unread)
    result = command.end(process, SECONDS)
    assert result.code == code
    assert time.monotonic() - began < SECONDS
    if not human:
        assert result.last["exit_code"] == code


@pytest.mark.row(UNREAD)
@pytest.mark.parametrize("raw", [False, True])
def test_shown_text(command: Command, sandbox: Sandbox, unread: int, raw: bool) -> None:
    """`show --output-text` of a job that failed ends, although nobody reads its messages."""
    argv = ("submit", "--prompt", "x", "--poll-seconds", "0.05", "--metadata")
    identifier = command.run(*argv, "sandbox_outcome=failed").id
    more = ("--output-text",) if raw else ("--human",)
    assert command.end(command.start("show", identifier, *more, stderr=unread), SECONDS).code == 4


@pytest.mark.row(UNREAD)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("more", [(), ("--human",)])
def test_a_signal(
    command: Command, sandbox: Sandbox, unread: int, more: tuple[str, ...], number: signal.Signals
) -> None:
    """A signal ends a run whose log nobody reads within a second or so."""
    argv = ("submit", "--prompt", "x", *LONG, "--poll-seconds", "0.05", *more)
    process = command.start(*argv, stderr=unread, env=LOG, fresh=True)
    wait_until(lambda: len(sandbox.requests) > 5)
    process.send_signal(number)
    began = time.monotonic()
    result = command.end(process, SECONDS)
    assert result.code == 128 + number
    assert time.monotonic() - began < 4
    if not more:
        assert result.last["event"] == "interrupted"


@pytest.mark.row(UNREAD)
@pytest.mark.parametrize("kind", ["refused", "completed"])
def test_a_log_that_nobody_reads(
    command: Command, sandbox: Sandbox, unread: int, kind: str
) -> None:
    """With OPENAI_LOG=debug, a job is followed to its end, and its last line is written."""
    if kind == "refused":
        sandbox.script(
            Fault(
                on="create",
                kind="status",
                status=400,
                body={
                    "error": {
                        "message": "No such field.",
                        "type": "invalid_request_error",
                        "code": None,
                    }
                },
            )
        )
    argv = ("submit", "--prompt", "x", "--poll-seconds", "0.05", "--metadata", "sandbox_seconds=1")
    process = command.start(*argv, stderr=unread, env=LOG, fresh=True)
    result = command.end(process, SECONDS)
    assert (result.code, result.last["exit_code"]) == ((1, 1) if kind == "refused" else (0, 0))


@pytest.mark.row(UNREAD)
def test_many_polls_and_a_parent_that_reads_stdout_only(command: Command, sandbox: Sandbox) -> None:
    """A log that fills the pipe of stderr after a while doesn't stop the polls before the end."""
    argv = ("submit", "--prompt", "x", "--poll-seconds", "0.05", *LONG)
    process = command.start(*argv, env=LOG, fresh=True)

    def later() -> None:
        wait_until(lambda: len(sandbox.requests) > 250)
        finish(sandbox)

    thread = threading.Thread(target=later)
    thread.start()
    assert process.stdout is not None
    lines = parsed(process.stdout.read())
    thread.join()
    assert lines[-1]["event"] == "final"
    assert sum(one["event"] == "poll" for one in lines) > 100
    assert process.wait(SECONDS) == 0
    assert process.stderr is not None
    assert len(process.stderr.read()) > 60_000


def test_a_log_that_is_read(command: Command, sandbox: Sandbox) -> None:
    """A log and the message of an error are whole if somebody reads them, even slowly."""
    result = command.run("submit", "--prompt", "x", "--poll-seconds", "0.05", env=LOG, fresh=True)
    assert result.code == 0
    assert "HTTP Response" in result.err
    assert result.err.endswith("\n")
    reader, writer = full_pipe()
    process = command.start("submit", "--no-such", stderr=writer)
    os.close(writer)
    time.sleep(0.1)
    read = b""
    while chunk := os.read(reader, 65536):
        read += chunk
    os.close(reader)
    assert process.wait(SECONDS) == 2
    assert b"Error: " in read
