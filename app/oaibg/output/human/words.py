"""Events in words: a line each, durations, sizes and reasons. Knows nothing of terminals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from oaibg.contract import events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oaibg.contract.events import Event

GOOD, BAD, CAUTION, STRONG = "bold green", "bold red", "yellow", "bold"


def line(event: Event) -> tuple[str, str]:
    """The style and the words for an event."""
    match event:
        case events.SubmitStart():
            return "", f"Submitting to {event.model or 'the default model'} …"
        case events.Submitted():
            how = "Reattached to" if event.reattached else "Submitted"
            return STRONG, f"{how} {event.response_id}: {state(event.status)}"
        case events.Poll():
            following = event.next_poll_seconds
            more = "" if following is None else f", next look in {duration(following)}"
            return "", f"{duration(event.elapsed_seconds)}  {state(event.status)}{more}"
        case events.SubmitError() | events.PollError():
            again = duration(event.retry_in_seconds)
            spent = duration(event.elapsed_seconds)
            return CAUTION, f"{spent}  {event.error.message}; trying again in {again}"
        case events.Progress():
            return "", step(event)
        case events.WroteJson() | events.WroteText():
            return "", f"Wrote {event.path} ({size(event.bytes)})"
        case events.OutputTextMissing():
            return CAUTION, "The response has no output text."
        case events.Warning():
            return CAUTION, f"Warning: {event.message}"
        case events.Final():
            spent = duration(event.elapsed_seconds)
            why = reason(event.error, event.incomplete_details)
            told = f"{event.response_id}: {state(event.status)} after {spent}"
            return GOOD if event.ok else BAD, f"{told}: {why}" if why else told
        case events.Timeout():
            return CAUTION, f"Still {state(event.status, 'running')} when the wait was over."
        case events.Interrupted():
            return CAUTION, f"Interrupted by {event.signal}; {_fate(event)}."
        case events.Error():
            return BAD, f"Error: {event.message}"
        case events.Detached():
            return "", f"{event.response_id} is left to run."
        case events.CancelResult() if event.cancelled:
            return STRONG, f"{event.response_id} is cancelled"
        case events.CancelResult():
            return BAD, f"{event.response_id} is not cancelled: {state(event.status)}"
        case events.Summary():
            return STRONG, f"{counted(event.counts)} after {duration(event.elapsed_seconds)}"
        case events.DryRun():
            told = f"Would send {event.method} {event.url}, {size(event.body_bytes)}"
            return "", f"{told} ({event.request_sha256})"
        case _:
            return "", event.event


def name_of(event: Event) -> str | None:
    """What a job is called in a run over several: its name in its file, else its id."""
    return event.of or event.response_id


def state(status: str | None, unknown: str = "not known yet") -> str:
    """A status as people say it."""
    return unknown if status is None else status.replace("_", " ")


def step(event: events.Progress) -> str:
    """What a streamed job has come to."""
    words = event.type.removeprefix("response.").replace("_", " ").replace(".", " ")
    told = event.item_type is None or "_call." in event.type
    return words if told else f"{words} ({event.item_type})"


def counted(counts: Mapping[Any, int]) -> str:
    """`3 completed, 1 failed`."""
    told = (f"{number:,} {state(status)}" for status, number in counts.items() if number)
    return ", ".join(told) or "No jobs"


def reason(*details: Any) -> str:
    """Why, from an `error` and an `incomplete_details`; empty where neither says."""
    for detail in details:
        told = detail
        if isinstance(detail, dict):
            told = detail.get("message") or detail.get("reason") or detail.get("code")
        elif not isinstance(detail, str):
            continue
        if told:
            return str(told)
    return ""


def duration(seconds: float) -> str:
    """`1.2 s`, `12 s`, `3 min 05 s` or `2 h 03 min`."""
    return f"{seconds:.1f} s" if seconds < 10 else clock(seconds)


def clock(seconds: float) -> str:
    """`2 s`, `3 min 05 s` or `2 h 03 min`: the whole seconds, for what counts them."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(count: int) -> str:
    """`812 bytes`, `12.3 KB` or `4.0 MB`."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def local_time(moment: object) -> str:
    """ISO 8601 or Unix seconds as date and minute of here; empty where it is neither."""
    try:
        if isinstance(moment, str):
            then = datetime.fromisoformat(moment)
        elif isinstance(moment, int | float):
            then = datetime.fromtimestamp(moment, UTC)
        else:
            return ""
        return then.astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return ""


def _fate(event: events.Interrupted) -> str:
    if event.job_cancelled:
        return "the job is cancelled"
    if event.outcome == "unknown":
        return "a job may have been created, and may be billed"
    if event.response_id is not None:
        return "the job goes on"
    return "nothing was sent" if event.outcome else "what runs goes on"
