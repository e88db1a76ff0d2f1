"""Shows what the local state has, without an event loop: a job's local copy, the list of jobs.

Importing asyncio is slow, and `show` is run often.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.contract.events import Summary
from oaibg.engine import report, report_end
from oaibg.engine.deliver import text_events
from oaibg.engine.find import Target, find_blocking
from oaibg.engine.persist import local_copy, may_have_changed, state_error, state_warnings
from oaibg.engine.written import Written
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    return [*warnings, *text_events(payload, job, context), shown], True


def list_jobs(limit: int | None, job: Job, context: Context) -> Iterator[Event]:
    """Yield the jobs in the local state, newest first, and a summary; `job` represents them all.

    Raises `OaibgError` if the local state can't be read, as an empty list would be wrong.
    """
    problem = context.state_problem
    if problem is not None:
        if problem.code != "state_corrupt":
            raise state_error(problem)
        yield from state_warnings(problem, job, context)
    try:
        rows = patiently_blocking(lambda: context.store.jobs(limit), context.clock)
    except StateError as error:
        raise state_error(error) from error
    counts: Counter[str] = Counter()
    for row in rows:
        listed = report.listed(row)
        counts[listed.status or "unknown"] += 1
        yield listed
    yield Summary(
        response_id=None,
        counts=dict(counts),
        elapsed_seconds=context.elapsed(),
        exit_code=ExitCode.OK,
        next=None,
    )
