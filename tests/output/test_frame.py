"""A live display after a change of the terminal's size: how many rows it erases above itself."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.text import Text

from oaibg.output.human.frame import Frame


def erased(frame: Frame, width: int, height: int) -> int:
    """Draw the frame in a terminal of this size; return how many rows it erases above itself."""
    file = StringIO()
    Console(file=file, width=width, height=height, force_terminal=True, _environ={}).print(frame)
    text = file.getvalue()
    assert text.count("\x1b[1A") == text.count("\x1b[2K")
    return text.count("\x1b[1A")


def rows(count: int, width: int) -> Text:
    """Return a display of so many rows."""
    return Text("\n".join(["x" * width] * count))


def test_the_same_size() -> None:
    """Without a change of size, Rich erases the last frame."""
    frame = Frame(rows(5, 60))
    assert [erased(frame, 80, 24) for _ in range(3)] == [0, 0, 0]


def test_a_narrower_terminal() -> None:
    """A row that the terminal has wrapped takes two rows."""
    frame = Frame(rows(5, 60))
    assert [erased(frame, width, 24) for width in (80, 40, 40, 100)] == [0, 5, 0, 0]


def test_rows_that_come_back() -> None:
    """Rows that a lower terminal has moved out of sight come back when it grows again."""
    frame = Frame(rows(20, 10))
    assert [erased(frame, 80, height) for height in (24, 12)] == [0, 0]
    frame._display = rows(9, 10)
    erased(frame, 80, 12)
    assert [erased(frame, 80, height) for height in (17, 30, 40)] == [5, 3, 0]


def test_lines_that_were_printed_since() -> None:
    """Lines above the display are never erased."""
    frame = Frame(rows(20, 10))
    erased(frame, 80, 24)
    erased(frame, 80, 12)
    frame.note_line()
    assert erased(frame, 80, 24) == 0
