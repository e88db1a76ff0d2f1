"""Rich consoles for stdout and stderr."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console

if TYPE_CHECKING:
    from oaibg.output.stdout import Stderr

_ENDLESS = 100_000
"""Width for a file or a pipe, in which no line is folded."""


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
