"""Unbuffered writes to stdout and stderr that don't wait too long for a reader."""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import suppress

from oaibg.base.secrets import masked
from oaibg.base.text import inert
from oaibg.contract.errors import ExitCode, StdoutGone

_STALL = 0.25
"""Seconds without space in the pipe after which oaibg assumes that nobody reads."""


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


def write_some(descriptor: int, data: memoryview) -> int | None:
    """Write as much as possible at once; returns the number of bytes, or None if nobody reads.

    Up to PIPE_BUF bytes never block on a pipe that is ready. A blocked write would delay signals
    until someone reads. Some pipes are non-blocking.

    Raises:
        OSError: the descriptor is closed, the reader has closed the pipe, or the disk is full.
    """
    if not select.select([], [descriptor], [], _STALL)[1]:
        return None
    with suppress(BlockingIOError):
        return os.write(descriptor, data[: select.PIPE_BUF])
    return 0


def prose(text: str) -> None:
    """Print a message to stderr, with terminal control characters escaped."""
    with suppress(OSError):  # a job must not fail because of stderr
        sys.stderr.write(f"{inert(masked(text))}\n")
        sys.stderr.flush()
