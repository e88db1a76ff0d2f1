"""An answer on a terminal: Markdown, rendered so that nothing of the text is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from markdown_it import MarkdownIt  # Rich's own parser
from rich import markdown
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from oaibg.base.text import inert

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

LENGTH_MAX = 100_000
"""Characters up to which a text is rendered; that takes a second or two."""

_COLUMN = 6
"""What a column of a table must have, or its cells can't be read."""


def is_rendered(text: str) -> bool:
    """Whether a text is taken for Markdown: it is short enough, and no JSON."""
    if len(text) > LENGTH_MAX:
        return False
    if not text.lstrip().startswith(("{", "[")):
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False


class Answer:
    """A text as Markdown, with nothing in it that steers the terminal.

    Markdown has characters by number (`&#8238;`), so that what is shown is looked at, and not what
    was read. Addresses are spelt out: a terminal's own links could hide where they lead.
    """

    def __init__(self, text: str) -> None:
        self._markdown = _Markdown(inert(text), code_theme="ansi_dark", hyperlinks=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The rendered segments, made inert."""
        for segment in console.render(self._markdown, options):
            yield segment if segment.control else Segment(inert(segment.text), segment.style)


class _Table(markdown.TableElement):
    """A table whose cells are folded where they don't fit; one of too many columns is lines."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)  # noqa: S101 - it is what a table is rendered as
            for column in table.columns:
                column.overflow = "fold"
            if len(table.columns) * _COLUMN <= options.max_width:
                yield table
                continue
            heads = [column.header for column in table.columns]
            cells = [list(column.cells)[1:] for column in table.columns]
            for row in (heads, *zip(*cells, strict=True)):
                yield Text(" | ").join(cell for cell in row if isinstance(cell, Text))
            yield ""


class _Markdown(markdown.Markdown):
    """Markdown without what would hide a part of the text, as HTML and escapes do."""

    elements: ClassVar[dict[str, type[markdown.MarkdownElement]]] = {
        **markdown.Markdown.elements,
        "table_open": _Table,
    }

    def __init__(self, markup: str, *, code_theme: str, hyperlinks: bool) -> None:
        super().__init__("", code_theme=code_theme, hyperlinks=hyperlinks)
        parser = MarkdownIt().enable(["strikethrough", "table"])
        parser.disable(["html_inline", "html_block", "image", "escape", "autolink"])
        self.parsed = parser.parse(markup)
