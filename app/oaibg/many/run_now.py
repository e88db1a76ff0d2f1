"""What the local state says of a run now, which another process may be running."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.engine.persist import state_error
from oaibg.many.batch.jobs import BatchJobs
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError
from oaibg.state.rows import line_key

if TYPE_CHECKING:
    from oaibg.engine.context import Context
    from oaibg.state.runs import RunRow
    from oaibg.state.store import Store


def is_submitting(run: RunRow, context: Context) -> bool | None:
    """Return whether another process is sending the request of a job; None if none runs the run.

    Raises `OaibgError` if the local state can't be read.
    """
    store = context.store
    try:
        if not is_active(run, store):
            return None
        rows = patiently_blocking(lambda: store.of_run(run.base_url, run.run_key), context.clock)
    except StateError as error:
        raise state_error(error) from error
    return any(row.step == "sending" for row in rows.values())


def run_now(run_key: str, context: Context) -> RunRow | None:
    """Return a run as the local state has it now; None if it can't be read."""
    with suppress(StateError):
        return patiently_blocking(
            lambda: context.store.run(context.base_url, run_key), context.clock
        )
    return None


def is_active(run: RunRow, store: Store) -> bool:
    """Return whether a process is running the run."""
    lock = store.lock(run.base_url, line_key(run.run_key, ""))
    if lock is not None:
        store.unlock(lock)
    return lock is None


def batch_jobs_of(run: RunRow, context: Context) -> BatchJobs | None:
    """Return the jobs of a run's batch; None if an older version submitted it.

    Raises `OaibgError` if the local state can't be read.
    """
    store = context.store
    try:
        jobs = patiently_blocking(
            lambda: store.batch_jobs(run.base_url, run.run_key), context.clock
        )
    except StateError as error:
        raise state_error(error) from error
    return None if jobs is None else BatchJobs.read(jobs)
