"""Unbuffered writing to stdout and stderr, without waiting too long for a reader."""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import suppress

from oaibg.base.text import inert
from oaibg.contract.errors import ExitCode, StdoutGone

_STALL = 0.25
"""Seconds without room to write after which nobody counts as reading."""


class Stdout:
    """File descriptor 1, written to directly: what was written is out, whatever comes next."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.give_up: int | None = None
        """The exit code to end with if nobody reads; a signal sets it."""

    def is_ready(self) -> bool:
        """Whether a line can be written at once."""
        with suppress(OSError):
            return bool(select.select([], [self._descriptor], [], 0)[1])
        return True  # `write` raises what is wrong

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            StdoutGone: 141 if the reader closed it, 9 if it is full.
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


def write_some(descriptor: int, data: memoryview) -> int | None:
    """Write as much as fits at once; returns how many bytes, or None if nobody reads.

    PIPE_BUF bytes never block on a pipe that is ready; a write that blocked would hold a signal up
    for as long as nobody reads. Some pipes do not block at all.

    Raises:
        OSError: the descriptor is closed, or what it leads to is gone or full.
    """
    if not select.select([], [descriptor], [], _STALL)[1]:
        return None
    with suppress(BlockingIOError):
        return os.write(descriptor, data[: select.PIPE_BUF])
    return 0


def prose(text: str) -> None:
    """Print a line for people on stderr, with nothing in it that controls a terminal."""
    with suppress(OSError):  # no job needs stderr
        sys.stderr.write(f"{inert(text)}\n")
        sys.stderr.flush()
