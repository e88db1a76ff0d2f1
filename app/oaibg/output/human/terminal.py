"""Rich consoles for stdout and stderr, and their colors."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console
from rich.theme import Theme

if TYPE_CHECKING:
    from oaibg.output.stdout import Stderr

_ENDLESS = 100_000
"""Width for a file or a pipe, in which no line is folded."""

THEME = Theme(
    {
        "markdown.h1": "bold underline",
        **dict.fromkeys(("markdown.h2", "markdown.h3"), "bold"),
        **dict.fromkeys(("markdown.h4", "markdown.h5", "markdown.h6"), "italic"),
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.block_quote": "none",
        "markdown.item.number": "none",
        "markdown.item.bullet": "none",
        "markdown.link": "none",
        "markdown.link_url": "cyan",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
    }
)
"""Rich's styles, changed so that they are readable on dark and on light backgrounds.

There are no backgrounds, no bright colors, and no blue: some terminals show these badly.
"""


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
            theme=THEME,
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
