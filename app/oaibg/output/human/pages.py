"""The pages that stay on the screen: the details of one job, and tables of several jobs.

They consist of plain lines that the terminal folds itself, so nothing is cut and IDs can be copied.
"""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

from oaibg.base.json_text import value_at
from oaibg.base.text import dollars, inert
from oaibg.contract import events
from oaibg.contract.run_status import run_status
from oaibg.output.actions import actions
from oaibg.output.human.amounts import clock, cost, local_time, number_at, rate, size, time_left
from oaibg.output.human.reasons import reasons_of, retries
from oaibg.output.human.words import (
    STRONG,
    Ended,
    counted,
    job_name,
    plain,
    reason,
    status_text,
)

_GAP = "   "
_LABEL = len("Output tokens")
_TEXT_SHOWN = 120
"""Characters of an input that `plan_page` shows."""
_DATA_SHOWN = 60
"""Characters of a file's data that `request_page` shows."""


def usage_page(final: events.Final) -> Text:
    """Return a job's model, token counts and cost."""
    return _facts([("Model", final.model), *_usage(final.usage), ("Cost", cost(final.cost_usd))])


def response_page(event: events.Response) -> Text:
    """Return the details of a response without its output text, for `show`."""
    data = event.response or {}
    facts = [
        ("Status", status_text(event.status)),
        ("Reason", reason(event.error, event.incomplete_details) or "; ".join(actions(event))),
        ("Model", data.get("model")),
        ("Created", local_time(data.get("created_at"))),
        ("Ended", local_time(data.get("completed_at"))),
        ("Effort", value_at(data, "reasoning", "effort")),
        ("Verbosity", value_at(data, "text", "verbosity")),
        ("Previous", data.get("previous_response_id")),
        ("Metadata", _pairs(data.get("metadata"))),
        ("Requests", _pairs(data.get("request_counts"))),
        ("Source", "local copy" if event.source == "local" else None),
        *_usage(event.usage),
        ("Cost", cost(event.cost_usd)),
    ]
    return Text("\n").join((plain(str(event.response_id), STRONG), _facts(facts)))


def run_page(run: events.Run, summary: events.Summary) -> Text:
    """Return the details of a run over a jobs file, for `show`."""
    facts = [
        ("Jobs file", run.jobs_file),
        ("Results file", run.results_file),
        ("Started", local_time(run.created_at)),
        ("Last change", local_time(run.updated_at)),
        ("Jobs", f"{counted(run.counts)} (of {run.total:,})"),
        ("Process", "running" if run.is_active else "none"),
        ("Pace", ", ".join(filter(None, (rate(run.per_minute), time_left(run.eta_seconds))))),
        *_usage(run.usage),
        ("Cost", cost(run.cost_usd)),
        *(("Unsuccessful", words) for words in reasons_of(summary)),
        *(
            ("What to do", f"{words}, repeat the submit command with {option}.")
            for words, option in retries(summary)
        ),
    ]
    return Text("\n").join((plain(run.job_key, STRONG), _facts(facts)))


def list_table(listed: list[events.ListedJob | events.Run], width: int) -> Text:
    """Return a table of jobs and runs in the local state, in the given order."""
    several_servers = len({one.base_url for one in listed}) > 1
    rows = []
    for one in listed:
        tokens = number_at(one.usage, "total_tokens")
        if isinstance(one, events.Run):
            done = one.counts.get("completed", 0)
            status, model = plain(f"{done:,} of {one.total:,} completed"), "run"
            key, last = one.job_key.rpartition("/")[2], one.job_key
        else:
            status, model = status_text(one.status, "-"), one.model or "-"
            key = " / ".join(name for name in (one.job_key, one.custom_id) if name)
            last = one.response_id or "-"
        rows.append(
            [
                plain(local_time(one.created_at) or one.created_at),
                status,
                plain(model),
                plain(key),
                Text("" if tokens is None else f"{tokens:,}", justify="right"),
                Text("" if one.cost_usd is None else dollars(one.cost_usd), justify="right"),
                plain(one.base_url if several_servers else ""),
                plain(last),
            ]
        )
    heads = ("Submitted", "Status", "Model", "Key", "Tokens", "Cost", "Server", "ID or run")
    return _table(heads, rows, width)


def end_table(ends: list[Ended], width: int) -> Text:
    """Return a table of ended jobs. The reasons were already printed when each job ended."""
    rows = []
    for end in ends:
        seconds = getattr(end, "job_seconds", None)
        time = Text("" if seconds is None else clock(seconds), justify="right")
        count = number_at(getattr(end, "usage", None), "output_tokens")
        tokens = Text("" if count is None else f"{count:,}", justify="right")
        rows.append([status_text(run_status(end)), time, tokens, plain(job_name(end) or "-")])
    return _table(("Status", "Time", "Output tokens", "Job"), rows, width)


