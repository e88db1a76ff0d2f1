"""What this machine alone can answer, without an event loop: a job's local copy, the list of jobs.

asyncio takes long to import, and `show` is run often.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from oaibg.contract.errors import ExitCode
from oaibg.contract.events import Summary
from oaibg.engine import report
from oaibg.engine.deliver import hand_out
from oaibg.engine.fetch import may_have_changed
from oaibg.engine.find import Target, find_blocking
from oaibg.engine.persist import local_copy, state_error, state_warning
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job


class Shown(NamedTuple):
    """What this machine knows of a job: the events so far, and whether they answer the question."""

    events: list[Event]
    is_whole: bool


def show_local(target: Target, job: Job, context: Context) -> Shown:
    """Look once at a job in the state.

    Returns:
        The warnings about it alone, if the API has to be asked.

    Raises:
        OaibgError: no such job, or the state can't be used.
    """
    try:
        events = find_blocking(target, job, context)
    except StateError as error:
        raise state_error(error) from error
    payload = _kept_copy(job, context)
    if payload is None or may_have_changed(payload):
        return Shown(events, is_whole=False)
    job.note_status(payload.status)
    delivery = hand_out(payload, job, context.output)
    shown = report.response(job, payload, "local", context, written=delivery.written)
    return Shown([*events, *delivery.events, shown], is_whole=True)


def list_jobs(limit: int | None, job: Job, context: Context) -> Iterator[Event]:
    """The jobs that the state knows, newest first, and their summary.

    Args:
        limit: how many at most.
        job: stands for them all.
        context: what to work with.

    Raises:
        OaibgError: the state can't be used; what can't be read is not an empty list.
    """
    problem = context.state_problem
    if problem is not None:
        if problem.code != "state_corrupt":
            raise state_error(problem)
        if (warning := state_warning(problem, job, context)) is not None:
            yield warning
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


def _kept_copy(job: Job, context: Context) -> Payload | None:
    store = context.store
    try:
        row = patiently_blocking(
            lambda: store.by_id(context.base_url, str(job.response_id)), context.clock
        )
    except StateError:
        return None
    return local_copy(row, store)
