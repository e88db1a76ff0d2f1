"""Rich consoles for stdout and stderr, and a stderr that never delays a job."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import IO, cast

from rich.console import Console

from oaibg.base.secrets import masked
from oaibg.output.stdout import Stdout, write_some

_ENDLESS = 100_000
"""Width for a file or a pipe, in which no line is folded."""

_PATIENCE = 30.0
"""Seconds to wait for a reader of the last messages."""


class Screen(Console):
    """A console with the terminal's real size that never hides the cursor.

    A killed process could not show the cursor again. `COLUMNS` is ignored: an exported value is the
    width of a different terminal, and 0 would hide all text.

    Args:
        descriptor: 1 or 2.
        file: takes the text; if None, the text is only captured.
    """

    def __init__(self, descriptor: int, file: Stderr | None = None) -> None:
        self.is_tty = os.isatty(descriptor)
        """Whether the descriptor is a terminal; settings for colors don't change this."""
        super().__init__(
            file=cast("IO[str] | None", file),
            highlight=False,
            width=None if self.is_tty else _ENDLESS,
            _environ={key: os.environ[key] for key in os.environ.keys() - {"COLUMNS", "LINES"}},
        )

    @property
    def can_live(self) -> bool:
        """Whether the terminal supports a live display: it can overwrite lines."""
        return self.is_tty and self.is_interactive and self.encoding.startswith("utf")

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - Rich's signature
        """Don't change the cursor."""
        return False


class Stderr:
    """The file that Rich writes progress to. Text that nobody reads is dropped.

    Args:
        stdout: its `give_up` is set once a signal has ended the run.
    """

    def __init__(self, stdout: Stdout) -> None:
        self.encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._stdout = stdout
        self._deadline = 0.0

    def wait_for_reader(self) -> None:
        """From now on, wait for a reader, because the last messages follow."""
        self._deadline = time.monotonic() + _PATIENCE

    def write(self, text: str) -> int:
        """Write the text, or as much of it as is read."""
        rest = memoryview(masked(text).encode(self.encoding, "backslashreplace"))
        with suppress(OSError):  # a job must not fail because of stderr
            while rest:
                taken = write_some(2, rest)
                if taken is None and self._is_over():
                    break
                rest = rest[taken or 0 :]
        return len(text)

    def flush(self) -> None:
        """Do nothing: writes are unbuffered."""

    def isatty(self) -> bool:
        """Whether stderr is a terminal."""
        return os.isatty(2)

    def _is_over(self) -> bool:
        return self._stdout.give_up is not None or time.monotonic() >= self._deadline