def request_page(event: events.DryRun) -> str:
    """Return a request's body as indented JSON, with the data of attached files cut."""
    return inert(json.dumps(_shortened(event.body), indent=2, ensure_ascii=False))


def plan_page(requests: list[events.DryRun], summary: events.Summary) -> Text:
    """Return what a submit of a jobs file would do, with its first requests."""
    jobs, first = summary.counts["valid"], requests[0]
    is_batch = "background" not in first.body
    number = "1 job is" if jobs == 1 else f"{jobs:,} jobs are"
    facts: list[tuple[str, object]] = [
        ("Sent to", first.url.rpartition("/")[0]),
        ("Sent as", "one batch" if is_batch else "jobs in background mode"),
        ("Results file", summary.results_file),
    ]
    parts = [plain(f"{number} valid. Nothing was sent.", STRONG), _facts(facts)]
    for event in requests:
        body = event.body
        facts = [
            ("Model", body.get("model")),
            ("Effort", value_at(body, "reasoning", "effort")),
            ("Verbosity", value_at(body, "text", "verbosity")),
            ("Instructions", _start_of(body.get("instructions"))),
            ("Input", _start_of(body.get("input"))),
            ("Size", size(event.body_bytes)),
        ]
        parts += [plain(str(job_name(event)), STRONG), _facts(facts)]
    if jobs > len(requests):
        parts.append(plain(f"… and {jobs - len(requests):,} more."))
    parts.append(plain("To submit them, repeat the command without --dry-run."))
    return Text("\n").join(parts)


def _table(heads: tuple[str, ...], rows: list[list[Text]], width: int) -> Text:
    """Return a table without its empty columns.

    If a row is too wide, its last cell gets its own line. If the other cells are still too wide,
    every cell gets its own line.
    """
    columns = [
        (Text(head, style=STRONG), *cells)
        for head, cells in zip(heads, zip(*rows, strict=True), strict=True)
        if any(cell.plain for cell in cells)
    ]
    widths = [max(cell.cell_len for cell in column) for column in columns]
    before_last = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    heading, *body = zip(*columns, strict=True)
    if before_last > width:
        blocks = (Text("\n").join(cell for cell in row if cell.plain) for row in body)
        return Text("\n\n").join(blocks)
    fits = before_last + widths[-1] <= width
    lines = []
    for *cells, last in (heading, *body):
        padded = [Text.assemble(cell) for cell in cells]
        for cell, text, room in zip(cells, padded, widths, strict=False):
            text.align("right" if cell.justify == "right" else "left", room)
        if fits:
            padded.append(last)
        lines.append(Text(_GAP).join(padded))
        if not fits and last is not heading[-1]:
            lines.append(Text("  ") + last)
    return Text("\n").join(lines)


def _facts(facts: list[tuple[str, object]]) -> Text:
    return Text("\n").join(
        Text.assemble(
            (f"  {label:<{_LABEL}}", "dim"),
            "  ",
            value if isinstance(value, Text) else plain(str(value)),
        )
        for label, value in facts
        if value
    )


def _usage(usage: object) -> list[tuple[str, object]]:
    rows = []
    for kind, part in (("input", "cached"), ("output", "reasoning"), ("total", "")):
        count = number_at(usage, f"{kind}_tokens")
        of_them = number_at(usage, f"{kind}_tokens_details", f"{part}_tokens")
        if count is not None:
            more = "" if of_them is None else f"{of_them:,} {part}"
            rows.append((f"{kind.title()} tokens", f"{count:,}", more))
    room = max((len(count) for _, count, _ in rows), default=0)
    return [(label, f"{count:>{room}}  {more}".rstrip()) for label, count, more in rows]


def _pairs(value: object) -> str:
    items = value.items() if isinstance(value, dict) else ()
    return ", ".join(f"{key}={inner}" for key, inner in items)


def _start_of(given: Any) -> str:
    """Return the start of a text, or of the last text in an `input`."""
    if isinstance(given, list):
        given = given[-1] if given else ""
    if isinstance(given, dict):
        return _start_of(given.get("content", given.get("text", given.get("type"))))
    words = " ".join(str(given or "").split())
    return words if len(words) <= _TEXT_SHOWN else f"{words[:_TEXT_SHOWN]}…"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > _DATA_SHOWN:
        return f"{value[:_DATA_SHOWN]}… ({size(len(value))} of Base64)"
    return value
