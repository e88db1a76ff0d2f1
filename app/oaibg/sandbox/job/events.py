"""The stream events of a job and their times."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.job.items import item_id, message, reasoning, search, text_part
from oaibg.sandbox.job.response_object import response_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.sandbox.job.job import Job

Event = dict[str, Any]

_LONGEST_DELTA = 65_536


def timeline(
    job: Job, show: Callable[[str], dict[str, Any]] | None = None
) -> list[tuple[float, Event]]:
    """Return all stream events of a job in order, each with its time in unix seconds.

    `show` replaces `response_object`: it returns the response of an event for a status.

    `sequence_number` starts at 0. The events of a cancelled job end at the cancel with a
    `response.failed`, because the API has no event for a cancel.
    """
    show = show or partial(response_object, job)
    steps = _undisturbed(job, show)
    if job.cancelled is not None:
        steps = [step for step in steps if step[0] <= job.cancelled]
        failed = _event("response.failed", response=show("cancelled"))
        steps.append((job.cancelled, failed))
    for number, (_, event) in enumerate(steps):
        event["sequence_number"] = number
    return steps


def _undisturbed(job: Job, show: Callable[[str], dict[str, Any]]) -> list[tuple[float, Event]]:
    """Return the events and times of the job as if it were never cancelled."""
    first = "queued" if job.background else "in_progress"
    steps = [(job.created, _event("response.created", response=show(first)))]
    if job.background:
        steps.append((job.created, _event("response.queued", response=show(first))))
    progress = _event("response.in_progress", response=show("in_progress"))
    steps.append((job.started, progress))
    if job.outcome == "stuck":
        return steps
    has_output = job.outcome in ("completed", "incomplete")
    items = _item_events(job) if has_output else []
    gap = (job.ended - job.started) / (len(items) + 1)
    steps += [(job.started + gap * place, event) for place, event in enumerate(items, 1)]
    name = f"response.{job.outcome}" if has_output else "response.failed"
    steps.append((job.ended, _event(name, response=show(job.outcome))))
    return steps


def _item_events(job: Job) -> list[Event]:
    thought = reasoning(job)
    events = [
        _event("response.output_item.added", output_index=0, item=thought),
        _event("response.output_item.done", output_index=0, item=thought),
    ]
    for place in range(job.searches):
        events += _search_events(job, place)
    if job.text is not None:
        events += _message_events(job, job.text)
    return events


def _search_events(job: Job, place: int) -> list[Event]:
    begun, done = search(job, place, "in_progress"), search(job, place)
    index = 1 + place
    return [
        _event("response.output_item.added", output_index=index, item=begun),
        *(
            _event(f"response.web_search_call.{step}", output_index=index, item_id=done["id"])
            for step in ("in_progress", "searching", "completed")
        ),
        _event("response.output_item.done", output_index=index, item=done),
    ]


def _message_events(job: Job, text: str) -> list[Event]:
    index = 1 + job.searches
    where = {"item_id": item_id("msg", job.id), "output_index": index, "content_index": 0}
    begun, done = message(job, "in_progress", []), message(job, job.outcome, [text_part(text)])
    return [
        _event("response.output_item.added", output_index=index, item=begun),
        _event("response.content_part.added", **where, part=text_part("")),
        *(
            _event("response.output_text.delta", **where, delta=delta, logprobs=[])
            for delta in _pieces(text)
        ),
        _event("response.output_text.done", **where, text=text, logprobs=[]),
        _event("response.content_part.done", **where, part=text_part(text)),
        _event("response.output_item.done", output_index=index, item=done),
    ]


def _event(kind: str, **fields: Any) -> Event:
    return {"type": kind, "sequence_number": 0, **fields}


def _pieces(text: str) -> list[str]:
    size = min(max(4, math.ceil(len(text) / 16)), _LONGEST_DELTA)
    return [text[start : start + size] for start in range(0, len(text), size)]
