"""The pages that stay on the screen: the details of a job, a run or a request.

They consist of plain lines that the terminal folds itself, so nothing is cut and IDs can be copied.
"""

from __future__ import annotations

import json
import time
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.text import Text

from oaibg.base.json_text import value_at
from oaibg.base.text import inert, one_line
from oaibg.contract.run_status import ALIVE
from oaibg.output.actions import actions
from oaibg.output.human.amounts import clock, cost, local_time, number_at, rate, size, time_left
from oaibg.output.human.names import (
    STRONG,
    counted,
    job_name,
    plain,
    status_style,
    status_words,
    title,
)
from oaibg.output.human.reasons import reasons_of, retries, retry_words
from oaibg.output.human.words import reason

if TYPE_CHECKING:
    from oaibg.contract import events

_LABEL = len("Output tokens")
_LEAST = 20
"""The least width to which `_wrapped` folds a value."""
_TEXT_SHOWN = 120
"""Characters of an input that `plan_page` shows."""
_VALUE_SHOWN = 60
"""Characters of a value in the metadata that `response_page` shows."""
_DATA_SHOWN = 60
"""Characters of a file's data that `request_page` shows."""


def response_page(event: events.Response, width: int) -> Text:
    """Return the details of a response without its output text, for `show`."""
    data = event.response or {}
    facts = [
        ("Status", _status(event)),
        ("Reason", reason(event.error, event.incomplete_details) or "; ".join(actions(event))),
        ("Model", data.get("model")),
        ("Created", local_time(data.get("created_at"))),
        ("Ended", local_time(data.get("completed_at"))),
        ("Effort", value_at(data, "reasoning", "effort")),
        ("Verbosity", value_at(data, "text", "verbosity")),
        ("Previous", data.get("previous_response_id")),
        ("Metadata", _pairs(data.get("metadata"))),
        ("Requests", _pairs(data.get("request_counts"))),
        ("Source", "copy on this machine" if event.source == "local" else None),
        *_usage(event.usage),
        ("Cost", cost(event.cost_usd)),
    ]
    return Text("\n").join((title(event), _facts(facts, width)))


def _status(event: events.Response) -> Text:
    """Return the status, and how long ago a job that has not ended was submitted."""
    words, created = status_words(event.status), value_at(event.response, "created_at")
    if isinstance(created, int | float) and event.status in ALIVE:
        passed = clock(time.time() - created)
        queued = event.status == "queued"
        words += f" for {passed}" if queued else f", submitted {passed} ago"
    return plain(words, status_style(event.status))


def run_page(run: events.Run, summary: events.Summary, width: int) -> Text:
    """Return the details of a run over a jobs file, for `show`."""
    name = run.known_as or run.job_key
    facts = [
        ("Label", None if run.label == name else run.label),
        ("Jobs file", run.jobs_file),
        ("Results file", run.results_file),
        ("Started", local_time(run.created_at)),
        ("Last change", local_time(run.updated_at)),
        ("Status", Text("cancelled", status_style("cancelled")) if run.is_cancelled else None),
        ("Jobs", counted(run.counts.items()).append(f" (of {run.total:,})")),
        ("Process", "running" if run.is_active else "none"),
        ("Pace", ", ".join(filter(None, (rate(run.per_minute), time_left(run.eta_seconds))))),
        *_usage(run.usage),
        ("Cost", cost(run.cost_usd)),
        *(("Unsuccessful", words) for words in reasons_of(summary)),
        *(
            ("What to do", retry_words(words, option, run.rerun))
            for words, option in retries(summary)
        ),
    ]
    return Text("\n").join((plain(name, STRONG), _facts(facts, width)))


def request_page(event: events.DryRun) -> str:
    """Return a request's body as indented JSON, with the data of attached files cut."""
    return inert(json.dumps(_shortened(event.body), indent=2, ensure_ascii=False))


def plan_page(requests: list[events.DryRun], summary: events.Summary, width: int) -> Text:
    """Return what a submit of a jobs file would do, with its first requests."""
    jobs, first = summary.counts["valid"], requests[0]
    is_batch = "background" not in first.body
    number = "1 job is" if jobs == 1 else f"{jobs:,} jobs are"
    facts: list[tuple[str, object]] = [
        ("Sent to", first.url.rpartition("/")[0]),
        ("Sent as", "one batch" if is_batch else "jobs in background mode"),
        ("Results file", summary.results_file),
    ]
    parts = [plain(f"{number} valid.", STRONG), _facts(facts, width)]
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
        parts += [plain(str(job_name(event)), STRONG), _facts(facts, width)]
    if jobs > len(requests):
        parts.append(plain(f"… and {jobs - len(requests):,} more."))
    parts.append(plain(summary.hint or ""))
    return Text("\n").join(parts)


def _facts(facts: list[tuple[str, object]], width: int) -> Text:
    return Text("\n").join(
        Text.assemble(
            (f"  {label:<{_LABEL}}", "dim"),
            "  ",
            value if isinstance(value, Text) else _wrapped(str(value), width),
        )
        for label, value in facts
        if value
    )


def _wrapped(value: str, width: int) -> Text:
    """Return a value folded between words, indented like its first line; no word is split."""
    column = _LABEL + 4
    room = max(width - column, _LEAST)
    lines = wrap(one_line(value), room, break_long_words=False, break_on_hyphens=False)
    return Text(f"\n{' ' * column}").join(map(Text, lines))


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
    return ", ".join(f"{key}={_start_of(str(inner), _VALUE_SHOWN)}" for key, inner in items)


def _start_of(given: Any, length: int = _TEXT_SHOWN) -> str:
    """Return the start of a text, or of the last text in an `input`."""
    if isinstance(given, list):
        given = given[-1] if given else ""
    if isinstance(given, dict):
        return _start_of(given.get("content", given.get("text", given.get("type"))))
    words = " ".join(str(given or "").split())
    return words if len(words) <= length else f"{words[:length]}…"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > _DATA_SHOWN:
        return f"{value[:_DATA_SHOWN]}… ({size(len(value))} of Base64)"
    return value
