"""The standard streams: slow readers, closed pipes, full disks, and files that are stdout."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import sys
import termios
import time
from typing import IO, TYPE_CHECKING

import pytest

from harness import Command, full_pipe, parsed, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

LONG = ("--metadata", "sandbox_seconds=600")
MOST_OF_A_PIPE = 48_000
"""More bytes than this in a pipe, and the next large line fills it."""


def unread(pipe: IO[bytes]) -> int:
    """Return the number of bytes in a pipe that nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_signal_while_nobody_reads(command: Command) -> None:
    """A signal ends the process even if its reader has stopped reading."""
    command.run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_bytes=500000"),
        *("--poll-seconds", "0.05"),
    )
    process = command.start("show")
    stdout = process.stdout
    assert stdout is not None
    wait_until(lambda: unread(stdout) > MOST_OF_A_PIPE)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143


def test_list_into_a_slow_reader(command: Command) -> None:
    """`show --list` waits for a slow reader."""
    command.run("submit", "--prompt", "x", "--detach")
    reader, writer = full_pipe()
    process = command.start("show", "--list", stdout=writer)
    os.close(writer)
    time.sleep(1)  # the process waits for room in the pipe
    read = b""
    while chunk := os.read(reader, 65536):
        read += chunk
    os.close(reader)
    assert process.wait(60) == 0
    assert b'"event":"summary"' in read


@pytest.mark.parametrize(("path", "code"), [(None, 141), ("/dev/full", 9)])
def test_list_into_a_closed_or_full_stdout(command: Command, path: str | None, code: int) -> None:
    """`show --list` ends quietly with 141 for a closed stdout, and with 9 for a full disk."""
    command.run("submit", "--prompt", "x", "--detach")
    reader, writer = os.pipe()
    os.close(reader)
    if path is not None:
        os.close(writer)
        writer = os.open(path, os.O_WRONLY)
    result = command.run("show", "--list", stdout=writer)
    os.close(writer)
    assert (result.code, result.err) == (code, "")


def test_list_that_nobody_reads(command: Command, sandbox: Sandbox) -> None:
    """A blocked `show --list` does not block the database for other processes."""
    for number in range(3):
        command.run("submit", "--prompt", "x" * number + "y", "--detach", *LONG)
    database = sqlite3.connect(
        f"{command.environment['OAIBG_STATE_DIR']}/state.sqlite3", isolation_level=None
    )
    columns = "base_url, step, job_key, response_id, status, created_at, updated_at"
    for number in range(2000):
        database.execute(
            f"INSERT INTO jobs ({columns}) VALUES ('u', 'followed', NULL, ?, 'queued', 0, 0)",
            (f"resp_{number}",),
        )
    database.close()
    reader = command.start("show", "--list")
    stdout = reader.stdout
    assert stdout is not None
    wait_until(lambda: unread(stdout) > MOST_OF_A_PIPE)
    assert reader.poll() is None
    result = command.run("submit", "--prompt", "z", "--detach", *LONG)
    assert result.events == ["submit_start", "submitted", "detached"]


def test_human_without_stderr(command: Command) -> None:
    """`--human` continues if the reader of stderr closes it."""
    reader, writer = os.pipe()
    os.close(reader)
    result = command.run(
        *("submit", "--prompt", "x", "--human", "--poll-seconds", "0.05"), stderr=writer
    )
    os.close(writer)
    assert result.code == 0
    assert b"sandbox" in result.out


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("--event-schema",)])
def test_help_into_a_closed_pipe(command: Command, argv: tuple[str, ...]) -> None:
    """Help for a closed stdout ends with 141, without any message."""
    reader, writer = os.pipe()
    os.close(reader)
    result = command.run(*argv, stdout=writer)
    os.close(writer)
    assert (result.code, result.err) == (141, "")


@pytest.mark.parametrize("argv", [("--help",), ("show", "--help"), ("--event-schema",)])
def test_help_into_a_full_disk(command: Command, argv: tuple[str, ...]) -> None:
    """Help for a full disk ends with 9, without any message."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = command.run(*argv, stdout=full)
    assert (result.code, result.err) == (9, "")


def test_output_file_that_is_stdout(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """An output file that is stdout is refused before anything is sent."""
    out = tmp_path / "log"
    with out.open("wb") as log:
        result = command.run(
            "submit", "--prompt", "x", "--output-text-file", "/dev/stdout", stdout=log
        )
    assert result.code == 2
    assert parsed(out.read_bytes())[-1]["code"] == "usage"
    assert not sandbox.posts


def test_output_file_that_is_a_pipe(command: Command) -> None:
    """An output file can be a pipe, such as a shell's `>(…)`."""
    reader, writer = os.pipe()
    result = command.run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_text=to the pipe"),
        *("--poll-seconds", "0.05", "--output-text-file", f"/dev/fd/{writer}"),
        pass_fds=(writer,),
    )
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123
        assert pipe.read() == b"to the pipe"
    assert result.code == 0


def test_standard_streams_closed(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """With all standard streams closed, the run succeeds, and no file becomes stdout."""
    out = tmp_path / "o.json"
    process = command.start(
        *("submit", "--prompt", "x", "--poll-seconds", "0.05", "--output-json-file", str(out)),
        stdout=None,
        stderr=None,
        preexec_fn=lambda: os.closerange(0, 3),
    )
    assert process.wait(60) == 0
    assert json.loads(out.read_bytes())["id"] in sandbox.jobs


def test_pipe_that_does_not_block(command: Command) -> None:
    """A line larger than a non-blocking pipe, which some harnesses use, arrives whole."""
    command.run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_bytes=500000"),
        *("--poll-seconds", "0.05"),
    )
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = command.start("show", stdout=writer)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123
        wait_until(lambda: unread(pipe) > MOST_OF_A_PIPE)
        (line,) = parsed(pipe.read())
    assert process.wait(60) == 0
    assert len(line["response"]["output"][1]["content"][0]["text"]) == 500_000
