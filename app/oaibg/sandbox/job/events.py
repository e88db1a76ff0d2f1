"""The stream events of a job and their times."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from oaibg.sandbox.job.item_events import item_events, new_event
from oaibg.sandbox.job.outcomes import View, output_items
from oaibg.sandbox.job.response_object import response_object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from oaibg.sandbox.job.item_events import Event
    from oaibg.sandbox.job.job import Job


Timeline: TypeAlias = "list[tuple[float, Event]]"
"""Events in order, each with its time in unix seconds."""


def timeline(
    job: Job,
    show: Callable[[str], dict[str, Any]] | None = None,
    include: Collection[str] = (),
    *,
    deltas: bool = True,
) -> Timeline:
    """Return all stream events of a job.

    `show` replaces `response_object`: it returns the response of an event for a status. `include`
    is that of the request. Without `deltas`, the text arrives as a whole.

    `sequence_number` starts at 0. The events of a cancelled job end at the cancel with a
    `response.failed`, because the API has no event for a cancel.
    """
    show = show or partial(response_object, job, include=include)
    steps = _undisturbed(job, show, include)
    if job.cancelled is not None:
        steps = [step for step in steps if step[0] <= job.cancelled]
        failed = new_event("response.failed", response=show("cancelled"))
        steps.append((job.cancelled, failed))
    if not deltas:
        steps = [step for step in steps if step[1]["type"] != "response.output_text.delta"]
    for number, (_, event) in enumerate(steps):
        event["sequence_number"] = number
    return steps


def _undisturbed(
    job: Job, show: Callable[[str], dict[str, Any]], include: Collection[str]
) -> Timeline:
    """Return the events and times of the job as if it were never cancelled."""
    first = "queued" if job.background else "in_progress"
    steps = [(job.created, new_event("response.created", response=show(first)))]
    if job.background:
        steps.append((job.created, new_event("response.queued", response=show(first))))
    progress = new_event("response.in_progress", response=show("in_progress"))
    steps.append((job.started, progress))
    if job.last_status == "stuck":
        return steps
    has_output = job.last_status in ("completed", "incomplete")
    items = output_items(View(job, job.last_status, job.text, include)) if has_output else []
    events = [event for place, item in enumerate(items) for event in item_events(item, place)]
    gap = (job.ended - job.started) / (len(events) + 1)
    steps += [(job.started + gap * place, event) for place, event in enumerate(events, 1)]
    name = f"response.{job.last_status}" if has_output else "response.failed"
    steps.append((job.ended, new_event(name, response=show(job.last_status))))
    return steps
