"""Unbuffered writes to stdout and stderr that don't wait too long for a reader."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import time
from contextlib import suppress

from oaibg.base.secrets import masked
from oaibg.base.text import inert
from oaibg.contract.errors import ExitCode, StdoutGone

_STALL = 0.25
"""Seconds without space in the pipe after which oaibg assumes that nobody reads."""

_LAST_STALL = 2.0
"""The same in human mode, for the messages at the end."""

_PLAIN = str.maketrans({"…": "...", "·": "-", "→": "->", "━": "="})
"""What stands for our own characters on a terminal that has no Unicode."""


class Stdout:
    """File descriptor 1 without a buffer: written lines survive any end of the process."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.give_up: int | None = None
        """The exit code if nobody reads; a signal sets it."""

    def is_ready(self) -> bool:
        """Whether a line can be written at once."""
        with suppress(OSError):
            return bool(select.select([], [self._descriptor], [], 0)[1])
        return True  # `write` raises the error

    def write(self, data: bytes) -> None:
        """Write all data.

        Raises:
            StdoutGone: with exit code 141 if the reader closed stdout, 9 if the disk is full.
        """
        rest = memoryview(data)
        try:
            while rest:
                taken = write_some(self._descriptor, rest)
                if taken is None and self.give_up is not None:
                    raise StdoutGone(self.give_up)
                rest = rest[taken or 0 :]
        except OSError as error:
            closed = error.errno in (errno.EPIPE, errno.EBADF)
            raise StdoutGone(ExitCode.STDOUT_CLOSED if closed else ExitCode.LOCAL_IO) from error


class Stderr(io.TextIOBase):
    """File descriptor 2 without a buffer, for prose and logs. Text that nobody reads is dropped.

    Args:
        stdout: its `give_up` is set once a signal has ended the run.
    """

    encoding = "utf-8"

    def __init__(self, stdout: Stdout) -> None:
        super().__init__()
        self.encoding = getattr(sys.stderr, "encoding", None) or self.encoding
        self._stdout = stdout
        self._deadline = 0.0
        self._is_stuck = False
        """Whether text was dropped, and nobody has read anything since."""

    def wait_for_reader(self) -> None:
        """From now on, wait for a reader a little longer, because the last messages follow."""
        self._deadline = time.monotonic() + _LAST_STALL

    def write(self, text: str) -> int:
        """Write the text, or as much of it as is read."""
        length = len(text)
        text = masked(text)
        if not self.encoding.lower().startswith("utf"):
            text = text.translate(_PLAIN)
        rest = memoryview(text.encode(self.encoding, "backslashreplace"))
        with suppress(OSError):  # a job must not fail because of stderr
            while rest:
                taken = write_some(2, rest, stall=0.0 if self._is_over() else _STALL)
                self._is_stuck = taken is None
                if taken is None and self._is_over():
                    break
                rest = rest[taken or 0 :]
        return length

    def fileno(self) -> int:
        """The file descriptor."""
        return 2

    def isatty(self) -> bool:
        """Whether stderr is a terminal."""
        return os.isatty(2)

    def _is_over(self) -> bool:
        """Whether not to wait any longer for a reader."""
        return self._is_stuck and (
            self._stdout.give_up is not None or time.monotonic() >= self._deadline
        )


def write_some(descriptor: int, data: memoryview, *, stall: float = _STALL) -> int | None:
    """Write as much as possible at once; returns the number of bytes, or None if nobody reads.

    Up to PIPE_BUF bytes never block on a pipe that is ready. A blocked write would delay signals
    until someone reads. Some pipes are non-blocking.

    Raises:
        OSError: the descriptor is closed, the reader has closed the pipe, or the disk is full.
    """
    if not select.select([], [descriptor], [], stall)[1]:
        return None
    with suppress(BlockingIOError):
        return os.write(descriptor, data[: select.PIPE_BUF])
    return 0


def is_one_terminal() -> bool:
    """Return whether stdout and stderr are the same terminal."""
    if not (os.isatty(1) and os.isatty(2)):
        return False
    return os.fstat(1).st_rdev == os.fstat(2).st_rdev


def prose(text: str) -> None:
    """Print a message to stderr, with terminal control characters escaped."""
    with suppress(OSError):  # a job must not fail because of stderr
        sys.stderr.write(f"{inert(masked(text))}\n")
        sys.stderr.flush()
