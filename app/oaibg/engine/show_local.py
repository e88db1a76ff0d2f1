"""Shows a job's local copy without an event loop.

Importing asyncio is slow, and `show` is run often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.engine import report_end
from oaibg.engine.deliver import text_events
from oaibg.engine.find import Target, find_blocking
from oaibg.engine.persist import local_copy, may_have_changed, state_error
from oaibg.engine.written import Written
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job


def show_local(target: Target, job: Job, context: Context) -> tuple[list[Event], bool]:
    """Return the events that show a job's local copy, and whether they are complete.

    They are not if the job has to be retrieved, or if a file has to be written: that needs an event
    loop, so that a signal leaves no incomplete file. Raises `OaibgError` if the job isn't found, or
    if the local state can't be used.
    """
    try:
        warnings = find_blocking(target, job, context)
    except StateError as error:
        raise state_error(error) from error
    try:
        payload = patiently_blocking(lambda: local_copy(job, context), context.clock)
    except StateError:
        payload = None
    output = context.output
    if payload is None or may_have_changed(payload) or output.writes_files or output.include:
        return warnings, False
    job.note_status(payload.status)
    shown = report_end.response(job, payload, "local", context, Written.ALL)
    texts = [] if job.is_batch else text_events(payload, job, context)
    return [*warnings, *texts, shown], True
