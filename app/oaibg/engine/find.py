"""Which job is meant: by its id, by a job key, or the newest submit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import NotFound, OutcomeUnknown, UsageError
from oaibg.engine import report
from oaibg.engine.persist import state_warnings
from oaibg.state.commits import patiently, patiently_blocking
from oaibg.state.database import KeyBusyError, StateError
from oaibg.state.store import line_key, lock_key

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.state.store import Row, Store


class Target(Record):
    """Which job is meant: an id, a job key, or (for show) neither: the newest submit."""

    response_id: str | None = None
    job_key: str | None = None


async def find(target: Target, job: Job, context: Context) -> None:
    """Find the job that is meant, into `job`, and emit what there is to warn about.

    Raises:
        NotFound: no such job key, or nothing was submitted here.
        OutcomeUnknown: the job's id is not known.
        UsageError: the key is that of a run over many jobs.
        StateError: it takes the state to find the job, and that can't be used.
    """
    try:
        warnings = await patiently(lambda: _look_up(target, job, context), context.clock)
    except StateError as error:
        warnings = _without_state(error, target, job, context)
    for warning in warnings:
        await context.emit(warning)


def find_blocking(target: Target, job: Job, context: Context) -> list[Event]:
    """As `find`, in code that runs on no event loop; returns the warnings."""
    try:
        return patiently_blocking(lambda: _look_up(target, job, context), context.clock)
    except StateError as error:
        return _without_state(error, target, job, context)


def _look_up(target: Target, job: Job, context: Context) -> list[Event]:
    """One look into the state; raises `StateBusyError` when it is worth another one."""
    store, base_url, response_id = context.store, context.base_url, target.response_id
    if response_id is not None:
        job.identify(response_id)
    if context.state_problem is not None:
        raise context.state_problem
    if response_id is None:
        row = _row(target, context)
        job.identify(_id_of(row, target, base_url), row.status if row is not None else None)
        return []
    known = store.by_id(base_url, response_id)
    other = store.at_other_base_url(base_url, response_id) if known is None else None
    if other is None:
        return []
    message = (
        f"This id was submitted to {other.base_url}, and {base_url} is asked now. "
        "Set OPENAI_BASE_URL to the former."
    )
    return [report.warning(job, "other_base_url", message)]


def _without_state(error: StateError, target: Target, job: Job, context: Context) -> list[Event]:
    """An id is enough to go on with; a key is not."""
    if target.response_id is None:
        raise error
    return state_warnings(error, job, context)


def _row(target: Target, context: Context) -> Row | None:
    store, base_url = context.store, context.base_url
    if target.job_key is None:
        row = store.newest(base_url)
        return row if row is None or row.job_key is None else _by_key(row.job_key, base_url, store)
    row = _by_key(target.job_key, base_url, store)
    if row is None and (jobs := store.of_run(base_url, target.job_key)):
        raise UsageError(
            f"The key {target.job_key!r} is that of a run of {len(jobs):,} jobs.",
            hint="The same submit goes on with it. `oaibg show --list` has its jobs' ids; "
            "`oaibg monitor -` and `oaibg cancel -` take ids from stdin.",
        )
    return row


def _by_key(job_key: str, base_url: str, store: Store) -> Row | None:
    """The job of a key, once no other process is submitting it."""
    row = store.by_key(base_url, job_key)
    if row is None:  # a run's batch, perhaps
        return store.by_key(base_url, line_key(job_key, ""))
    if row.step != "sending":
        return row
    lock = store.lock(base_url, lock_key(job_key))
    if lock is None:
        message = f"Another process is submitting the job key {job_key!r} right now."
        raise KeyBusyError("job_key_busy", message)
    store.unlock(lock)
    return store.by_key(base_url, job_key)


def _id_of(row: Row | None, target: Target, base_url: str) -> str:
    if row is None or row.step == "intent":
        what = "No job" if target.job_key is None else f"No job with the key {target.job_key!r}"
        raise NotFound(
            f"{what} was submitted to {base_url} from here.",
            hint="`oaibg show --list` has the jobs that were.",
        )
    if row.response_id is None:
        raise OutcomeUnknown(
            "A request was sent, and its answer was never stored: the job may be running and may "
            "be billed.",
            hint="Do not blindly submit again. With --job-key, --resubmit-unknown decides for it.",
        )
    return row.response_id
