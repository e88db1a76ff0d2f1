"""What stays when a command has ended: the answer, the facts of a job, and tables of several."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.markdown import Markdown
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from oaibg import events
from oaibg.human.live import styled
from oaibg.human.words import STRONG, duration, local_time, reason, size
from oaibg.text import inert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

Ended = events.Final | events.CancelResult | events.Error
"""What tells the end of a job in a run over several."""

MARKDOWN_MAX = 1_000_000
"""Characters up to which a text is rendered; more than that takes too long."""

_NARROW = 60
"""Columns below which a table of jobs has its cells below each other."""

_LABELS = 15
"""Columns of what stands before a fact."""

_TEXT_SHOWN = 200
"""Characters of one text that the page of a request shows, where it is a file's content."""


class Answer:
    """A text as Markdown, with nothing in it that steers the terminal.

    Markdown has characters by number (`&#8238;`), so that what is shown is looked at, and not what
    was read. Links are spelt out: a terminal's own links could hide where they lead.
    """

    def __init__(self, text: str) -> None:
        self._markdown = Markdown(inert(text), code_theme="ansi_dark", hyperlinks=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The rendered segments, made inert."""
        for segment in console.render(self._markdown, options):
            yield segment if segment.control else Segment(inert(segment.text), segment.style)


def facts_of(final: events.Final) -> RenderableType:
    """What a job used."""
    return Group(*_facts([("Model", final.model)]), *_usage(final.usage))


def page(shown: events.Response) -> RenderableType:
    """A response as `show` has it, without its text."""
    data = shown.response or {}
    told = (reason(data.get("error")) or reason(data.get("incomplete_details"))) or None
    counts = data.get("request_counts")
    facts = (
        ("Status", styled(shown.status)),
        ("Reason", told),
        ("Model", data.get("model")),
        ("Created", local_time(data.get("created_at"))),
        ("Ended", local_time(data.get("completed_at"))),
        ("Effort", _inside(data, "reasoning", "effort")),
        ("Verbosity", _inside(data, "text", "verbosity")),
        ("Follows", data.get("previous_response_id")),
        ("Metadata", _pairs(data.get("metadata"))),
        ("Requests", _pairs(counts)),
        ("Source", "the local copy" if shown.source == "local" else None),
    )
    heading = Text(inert(str(shown.response_id)), style=STRONG, overflow="fold")
    return Group(heading, *_facts(facts), *_usage(data.get("usage")))


def job_list(jobs: Sequence[events.ListedJob], width: int) -> RenderableType:
    """The jobs of the local state, newest first as they come."""
    several_servers = len({job.base_url for job in jobs}) > 1
    rows = []
    for job in jobs:
        key = " / ".join(name for name in (job.job_key, job.custom_id) if name)
        names = [key, job.response_id, job.base_url if several_servers else None]
        rows.append(
            (
                Text(local_time(job.created_at) or inert(job.created_at)),
                styled(job.status, "-"),
                Text(inert(job.model or "-")),
                Text(inert("\n".join(name for name in names if name) or "-")),
            )
        )
    return _table(("Submitted", "Status", "Model", "Job"), rows, width)


def ends(jobs: Sequence[Ended], width: int) -> RenderableType:
    """How jobs of a run ended; why one did not succeed was told when it ended."""
    rows = []
    for job in jobs:
        final = job if isinstance(job, events.Final) else None
        tokens = _number(final.usage, "output_tokens") if final else None
        status = job.code if isinstance(job, events.Error) else job.status
        rows.append(
            (
                Text(inert(job.of or job.response_id or "-")),
                styled(status, "-"),
                Text(duration(final.elapsed_seconds) if final else "", justify="right"),
                Text("" if tokens is None else f"{tokens:,}", justify="right"),
            )
        )
    return _table(("Job", "Status", "After", "Output tokens"), rows, width)


def request(shown: events.DryRun) -> str:
    """A request's body, readable: the content of files is cut."""
    return inert(json.dumps(_cut(shown.body), indent=2, ensure_ascii=False))


def _table(heads: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> RenderableType:
    """A table without the columns that nothing stands in; where it is narrow, row by row."""
    used = [at for at in range(len(heads)) if any(row[at].plain for row in rows)]
    if width < _NARROW:
        blocks = [Text("\n").join(row[at] for at in used if row[at].plain) for row in rows]
        for block in blocks:
            block.justify, block.overflow = "left", "fold"
        return Text("\n\n").join(blocks)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at in used:
        table.add_column(heads[at], overflow="fold")
    for row in rows:
        table.add_row(*(row[at] for at in used))
    return table


def _facts(facts: Iterable[tuple[str, object]]) -> list[RenderableType]:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=_LABELS)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            told = value if isinstance(value, Text) else Text(inert(str(value)))
            table.add_row(f"  {name}", told)
    return [table] if table.rows else []


def _usage(usage: object) -> list[RenderableType]:
    """Tokens, and what of them was read from the cache or thought."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=_LABELS)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, key, details, inside in (
        ("Input tokens", "input_tokens", "input_tokens_details", "cached"),
        ("Output tokens", "output_tokens", "output_tokens_details", "reasoning"),
        ("Total tokens", "total_tokens", None, ""),
    ):
        number = _number(usage, key)
        if number is None:
            continue
        of_them = None
        if details is not None and isinstance(usage, dict):
            of_them = _number(usage.get(details), f"{inside}_tokens")
        told = "" if of_them is None else f"{of_them:,} {inside}"
        table.add_row(f"  {name}", f"{number:,}", told)
    return [table] if table.rows else []


def _number(data: object, key: str) -> int | None:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _inside(data: dict[str, Any], *path: str) -> object:
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


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
    if isinstance(value, str) and value.startswith("data:") and len(value) > _TEXT_SHOWN:
        return f"{value[:60]}… ({size(len(value))})"
    return value
