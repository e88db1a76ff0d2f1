"""Rows of a live display, which must not be wider than the terminal, and names that fit in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

CLIPPED = Text("\n", no_wrap=True, overflow="ellipsis")
"""Joins rows and cuts them at the terminal's width."""


def folded(parts: Iterable[Text], width: int) -> list[Text]:
    """Return the parts in as few rows as possible, without splitting a part."""
    rows: list[Text] = []
    for part in parts:
        if not rows:
            rows.append(Text().append(part))
        elif rows[-1].cell_len + 3 + part.cell_len > width:
            rows.append(Text("  ") + part)
        else:
            rows[-1].append(" · ", style="dim").append(part)
    return rows


def shortened(name: str, room: int) -> str:
    """Return a name that fits, cut in the middle: its start and its end distinguish it."""
    if cell_len(name) <= room:
        return name
    start = room // 2
    return f"{set_cell_size(name, start)}…{set_cell_size(name[::-1], room - start - 1)[::-1]}"
