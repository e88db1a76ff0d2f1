"""Tables of several jobs, in the width of the terminal.

In a narrow terminal, columns at the right are left out, and long keys are cut in the middle, with
the ID below. IDs are never cut, so that they can be copied: one that is too long has its own line.
In a very narrow terminal, each job has its name on a line, and the rest below it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from oaibg.base.text import one_line
from oaibg.contract import events
from oaibg.contract.run_status import run_status
from oaibg.output.human.amounts import ago, clock, dollars, number_at
from oaibg.output.human.names import FAINT, STRONG, counted, job_name, plain, status_text
from oaibg.output.human.rows import folded, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oaibg.output.human.words import Ended

_GAP = "  "

_KEY = 20
"""The width that a key may be cut to."""

_KEPT = 2
"""The number of columns after the name that are always shown."""


class _Name(NamedTuple):
    text: str
    is_id: bool
    """Whether it must not be cut."""
    address: str = ""
    """What commands accept for it: an ID, or the key of a run."""
    is_label: bool = False
    """Whether no command accepts the text."""


class _Column(NamedTuple):
    head: str
    cells: list[Text]
    is_extra: bool = False
    """Whether it is left out before a key is cut."""

    @property
    def width(self) -> int:
        return max(len(self.head), *(cell.cell_len for cell in self.cells))


def list_table(listed: Sequence[events.ListedJob | events.Run], width: int) -> Text:
    """Return a table of jobs and runs in the local state, in the given order."""
    now = time.time()
    several_servers = len({one.base_url for one in listed}) > 1
    names = [_name(one) for one in listed]
    rest = [
        "" if address == name.text else address
        for name, address in zip(names, map(_address, listed), strict=True)
    ]
    columns = [
        _Column("Status", [_status(one) for one in listed]),
        _Column("Submitted", [plain(ago(one.created_at, now)) for one in listed]),
        _Column("Model", [plain(_model(one)) for one in listed]),
        _Column("Tokens", [_number(one.usage, "total_tokens") for one in listed]),
        _Column("Cost", [_cost(one.cost_usd) for one in listed]),
        _Column(
            "Server",
            [plain(one.base_url if several_servers else "") for one in listed],
            is_extra=True,
        ),
        _Column("ID or run", [plain(one, FAINT) for one in rest], is_extra=True),
    ]
    return _table(names, columns, width)


def list_counts(listed: Sequence[events.ListedJob | events.Run], summary: events.Summary) -> Text:
    """Return the counts of a list, and how many of its lines are attempts that don't count."""
    replaced = sum(isinstance(one, events.ListedJob) and one.replaced for one in listed)
    attempts = "attempt" if replaced == 1 else "attempts"
    more = f"; {replaced:,} earlier {attempts} not counted" if replaced else ""
    return counted(summary.counts.items()).append(more)


def end_table(ends: Sequence[Ended], width: int) -> Text:
    """Return a table of ended jobs. The reasons were already printed when each job ended."""
    seconds = [getattr(end, "job_seconds", None) for end in ends]
    usages = [getattr(end, "usage", None) for end in ends]
    columns = [
        _Column("Status", [status_text(run_status(end)) for end in ends]),
        _Column("Time", [_right("" if one is None else clock(one)) for one in seconds]),
        _Column("Output tokens", [_number(usage, "output_tokens") for usage in usages]),
    ]
    return _table([_name(end) for end in ends], columns, width)


def _name(one: events.Event) -> _Name:
    if isinstance(one, events.Run):
        has_own_key = one.job_key != one.jobs_file
        label = None if has_own_key else one.label
        text = label or one.job_key.rpartition("/")[2]
        return _Name(text, is_id=False, address=one.job_key, is_label=label is not None)
    if not isinstance(one, events.ListedJob):
        return _Name(job_name(one) or "-", is_id=not (one.of or one.known_as))
    address = one.response_id or one.job_key or ""
    if key := "/".join(filter(None, (one.job_key, one.custom_id))):
        return _Name(key, is_id=False, address=address)
    if one.label is not None:
        return _Name(one.label, is_id=False, address=address, is_label=True)
    return _Name(one.response_id or "(no ID)", is_id=True)


def _status(one: events.ListedJob | events.Run) -> Text:
    if isinstance(one, events.Run):
        return plain(f"{one.counts.get('completed', 0):,} of {one.total:,} completed")
    status = status_text(one.status, "-")
    return status.append(" (replaced)") if one.replaced else status


def _model(one: events.ListedJob | events.Run) -> str:
    return "" if isinstance(one, events.Run) else one.model or "-"


def _address(one: events.ListedJob | events.Run) -> str:
    """Return what a command accepts for it: a run's whole key, or a job's ID."""
    return one.job_key if isinstance(one, events.Run) else one.response_id or ""


def _number(usage: object, key: str) -> Text:
    count = number_at(usage, key)
    return _right("" if count is None else f"{count:,}")


def _cost(usd: float | None) -> Text:
    return _right("" if usd is None else dollars(usd))


def _right(text: str) -> Text:
    return Text(text, justify="right")


def _table(names: list[_Name], columns: list[_Column], width: int) -> Text:
    columns = [column for column in columns if any(cell.plain for cell in column.cells)]
    texts = [one_line(name.text) for name in names]
    longest = max(map(cell_len, texts))
    keys = [text for text, name in zip(texts, names, strict=True) if not name.is_id]
    least = min(max(map(cell_len, ("Job", *keys))), _KEY)
    shown = list(columns)

    def room() -> int:
        return width - sum(column.width + len(_GAP) for column in shown)

    while len(shown) > _KEPT and room() < (longest if shown[-1].is_extra else least):
        shown.pop()
    if room() < least:
        return _blocks(names, columns, width)
    cells = [
        None if name.is_id and cell_len(text) > room() else Text(shortened(text, room()))
        for text, name in zip(texts, names, strict=True)
    ]
    first = _Column("Job", [cell or Text() for cell in cells])
    lines = [_row([first, *shown], None)]
    for number, cell in enumerate(cells):
        if cell is None:
            lines.append(Text(texts[number]))
        lines.append(_row([first, *shown], number))
        is_cut = cell is not None and cell.plain != texts[number]
        if names[number].address and (names[number].is_label or is_cut) and not shown[-1].is_extra:
            lines.append(plain(f"  {names[number].address}", FAINT))
    return Text("\n").join(lines)


def _row(columns: list[_Column], number: int | None) -> Text:
    """Return a row of a table; without a number, its heads."""
    cells = []
    for column in columns:
        cell = Text(column.head, STRONG) if number is None else Text.assemble(column.cells[number])
        cell.align("right" if column.cells[0].justify == "right" else "left", column.width)
        cells.append(cell)
    row = Text(_GAP).join(cells)
    row.rstrip()
    return row


def _blocks(names: list[_Name], columns: list[_Column], width: int) -> Text:
    """Return the name of each job with its other cells below it; extra columns are left out."""
    lines = []
    for number, name in enumerate(names):
        parts = []
        for column in columns:
            cell = column.cells[number]
            if cell.plain and not column.is_extra:
                is_count = cell.plain.replace(",", "").isdecimal()
                parts.append(Text.assemble(cell, f" {column.head.lower()}" if is_count else ""))
        lines += [plain(name.text, STRONG), *(Text("  ") + row for row in folded(parts, width - 2))]
        if name.is_label and name.address:
            lines.append(plain(f"  {name.address}", FAINT))
    return Text("\n").join(lines)
