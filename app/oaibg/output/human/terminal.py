"""Rich's consoles for stdout and stderr, and a stderr that never holds a job up."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import IO, cast

from rich.console import Console

from oaibg.output.stdout import Stdout, write_some

_ENDLESS = 100_000
"""Columns of what is not a terminal: no line is folded there."""

_PATIENCE = 30.0
"""Seconds for which the last words wait for a reader."""


class Screen(Console):
    """A console of the terminal's own size that never hides the cursor.

    A process that is killed could not bring the cursor back. `COLUMNS` is ignored: if it is
    exported it is the width of another terminal, and 0 would lose everything.

    Args:
        descriptor: 1 or 2.
        file: takes the text; without it the text is only captured.
    """

    def __init__(self, descriptor: int, file: Stderr | None = None) -> None:
        self.is_tty = os.isatty(descriptor)
        """Whether it is a terminal, whatever colours are asked for."""
        super().__init__(
            file=cast("IO[str] | None", file),
            highlight=False,
            width=None if self.is_tty else _ENDLESS,
            _environ={key: os.environ[key] for key in os.environ.keys() - {"COLUMNS", "LINES"}},
        )

    @property
    def can_live(self) -> bool:
        """Whether a live display works: lines can be overwritten, and their width is known."""
        return self.is_tty and self.is_interactive and self.encoding.startswith("utf")

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - Rich's signature
        """Leave the cursor as it is."""
        return False


class Stderr:
    """The file that Rich writes the progress to: text that nobody reads is dropped.

    Args:
        stdout: knows whether a signal has ended the run.
    """

    def __init__(self, stdout: Stdout) -> None:
        self.encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._stdout = stdout
        self._deadline = 0.0

    def wait_for_reader(self) -> None:
        """From now on wait for a reader: these are the last words."""
        self._deadline = time.monotonic() + _PATIENCE

    def write(self, text: str) -> int:
        """Write as much as is taken."""
        rest = memoryview(text.encode(self.encoding, "backslashreplace"))
        with suppress(OSError):  # no job needs stderr
            while rest:
                taken = write_some(2, rest)
                if taken is None and self._is_over():
                    break
                rest = rest[taken or 0 :]
        return len(text)

    def flush(self) -> None:
        """Do nothing: everything is out already."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(2)

    def _is_over(self) -> bool:
        return self._stdout.give_up is not None or time.monotonic() >= self._deadline
