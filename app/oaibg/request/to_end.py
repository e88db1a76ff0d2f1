"""Reads a file, a pipe or stdin to its end, but a pipe no longer than the wait limit."""

from __future__ import annotations

import math
import os
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.contract.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20


def read(path: str, most: int, deadline: float = math.inf) -> bytes:
    """Return the content of a file (`-` is stdin) up to its end, or its first `most` bytes.

    Args:
        path: of a file, a pipe or a device.
        most: maximum number of bytes.
        deadline: until when to wait for the end, as of `time.monotonic()`.

    Raises:
        OSError: the file can't be read.
        Unavailable: at the deadline, the end was not reached.
        UsageError: stdin is closed.
    """
    if path == "-" and sys.stdin is None:
        raise UsageError("stdin is closed; give a file's path instead of -.")
    if path == "-" and os.isatty(0) and sys.stderr is not None:
        with suppress(OSError):
            print("Reading stdin. To end it, press Ctrl-D.", file=sys.stderr, flush=True)  # noqa: T201 - for the person who types
    mode = os.fstat(0).st_mode if path == "-" else os.stat(path).st_mode  # noqa: PTH116
    chunks = _chunks(path, most)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return b"".join(chunks)
    return _within(chunks, "stdin" if path == "-" else path, deadline)


def _within(chunks: Iterator[bytes], name: str, deadline: float) -> bytes:
    """Join the chunks that a thread reads: to open a pipe, and to read it, may take forever."""
    from threading import TIMEOUT_MAX, Thread

    found: list[bytes] = []
    failed: list[OSError] = []

    def collect() -> None:
        try:
            for chunk in chunks:
                found.append(chunk)  # noqa: PERF402 - counted while they arrive
        except OSError as error:
            failed.append(error)

    thread = Thread(target=collect, daemon=True)
    thread.start()
    thread.join(min(max(deadline - time.monotonic(), 0), TIMEOUT_MAX))
    if failed:
        raise failed[0]
    if thread.is_alive():
        arrived = sum(map(len, found))
        raise Unavailable(
            f"{name}: the wait limit was reached before the end of the input; {arrived:,} bytes "
            "have arrived. Nothing was sent.",
            code="wait_spent",
            hint="Make sure that the program that writes the input closes it at the end, or write "
            "the input to a file and give the file's path.",
        )
    return b"".join(found)


def _chunks(path: str, most: int) -> Iterator[bytes]:
    descriptor = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while most > 0 and (chunk := _next_chunk(descriptor, min(_CHUNK, most))):
            most -= len(chunk)
            yield chunk
    finally:
        if descriptor:
            os.close(descriptor)


def _next_chunk(descriptor: int, most: int) -> bytes:
    """Read once; if reads don't block, as on a pipe from Node.js, wait for data or the end."""
    while True:
        try:
            return os.read(descriptor, most)
        except BlockingIOError:
            from select import select

            select([descriptor], [], [])
