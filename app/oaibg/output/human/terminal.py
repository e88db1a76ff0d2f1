"""Rich's consoles on our two outputs, and a stderr that holds nothing up."""

from __future__ import annotations

import os
import sys
import time
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console

from oaibg.output.stdout import write_some

if TYPE_CHECKING:
    from oaibg.output.stdout import Stdout

_ENDLESS = 100_000
"""Columns of what is no terminal: a line is a line there."""

_PATIENCE = 30.0
"""Seconds for which the words at the end wait for a reader."""

_SIZES = ("COLUMNS", "LINES")


class Screen(Console):
    """A console of the terminal's own size, that never hides the cursor.

    A process that is killed could not bring it back. `COLUMNS` counts for nothing: it is that of
    another terminal where it is exported, and 0 would lose everything.

    Args:
        descriptor: 1 or 2.
        file: what takes the text; else it is captured.
    """

    def __init__(self, descriptor: int, file: Stderr | None = None) -> None:
        self.is_seen = is_terminal(descriptor)
        """Whether somebody looks at it, whatever colours are asked for."""
        super().__init__(
            file=cast("IO[str] | None", file),
            highlight=False,
            width=None if self.is_seen else _ENDLESS,
            _environ={name: value for name, value in os.environ.items() if name not in _SIZES},
        )

    @property
    def can_live(self) -> bool:
        """Whether lines can be written over, and are as long as they are taken for."""
        return self.is_seen and self.is_interactive and self.encoding.startswith("utf")

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - Rich's signature
        """Leave it."""
        return False


class Stderr:
    """What Rich writes the progress to: what nobody takes is dropped, and nobody waits for it.

    Args:
        stdout: knows whether a signal has ended the run.
    """

    def __init__(self, stdout: Stdout) -> None:
        self.encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._stdout = stdout
        self._give_up = 0.0
        self._gone = False

    def be_patient(self) -> None:
        """From now on wait for a reader: these are the last words."""
        self._give_up = time.monotonic() + _PATIENCE

    def write(self, text: str) -> int:
        """Write as much as is taken."""
        rest = memoryview(text.encode(self.encoding, "backslashreplace"))
        try:
            while rest and not self._gone:
                taken = write_some(2, rest)
                if taken is None and self._is_over():
                    break
                rest = rest[taken or 0 :]
        except (OSError, ValueError):
            self._gone = True  # nothing on it is needed to follow a job
        return len(text)

    def _is_over(self) -> bool:
        return self._stdout.give_up is not None or time.monotonic() >= self._give_up

    def flush(self) -> None:
        """Everything is out already."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return is_terminal(2)

    def fileno(self) -> int:
        """The descriptor."""
        return 2


def is_terminal(descriptor: int) -> bool:
    """Whether a descriptor is a terminal."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False
