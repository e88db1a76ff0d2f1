"""The answer on a terminal: Markdown, rendered without hiding any text."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from markdown_it import MarkdownIt  # Rich's own parser
from rich import markdown
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from oaibg.base.text import inert

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_LENGTH_MAX = 100_000
"""Maximum length of a rendered text, in characters; rendering it takes a second or two."""

_COLUMN = 6
"""Minimum width of a readable table column."""


def is_markdown(text: str) -> bool:
    """Whether to render a text as Markdown: it is short enough and not JSON."""
    if len(text) > _LENGTH_MAX:
        return False
    with suppress(ValueError, RecursionError):
        return not isinstance(json.loads(text), dict | list)
    return True


class _Table(markdown.TableElement):
    """A table with folded cells; a table with too many columns becomes lines of text."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)  # noqa: S101 - Rich renders a Table here
            for column in table.columns:
                column.overflow = "fold"
            if len(table.columns) * _COLUMN <= options.max_width:
                yield table
                continue
            heads = [column.header for column in table.columns]
            rows = zip(*(column.cells for column in table.columns), strict=True)
            for row in (heads, *rows):
                yield Text(" | ").join(cell for cell in row if isinstance(cell, Text))
            yield ""


class Answer(markdown.Markdown):
    """A text rendered as Markdown that hides no text and can't control the terminal.

    HTML and escapes stay as written. Markdown can encode characters as numbers (`&#8238;`), so the
    rendered text is made inert, too. URLs are printed, because terminal links could hide them.
    """

    elements: ClassVar[dict[str, type[markdown.MarkdownElement]]] = {
        **markdown.Markdown.elements,
        "table_open": _Table,
    }

    def __init__(self, text: str) -> None:
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        parser = MarkdownIt().enable(["strikethrough", "table"])
        parser.disable(["html_inline", "html_block", "image", "escape", "autolink"])
        self.parsed = parser.parse(inert(text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the rendered segments, made inert."""
        for segment in super().__rich_console__(console, options):
            assert isinstance(segment, Segment)  # noqa: S101 - Markdown yields segments
            yield segment if segment.control else Segment(inert(segment.text), segment.style)
