"""The sentences of human mode: one line per event, with durations, sizes and reasons."""

from __future__ import annotations

import re
from typing import Any

from rich.text import Text

from oaibg.base.text import one_line
from oaibg.contract import events
from oaibg.contract.run_status import run_status
from oaibg.output.actions import actions, no_text
from oaibg.output.human.amounts import clock, cost, duration, rate, size, time_left, tokens

GOOD, BAD, CAUTION, STRONG = "bold green", "bold red", "yellow", "bold"

Ended = events.Final | events.CancelResult | events.Error
"""The events that report the end of one job in a run with several jobs."""

ALIVE = ("queued", "in_progress", "validating", "finalizing", "cancelling")
"""The statuses of jobs and batches that have not ended."""

_STATUS_STYLES = {
    "in_progress": "cyan",
    "queued": "blue",
    "completed": "green",
    "needs_action": "yellow",
    **dict.fromkeys(("cancelled", "not_submitted", "outcome_unknown", "unknown"), "yellow"),
    **dict.fromkeys(("failed", "expired", "incomplete"), "red"),
    **dict.fromkeys(("refused", "not_found", "missing"), "red"),
}

_STEPS = {
    "code_interpreter_call": "running code",
    "compaction": "compacting the conversation",
    "image_generation_call": "generating an image",
    "mcp_approval_request": "waiting for approval",
    "reasoning": "thinking",
    "web_search_call": "searching the web",
}
"""What a job does, by the type of the output item. Types that are missing are shown as they are."""

_STEP_LENGTH = 100

_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)")
"""Markdown's asterisks around words."""


def describe(event: events.Event) -> tuple[str, str]:
    """Return the sentence for an event, and its style."""
    match event:
        case events.SubmitStart():
            return f"Submitting to {event.model or 'the default model'} …", ""
        case events.Submitted():
            verb = "Reattached to" if event.reattached else "Submitted"
            return f"{verb} {event.response_id}: {status_words(event.status)}", STRONG
        case events.Poll():
            pause, elapsed = event.next_poll_seconds, duration(event.elapsed_seconds)
            more = "" if pause is None else f", next poll in {duration(pause)}"
            return f"{elapsed}  {status_words(event.status)}{more}", ""
        case events.SubmitError() | events.PollError():
            elapsed, retry = duration(event.elapsed_seconds), duration(event.retry_in_seconds)
            return f"{elapsed}  {event.error.message}; retrying in {retry}", CAUTION
        case events.Progress():
            return progress_words(event), ""
        case events.WroteJson() | events.WroteText() | events.WroteArtifact():
            return f"Wrote {event.path} ({size(event.bytes)})", ""
        case events.OutputTextMissing():
            return no_text(event), CAUTION
        case events.Warning():
            return f"Warning: {event.message}", CAUTION
        case events.Final():
            why = reason(event.error, event.incomplete_details) or "; ".join(actions(event))
            words = f"{event.response_id}: {status_words(event.status)}{_after(event)}"
            bad = CAUTION if run_status(event) == "needs_action" else BAD
            return f"{words}: {why}" if why else words, GOOD if event.ok else bad
        case events.Timeout():
            words = f"The wait limit was reached; still {status_words(event.status, 'running')}."
            return words, CAUTION
        case events.Interrupted():
            return f"Interrupted by {event.signal}; {_fate(event)}.", CAUTION
        case events.Error():
            return f"Error: {event.message}", BAD
        case events.Detached():
            return f"{event.response_id} keeps running.", ""
        case events.CancelResult() if event.cancelled:
            return f"Cancelled {event.response_id}", STRONG
        case events.CancelResult():
            return f"Could not cancel {event.response_id}: {status_words(event.status)}", BAD
        case events.RunProgress():
            return _run_progress(event), ""
        case events.DryRun():
            request = f"{event.method} {event.url}, {size(event.body_bytes)}"
            return f"Would send {request} ({event.request_sha256})", ""
        case _:
            return event.event, ""


def plain(text: str, style: str = "") -> Text:
    """Return untrusted text on one line, never read as markup or control."""
    return Text(one_line(text), style=style)


def status_text(status: str | None, unknown: str = "not known yet") -> Text:
    """Return a status in its color."""
    return plain(status_words(status, unknown), status_style(status))


