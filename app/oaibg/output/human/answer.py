"""The answer on a terminal: Markdown, rendered without hiding any text."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from markdown_it import MarkdownIt  # Rich's own parser
from rich import markdown
from rich.rule import Rule
from rich.segment import Segment
from rich.style import Style
from rich.syntax import ANSISyntaxTheme, Syntax
from rich.table import Table
from rich.text import Text

from oaibg.base.text import inert

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult

_LENGTH_MAX = 100_000
"""Maximum length of a rendered text, in characters; rendering it takes a second or two."""

_COLUMN = 6
"""Minimum width of a readable table column."""

_CODE = ANSISyntaxTheme(
    {
        ("Comment",): Style(dim=True),
        ("Keyword",): Style(color="magenta"),
        ("Literal",): Style(color="cyan"),
        ("Literal", "String"): Style(color="green"),
        ("Name", "Tag"): Style(color="magenta"),
    }
)
"""The colors of code; like those of the theme, they are readable on any background."""


def is_markdown(text: str) -> bool:
    """Whether to render a text as Markdown: it is short enough and not JSON."""
    if len(text) > _LENGTH_MAX:
        return False
    with suppress(ValueError, RecursionError):
        return not isinstance(json.loads(text), dict | list)
    return True


def last_block(text: str) -> int:
    """Return where the last block of a Markdown text begins; what is before it is complete."""
    lines = text.splitlines(keepends=True)
    parser = _parser()
    parser.core.ruler.enableOnly(["normalize", "block"])  # what is inside the blocks takes long
    starts = [token.map[0] for token in parser.parse(text) if token.level == 0 and token.map]
    return sum(map(len, lines[: starts[-1]])) if starts else 0


def _parser() -> MarkdownIt:
    parser = MarkdownIt().enable(["strikethrough", "table"])
    return parser.disable(["html_inline", "html_block", "image", "escape", "autolink"])


class _Heading(markdown.Heading):
    """A heading at the left."""

    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class _Code(markdown.CodeBlock):
    """A block of code, indented, in colors for any background."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(code, self.lexer_name, theme=_CODE, word_wrap=True, padding=(0, 2))


class _Line(markdown.MarkdownElement):
    """A horizontal line."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Rule(style="dim", characters="─")


class _Table(markdown.TableElement):
    """A table with folded cells; a table with too many columns becomes lines of text."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)  # noqa: S101 - Rich renders a Table here
            table.show_edge = False
            for column in table.columns:
                column.overflow = "fold"
            if len(table.columns) * _COLUMN <= options.max_width:
                yield table
                continue
            heads = [column.header for column in table.columns]
            rows = zip(*(column.cells for column in table.columns), strict=True)
            for row in (heads, *rows):
                yield Text(" | ").join(cell for cell in row if isinstance(cell, Text))


class Answer(markdown.Markdown):
    """A text rendered as Markdown that hides no text and can't control the terminal.

    HTML and escapes stay as written. Markdown can encode characters as numbers (`&#8238;`), so the
    rendered text is made inert, too. URLs are printed, because terminal links could hide them.
    One empty line separates two blocks.
    """

    elements: ClassVar[dict[str, type[markdown.MarkdownElement]]] = {
        **markdown.Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
        "hr": _Line,
        "table_open": _Table,
    }

    def __init__(self, text: str) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = _parser().parse(inert(text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the rendered segments, made inert."""
        for segment in super().__rich_console__(console, options):
            assert isinstance(segment, Segment)  # noqa: S101 - Markdown yields segments
            yield segment if segment.control else Segment(inert(segment.text), segment.style)
