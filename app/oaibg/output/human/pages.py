"""What stays when a command has ended: the facts of a job, and tables of several.

They are lines of text, which a terminal folds by itself: nothing is cut, and ids can be copied.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from oaibg.base.json_text import value_at
from oaibg.base.text import inert, one_line
from oaibg.contract import events
from oaibg.output.human.live import styled
from oaibg.output.human.words import STRONG, duration, local_time, name_of, reason, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Ended = events.Final | events.CancelResult | events.Error
"""What tells the end of a job in a run over several."""

_GAP = "   "
_LABEL = len("Output tokens")
_DATA_SHOWN = 60
"""Characters of a file's data that the page of a request shows."""


def facts_of(final: events.Final) -> Text:
    """What a job used."""
    return _facts([("Model", final.model), *_usage(final.usage)])


def page(shown: events.Response) -> Text:
    """A response as `show` has it, without its text."""
    data = shown.response or {}
    facts = (
        ("Status", styled(shown.status)),
        ("Reason", reason(data.get("error"), data.get("incomplete_details"))),
        ("Model", data.get("model")),
        ("Created", local_time(data.get("created_at"))),
        ("Ended", local_time(data.get("completed_at"))),
        ("Effort", value_at(data, "reasoning", "effort")),
        ("Verbosity", value_at(data, "text", "verbosity")),
        ("Follows", data.get("previous_response_id")),
        ("Metadata", _pairs(data.get("metadata"))),
        ("Requests", _pairs(data.get("request_counts"))),
        ("Source", "the local copy" if shown.source == "local" else None),
    )
    heading = Text(f"{one_line(str(shown.response_id))}\n", style=STRONG)
    return Text().join((heading, _facts([*facts, *_usage(data.get("usage"))])))


def job_list(jobs: Sequence[events.ListedJob], width: int) -> Text:
    """The jobs of the local state, newest first as they come."""
    several_servers = len({job.base_url for job in jobs}) > 1
    rows = []
    for job in jobs:
        key = " / ".join(name for name in (job.job_key, job.custom_id) if name)
        cells = [local_time(job.created_at) or job.created_at, job.model or "-", key]
        server = [job.base_url] if several_servers else []
        when, model, *rest = (Text(one_line(cell)) for cell in (*cells, *server))
        named = Text(one_line(job.response_id or "-"))
        rows.append([when, styled(job.status, "-"), model, *rest, named])
    heads = ["Submitted", "Status", "Model", "Key", *(["Server"] if several_servers else []), "Id"]
    return _table(heads, rows, width)


def ends(jobs: Iterable[Ended], width: int) -> Text:
    """How jobs of a run ended; why one did not succeed was told when it ended."""
    rows = []
    for job in jobs:
        final = job if isinstance(job, events.Final) else None
        tokens = _number(final.usage, "output_tokens") if final else None
        status = job.code if isinstance(job, events.Error) else job.status
        after = Text(duration(final.elapsed_seconds) if final else "", justify="right")
        told = Text("" if tokens is None else f"{tokens:,}", justify="right")
        named = Text(one_line(name_of(job) or "-"))
        rows.append([styled(status, "-"), after, told, named])
    return _table(["Status", "After", "Output tokens", "Job"], rows, width)


def request(shown: events.DryRun) -> str:
    """A request's body, readable; of attached files only the beginning of the data."""
    return inert(json.dumps(_cut(shown.body), indent=2, ensure_ascii=False))


def _table(heads: Sequence[str], rows: list[list[Text]], width: int) -> Text:
    """Rows below their heads, without the columns that nothing stands in.

    What is last stands on a line of its own where it does not fit the width; where the rest does
    not fit either, every cell does.
    """
    used = [at for at in range(len(heads)) if any(row[at].plain for row in rows)]
    table = [
        [Text(heads[at], style="bold") for at in used],
        *([r[at] for at in used] for r in rows),
    ]
    widths = [max(cell_len(row[at].plain) for row in table) for at in range(len(used))]
    rest = sum(widths[:-1]) + len(_GAP) * (len(used) - 1)
    if rest > width:
        return Text("\n\n").join(
            Text("\n").join(cell for cell in row if cell.plain) for row in table[1:]
        )
    fits = rest + widths[-1] <= width
    table[0][-1] = table[0][-1] if fits else Text()
    told = []
    for row in table:
        cells = [_padded(cell, room) for cell, room in zip(row[:-1], widths, strict=False)]
        between = _GAP if fits else "\n  " if row[-1].plain else ""
        told.append(Text(between).join((Text(_GAP).join(cells), row[-1])))
    return Text("\n").join(told)


def _padded(cell: Text, room: int) -> Text:
    """A cell as wide as its column."""
    padding = " " * (room - cell_len(cell.plain))
    right = cell.justify == "right"
    return Text().join((Text(padding), cell) if right else (cell, Text(padding)))


def _facts(facts: Iterable[tuple[str, object]]) -> Text:
    """Labels and values; those that are empty are left out."""
    told = [
        Text("  ").join(
            (
                Text(f"  {name:<{_LABEL}}", style="dim"),
                value if isinstance(value, Text) else Text(one_line(str(value))),
            )
        )
        for name, value in facts
        if value
    ]
    return Text("\n").join(told)


def _usage(usage: object) -> list[tuple[str, object]]:
    """Tokens, and what of them was read from the cache or thought."""
    rows = []
    for name, key, inside in (
        ("Input tokens", "input_tokens", "cached"),
        ("Output tokens", "output_tokens", "reasoning"),
        ("Total tokens", "total_tokens", ""),
    ):
        number = _number(usage, key)
        if number is not None:
            details = usage.get(f"{key}_details") if isinstance(usage, dict) else None
            of_them = _number(details, f"{inside}_tokens") if inside else None
            rows.append((name, f"{number:,}", "" if of_them is None else f"{of_them:,} {inside}"))
    room = max((len(number) for _, number, _ in rows), default=0)
    return [(name, f"{number:>{room}}  {more}".rstrip()) for name, number, more in rows]


def _number(data: object, key: str) -> int | None:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _pairs(value: object) -> str:
    """An object's keys and values in one line."""
    if not isinstance(value, dict):
        return ""
    return ", ".join(f"{key}={told}" for key, told in value.items())


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner) for inner in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > _DATA_SHOWN:
        return f"{value[:_DATA_SHOWN]}… ({size(len(value))} of Base64)"
    return value