def status_style(status: str | None) -> str:
    """Return the color of a status."""
    return _STATUS_STYLES.get(str(status), "")


def status_count(status: str | None, count: int) -> Text:
    """Return a count such as `3 completed` in the color of the status."""
    return plain(f"{count:,} {_counted(status, count)}", status_style(status))


def job_name(event: events.Event) -> str | None:
    """Return the job's name in a run: its `custom_id` from the jobs file, or its ID."""
    return event.of or event.response_id


def status_words(status: str | None, unknown: str = "not known yet") -> str:
    """Return a status in words: `in progress`."""
    return unknown if status is None else status.replace("_", " ")


def progress_words(event: events.Progress) -> str:
    """Return the step that a streamed job has reached, such as `searching the web: rivers`."""
    text = event.text or ""
    is_prose = event.item_type in ("reasoning", "message")
    about = _first_line(_EMPHASIS.sub(r"\2", text) if is_prose else text)
    has_failed = event.type.endswith(".failed")
    match event.item_type:
        case None:
            state = event.type.removeprefix("response.")
            return status_words(state) if state in _STATUS_STYLES else "working"
        case "message":
            verb = "refused" if event.type == "response.refusal.done" else "says"
            return f"{verb}: {about}" if about else "writing the answer"
        case "mcp_list_tools":
            server, _, error = about.partition(": ")
            words = f"listing the tools of {server or 'a server'}"
            about, has_failed = error, has_failed or error != ""
        case "function_call" | "custom_tool_call" | "mcp_call":
            words, about = f"calling {about or 'a tool'}", ""
        case item_type:
            words = _STEPS.get(item_type, status_words(item_type))
    words = f"{words} failed" if has_failed else words
    return f"{words}: {about}" if about else words


def is_news(event: events.Progress, last: events.Progress | None) -> bool:
    """Whether a step says more than the last one; the end of the same item may say less."""
    if last is None or job_name(event) != job_name(last) or event.item_type != last.item_type:
        return True
    ends = event.type == "response.output_item.done" and event.text is None
    return not ends and progress_words(event) != progress_words(last)


def counted(counts: dict[Any, int]) -> str:
    """Return counts such as `3 completed, 1 failed`."""
    parts = (status_count(status, count).plain for status, count in counts.items() if count)
    return ", ".join(parts) or "No jobs"


def reason(*details: Any) -> str:
    """Return the reason in an `error` or `incomplete_details`, or an empty text."""
    found: list[Any] = []
    for detail in details:
        keys = ("message", "reason", "code")
        found += map(detail.get, keys) if isinstance(detail, dict) else [detail]
    return str(next(filter(None, found), ""))


def _first_line(text: str) -> str:
    """Return the first line of a text, cut to a readable length; `…` stands for the rest."""
    whole = text.strip()
    first = whole.partition("\n")[0].strip()[:_STEP_LENGTH]
    return first if first == whole else f"{first} …"


def _counted(status: str | None, count: int) -> str:
    return "need action" if status == "needs_action" and count > 1 else status_words(status)


def _after(final: events.Final) -> str:
    """The time of a single job is that of the command; in a run, it is the job's own."""
    if final.exit_code is not None:
        return f" after {duration(final.elapsed_seconds)}"
    return "" if final.job_seconds is None else f" after {clock(final.job_seconds)}"


def _run_progress(event: events.RunProgress) -> str:
    already = "already " if event.done and event.eta_seconds is None else ""
    total = "" if event.total is None else f" of {event.total:,}"
    parts = (
        f"{event.done:,}{total} {already}done",
        f"{event.in_flight:,} running" if event.in_flight else "",
        rate(event.per_minute),
        time_left(event.eta_seconds),
        tokens(event.usage),
        cost(event.cost_usd),
    )
    return ", ".join(filter(None, parts))


def _fate(event: events.Interrupted) -> str:
    if event.job_cancelled:
        return "the job was cancelled"
    if event.outcome == "unknown":
        return "a job may have been created and billed"
    if event.response_id is not None:
        return "the job keeps running"
    return "nothing was sent" if event.outcome else "submitted jobs keep running"
