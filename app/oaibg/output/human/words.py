"""The sentences of human mode: one line per event, with durations, sizes and reasons."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from oaibg.contract import events
from oaibg.contract.advice import for_people
from oaibg.contract.events import exit_code_of
from oaibg.contract.run_status import run_status
from oaibg.output.actions import actions, no_text
from oaibg.output.human.amounts import (
    clock,
    cost,
    duration,
    number_at,
    rate,
    size,
    time_left,
    tokens,
)
from oaibg.output.human.names import (
    BAD,
    CAUTION,
    FAINT,
    STRONG,
    job_name,
    plain,
    status_style,
    status_text,
    status_words,
    title,
)
from oaibg.output.human.steps import progress_words

Ended = events.Final | events.CancelResult | events.Error
"""The events that report the end of one job in a run with several jobs."""

_ENDS = {"cancelled": "was cancelled", "incomplete": "ended incomplete"}
"""The verbs for statuses that are none: `report-7 was cancelled`."""


def describe(event: events.Event, server: str = "", *, several: bool = False) -> Text:
    """Return the sentence for an event.

    `server` is the host of the API, and `several` whether there are several jobs.
    """
    match event:
        case events.Submitted():
            return _with_id("Reattached to" if event.reattached else "Submitted", event)
        case events.CancelResult() if event.cancelled:
            return _with_id("Cancelled", event)
        case events.CancelResult():
            start = Text("Could not cancel ").append(_subject(event, "the job"))
            return start.append(": its status is ").append(status_text(event.status)).append(".")
        case events.Final():
            return _end(event)
        case events.Timeout():
            start = Text("The wait limit was reached; ").append(_subject(event, "the job"))
            status = plain(status_words(event.status, "running"), status_style(event.status))
            return start.append(" is still ").append(status).append(".")
        case events.Interrupted():
            start = plain("Interrupted", CAUTION).append(plain(f"{by_signal(event.signal)}; "))
            return start.append(_fate(event)).append(".")
        case events.Detached():
            return _subject(event).append(" keeps running.")
        case _:
            message = _message(event, server)
            name = job_name(event) if several else None
            return message if name is None else plain(name, STRONG).append(": ").append(message)


def _message(event: events.Event, server: str) -> Text:
    """Return the message of an event that has no verb for the job itself."""
    match event:
        case events.SubmitStart():
            return plain(f"Submitting to {event.model or 'the default model'} …")
        case events.Poll():
            pause, elapsed = event.next_poll_seconds, duration(event.elapsed_seconds)
            more = "" if pause is None else f", next poll in {duration(pause)}"
            return Text(f"{elapsed}  ").append(status_text(event.status)).append(more)
        case events.SubmitError() | events.PollError():
            elapsed, retry = duration(event.elapsed_seconds), duration(event.retry_in_seconds)
            message = event.error.message.rstrip(".!")
            again = plain(f"; retrying in {retry}", CAUTION)
            return Text(f"{elapsed}  ").append(_reply(message, server)).append(again)
        case events.Progress():
            return plain(progress_words(event))
        case events.WroteJson() | events.WroteText() | events.WroteArtifact():
            return plain(f"Wrote {event.path} ({size(event.bytes)})")
        case events.OutputTextMissing():
            return plain(no_text(event))
        case events.Warning():
            return plain("Warning:", CAUTION).append(plain(f" {in_words(event.message)}"))
        case events.Error():
            return plain("Error: ", BAD).append(_reply(in_words(event.message), server))
        case events.RunProgress():
            return plain(_run_progress(event))
        case events.DryRun():
            request = f"{event.method} {event.url}, {size(event.body_bytes)}"
            return plain(f"Would send {request}").append(plain(f" ({event.request_sha256})", FAINT))
        case _:
            return plain(event.event)


def spent(usage: object, usd: float | None, *first: str | None) -> Text:
    """Return what a job or a run used, and its cost, after the `first` words; empty if unknown."""
    parts = []
    for kind, detail in (("input", "cached"), ("output", "reasoning")):
        count = number_at(usage, f"{kind}_tokens")
        of_them = number_at(usage, f"{kind}_tokens_details", f"{detail}_tokens")
        if count is not None:
            more = f" ({of_them:,} {detail})" if of_them else ""
            parts.append(f"{count:,} {kind} tokens{more}")
    if usd is not None:
        parts.append(cost(usd))
    return plain(" · ".join([*filter(None, first), *parts]) if parts else "", FAINT)


def by_signal(name: str) -> str:
    """Return ` by SIGTERM`; empty for Ctrl-C, which the person has just pressed."""
    return "" if name == "SIGINT" else f" by {name}"


def reason(*details: Any) -> str:
    """Return the reason in an `error` or `incomplete_details`, or an empty text."""
    found: list[Any] = []
    for detail in details:
        keys = ("message", "reason", "code")
        found += map(detail.get, keys) if isinstance(detail, dict) else [detail]
    return str(next(filter(None, found), ""))


def in_words(message: str) -> str:
    """Return a message or hint without the name of a JSON key."""
    return message.replace("`next`", "the command below")


def _reply(message: str, server: str) -> Text:
    """Return a message that names the server, if it is only a reply's status."""
    message = for_people(message)
    is_reply = server and message.startswith("HTTP ")
    return plain(f"{server} replied {message}" if is_reply else message)


def _with_id(verb: str, event: events.Event) -> Text:
    return Text(f"{verb} ").append(title(event))


def _subject(event: events.Event, unnamed: str = "The job") -> Text:
    """Return the job's name, to begin a sentence with; the ID names only one of several jobs."""
    name = event.of or event.known_as
    if name is None and exit_code_of(event) is None:
        name = event.response_id
    return Text(unnamed) if name is None else plain(name, STRONG)


def _end(final: events.Final) -> Text:
    """Return how a job ended, and why.

    The time is the job's own; if that is unknown, a single job has the time of the command.
    """
    why = reason(final.error, final.incomplete_details)
    verb = _ENDS.get(final.status, status_words(final.status))
    style = status_style("needs_action" if run_status(final) == "needs_action" else final.status)
    time = ""
    if final.job_seconds:  # the API counts whole seconds
        time = f" after {clock(final.job_seconds)}"
    elif final.exit_code is not None:
        time = f" after {duration(final.elapsed_seconds)}"
    words = _subject(final).append(" ").append(plain(verb, style)).append(time)
    more = f": {why}" if why else "".join(f"; {action}" for action in actions(final))
    return words.append(plain(more))


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


def _fate(event: events.Interrupted) -> Text:
    job = _subject(event, "the job")
    if event.job_cancelled:
        return job.append(" was cancelled")
    if event.outcome == "unknown":
        return Text("a job may have been created and billed")
    if event.response_id is not None:
        return job.append(" keeps running")
    return Text("nothing was sent" if event.outcome else "submitted jobs keep running")
