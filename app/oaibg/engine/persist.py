"""Writes to the local state; a failed write becomes a warning, once per run."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from oaibg.api.payload import Payload
from oaibg.contract.errors import OaibgError, OutcomeUnknown, Unavailable, UsageError
from oaibg.engine import report
from oaibg.engine.hints import BUSY_HINT
from oaibg.engine.recap import Recap
from oaibg.engine.report_end import end_code
from oaibg.state.commits import patiently
from oaibg.state.database import IdTakenError, KeyTakenError, StateBusyError, StateError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.state.store import Row, Store

T = TypeVar("T")

_WORK_GRACE = 0.8
_CLEANUP_GRACE = 0.2
"""Seconds that cancelled work has to remove incomplete files."""


async def commit(write: Callable[[], T], context: Context) -> T:
    """Write to the local state, combined with other jobs' writes in a run. Raises `StateError`."""
    if context.commits is None:
        return await patiently(write, context.clock)
    return await context.commits.write(write)


async def remember(write: Callable[[], object], job: Job, context: Context) -> bool:
    """Write to the local state, or emit a warning; return whether it was written."""
    try:
        await commit(write, context)
    except StateError as error:
        await warn_of_state(error, job, context)
        return False
    return True


async def remember_id(job: Job, context: Context) -> None:
    """Write a job's ID to its row, unless the row already has it.

    Raises:
        OutcomeUnknown: the ID is another job's, so the reply was not that to this create.
    """
    row, store = job.unstored_row, context.store
    if row is None:
        return
    try:
        await commit(lambda: store.submitted(row, str(job.response_id), job.status), context)
    except IdTakenError:
        response_id = job.response_id
        job.note_disowned()
        raise OutcomeUnknown(
            f"The reply to the create has the ID of another job, {response_id}, so it can't be the "
            "reply to this request. The job may be running and may be billed.",
            hint="A proxy may have sent an old reply.",
            outcome="unknown",
        ) from None
    except StateError as error:
        await warn_of_state(error, job, context)
    else:
        job.note_stored(durably=store.is_durable)


async def remember_payload(payload: Payload, job: Job, context: Context) -> Payload:
    """Store a job's status, and its result if it has ended; return the result to deliver.

    That is the local copy if it has output that the payload lacks; the copy is not replaced then.
    """
    await remember_id(job, context)
    store, base_url, response_id = context.store, context.base_url, str(job.response_id)
    known = base_url, response_id, payload.status, payload.model, job.completion_window
    recap = _priced_recap(payload, job).text() if payload.ended else None

    def write() -> Payload | None:
        """Store what is known, unless the local copy has more; return the copy if it has."""
        if recap is None:
            store.note_status(*known)
            return None
        local = local_copy(job, context)
        if local is not None and not may_have_changed(local) and payload.is_emptier_than(local):
            return local
        store.note_end(*known, recap)
        return None

    def save(local: Payload | None) -> None:
        if payload.ended and local is None:
            store.save_result(base_url, response_id, payload.raw)

    try:
        local = await _write_and_save(write, save, context)
    except StateError as error:
        await warn_of_state(error, job, context)
        return payload
    job.note_in_state(durably=store.is_durable)
    if local is None:
        return payload
    message = "The API's result lacks output that it had before; its local copy follows."
    await context.emit(report.warning(job, "local_copy", message))
    return local


async def _write_and_save(
    write: Callable[[], T], save: Callable[[T], object], context: Context
) -> T:
    """Write to the state in a thread, because a signal must not wait for a slow disk, and save."""
    if context.commits is not None:
        return await to_end(context.commits.write(write, save))

    def both() -> T:
        result = write()
        save(result)
        return result

    return await patiently(both, context.clock, run=in_thread)


def _priced_recap(payload: Payload, job: Job) -> Recap:
    """Return the recap with the job's cost, so that a list of jobs needs no price list."""
    recap = Recap.of(payload, end_code(payload))
    recap = recap.but(cost=recap.cost_usd(job.completion_window))
    job.note_recap(recap)
    return recap


async def warn_of_state(error: StateError, job: Job, context: Context) -> None:
    """Emit the state warning, once per run."""
    for warning in state_warnings(error, job, context):
        await context.emit(warning)


def state_warnings(error: StateError, job: Job, context: Context) -> list[Event]:
    """The warning about a local state that can't be used; empty after the run's first one."""
    if not context.shared.is_first("state"):
        return []
    return [report.warning(job, error.code, f"{error.message} {_STATE_ADVICE[error.code]}")]


def state_error(error: StateError) -> OaibgError:
    """The error of a command that can't continue without the local state."""
    busy = isinstance(error, StateBusyError | KeyTakenError)
    hint = BUSY_HINT if busy else _STATE_ADVICE.get(error.code)
    return (Unavailable if busy else UsageError)(error.message, code=error.code, hint=hint)


async def readable_copy(job: Job, context: Context) -> Payload | None:
    """The job's local copy; None if there is none, or if the local state can't be read."""
    try:
        # In a run, another job's write may be on its way to a slow disk.
        run = None if context.commits is None else in_thread
        return await patiently(lambda: local_copy(job, context), context.clock, run=run)
    except StateError:
        return None


def may_have_changed(local: Payload) -> bool:
    """Whether the job's final status may differ from its local copy: it was cancelled."""
    return local.status == "cancelled"


def local_copy(job: Job, context: Context) -> Payload | None:
    """The stored result of a job; None if there is none. Raises `StateError`."""
    row = context.store.by_id(context.base_url, str(job.response_id))
    return None if row is None else copy_of(row, context.store)


def copy_of(row: Row, store: Store) -> Payload | None:
    """The stored result of a row; None if there is none. Raises `StateError`."""
    raw = store.result(row)
    try:
        payload = Payload(raw) if raw is not None else None
    except ValueError:
        return None
    return payload if payload is not None and payload.ended else None


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """Run slow work in a thread; if a signal cancels the task, wait briefly for the work to end."""
    import asyncio

    return await to_end(asyncio.to_thread(work, *args))


async def finished(work: Awaitable[T]) -> T:
    """Await work; a signal that cancels the task has no effect if the work soon ends.

    It is for what a job still has to do once its end is known.
    """
    import asyncio

    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await _end_soon(working)
        if working.done() and not working.cancelled():
            return working.result()
        raise


async def to_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work; if a signal cancels the task, wait briefly for the work to end.

    Ending in the middle of a write would leave an incomplete file.
    """
    import asyncio

    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await _end_soon(working)
        raise


async def _end_soon(working: asyncio.Future[Any]) -> None:
    """Wait briefly for a task to end; else cancel it, so that it removes incomplete files."""
    import asyncio

    await asyncio.wait({working}, timeout=_WORK_GRACE)
    if not working.done():
        working.cancel()
        await asyncio.wait({working}, timeout=_CLEANUP_GRACE)


_STATE_ADVICE = {
    "job_key_reused": "Use a new key: a job key belongs to one job or to one run.",
    "state_busy": "It may lack IDs and results of this command.",
    "state_corrupt": "IDs and results that it stored may be missing.",
    "state_newer": "Upgrade oaibg, or set OAIBG_STATE_DIR to another directory.",
    "state_unwritable": "Set OAIBG_STATE_DIR to a writable directory; IDs and results are "
    "stored there.",
}
