"""Renderers, and the writer below them. They know events only, and decide nothing."""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from oaibg.errors import ExitCode, StdoutGone
from oaibg.events import Error, OutputText, OutputTextMissing, Response, Warning  # noqa: A004
from oaibg.text import has_surrogates, inert, utf8

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.events import Event


_STALL = 0.25
"""Seconds in which a reader that reads takes something."""


class Renderer(Protocol):
    """Shows events to whoever runs the command."""

    def write(self, event: Event) -> None:
        """Show one event, now.

        Raises:
            StdoutGone: stdout is closed or full.
        """
        ...


class Stdout:
    """File descriptor 1, written to directly: what was written is out, whatever comes next."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.give_up: int | None = None
        """The exit code to end with where nobody reads; a signal sets it."""

    def is_ready(self) -> bool:
        """Whether a line can be written at once."""
        try:
            return bool(select.select([], [self._descriptor], [], 0)[1])
        except (OSError, ValueError):
            return True  # the write tells what is wrong

    def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            StdoutGone: 141 where the reader closed it, 9 where it is full.
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


class JsonLines:
    """One compact ASCII JSON object a line; an error is told on stderr, too, for people.

    Args:
        stdout: where the lines go.
        now: the time as the lines have it.
        several: whether the run is over several jobs, so that each line has a `custom_id`.
    """

    def __init__(self, stdout: Stdout, now: Callable[[], str], *, several: bool = False) -> None:
        self._stdout, self._now, self._several = stdout, now, several

    def write(self, event: Event) -> None:
        """Write the event's line."""
        if isinstance(event, Error) and event.exit_code is not None:
            _tell(event)
        self._stdout.write(json_line(event.to_dict(self._now(), several=self._several)))


class RawText:
    """The answer's text alone on stdout; everything else as prose on stderr."""

    def __init__(self, stdout: Stdout) -> None:
        self._stdout = stdout

    def write(self, event: Event) -> None:
        """Write the text, or the notice."""
        if isinstance(event, OutputText):
            if has_surrogates(event.text):
                prose("Warning: the text has lone surrogates; they are U+FFFD here.")
            self._stdout.write(utf8(event.text))
        elif isinstance(event, OutputTextMissing):
            prose(f"The response has no output text; its status is {event.status}.")
        elif isinstance(event, Response):
            if event.exit_code:
                prose(f"The status of {event.response_id} is {event.status}.")
        elif isinstance(event, Warning):
            prose(f"Warning: {event.message}")
        elif isinstance(event, Error):
            _tell(event)


def write_some(descriptor: int, data: memoryview) -> int | None:
    """Write as much as is taken at once; gives how much that was, None where nobody reads.

    What fits a pipe that is ready never blocks; a write that did would keep a signal waiting for
    as long as nobody reads. Some pipes do not block at all.

    Raises:
        OSError: the descriptor is closed, or what it leads to is gone or full.
    """
    if not select.select([], [descriptor], [], _STALL)[1]:
        return None
    with suppress(BlockingIOError):
        return os.write(descriptor, data[: select.PIPE_BUF])
    return 0


def _tell(error: Error) -> None:
    prose(f"Error: {error.message}")
    if error.hint:
        prose(error.hint)


def json_line(value: dict[str, Any]) -> bytes:
    """A compact line of ASCII JSON."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=_values)
    return text.encode() + b"\n"


def prose(text: str) -> None:
    """A line for people on stderr, with nothing in it that steers a terminal."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"{inert(text)}\n")
            sys.stderr.flush()
        except OSError:
            return  # nothing on stderr is needed to follow a job


def _values(record: Any) -> dict[str, Any]:
    values: dict[str, Any] = record.values()
    return values
