"""The rows of a live display on a terminal whose size may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.control import Control
from rich.segment import ControlType, Segment

if TYPE_CHECKING:
    from rich.console import (
        Console,
        ConsoleDimensions,
        ConsoleOptions,
        RenderableType,
        RenderResult,
    )


class Frame:
    """Draws a live display, and erases what a change of the terminal's size has left of it.

    Rich moves the cursor up by the rows of the last frame. A narrower terminal has wrapped these
    into more rows, and a lower one has moved the first of them out of sight; when it grows again,
    they come back above the display.
    """

    def __init__(self, display: RenderableType) -> None:
        self._display = display
        self._size: ConsoleDimensions | None = None
        self._widths: list[int] = []
        """The width of each row of the last frame."""
        self._hidden = 0
        """The number of rows that are out of sight, directly above the display."""

    def note_line(self) -> None:
        """Note that a line was printed above the display, which now separates it from these."""
        self._hidden = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the display, after the erasure of what is left of earlier frames."""
        lines = console.render_lines(self._display, options, pad=False)
        if stale := self._stale(options.size):
            up = (ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)
            yield Control(*up * stale)
        self._widths = [Segment.get_line_length(line) for line in lines]
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            yield from line

    def _stale(self, size: ConsoleDimensions) -> int:
        """Return how many rows of earlier frames are above those that Rich erases."""
        before, self._size = self._size, size
        if before is None or before == size:
            return 0
        rows = sum(max(-(-width // size.width), 1) for width in self._widths)
        seen = min(rows, size.height)
        back = min(self._hidden, max(size.height - before.height, 0))
        self._hidden += rows - seen - back
        return max(seen - len(self._widths), 0) + back
