"""What a job function works with: clock, client and store, and writing to the state with care."""

from __future__ import annotations

import math
import sys
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from oaibg.api.payload import Payload
from oaibg.base.record import Record
from oaibg.contract.errors import OaibgError, Unavailable, UsageError
from oaibg.state.file import StateBusyError, StateError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator

    from oaibg.api.calls import Calls
    from oaibg.base.clock import Clock
    from oaibg.contract.events import Warning as WarningEvent
    from oaibg.engine.job import Job
    from oaibg.state.store import Row, Store

T = TypeVar("T")

_STATE_PATIENCE = 5.0
_STATE_INTERVAL = 0.03
_WORK_GRACE = 0.8
_COMMIT_INTERVAL = 0.02


class Tools(Record):
    """What a job function works with.

    Args:
        connect: gives the client; awaited when a request is about to be made.
        store: what outlives the process.
        state_problem: why `store` is of this process alone, or what was set aside.
        base_url: where the API is, as it is kept in the state (without credentials).
        clock: the time.
        started: `clock.monotonic()` at the process's start, from which waits count.
        signum: the signal that cancelled the task.
        commits: in a run over several jobs, what writes to the state for all of them.
    """

    connect: Callable[[], Awaitable[Calls]]
    store: Store
    state_problem: StateError | None
    base_url: str
    clock: Clock
    started: float
    signum: Callable[[], int]
    commits: Commits | None = None

    def elapsed(self) -> float:
        """Seconds since the process's start, to the millisecond."""
        return round(self.clock.monotonic() - self.started, 3)

    def deadline(self, job: Job) -> float:
        """When the job's wait is over, on the monotonic clock."""
        limit = job.wait.max_wait_seconds
        return math.inf if limit is None else self.started + limit


class Commits:
    """Writes of many jobs to the state, which go out as few transactions.

    Each takes a sync of the disk. What comes within a moment of the last one waits for its end,
    and all that has come until then goes out together; whoever writes is told when it is there.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._last = -math.inf
        self._flushing: asyncio.Task[None] | None = None

    async def run(self, write: Callable[[], Any], tools: Tools) -> Any:
        """Do a write, perhaps with others; gives what it gives.

        It may be done although its outcome is an error, or the caller is cancelled: what it
        changes elsewhere than in the state has to wait for the outcome.

        Raises:
            StateError: it is not written.
        """
        import asyncio

        told = asyncio.get_running_loop().create_future()
        self._waiting.append((write, told))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(tools))
        return await told

    async def _flush(self, tools: Tools) -> None:
        clock = tools.clock
        await clock.sleep(max(self._last + _COMMIT_INTERVAL - clock.monotonic(), 0.0))
        waiting = [one for one in self._waiting if not one[1].done()]  # but the cancelled ones
        self._waiting, self._flushing = [], None
        writes = [write for write, _ in waiting]
        try:
            outcomes = await insist(lambda: tools.store.together(writes), tools)
        except Exception as error:  # noqa: BLE001 - `_call_failed` says why none is let through
            outcomes = [error] * len(waiting)
        self._last = clock.monotonic()
        for (_, told), outcome in zip(waiting, outcomes, strict=True):
            if told.done():
                continue  # cancelled
            if isinstance(outcome, StateError):
                # One of one's own: what is known of a job may be added to it.
                told.set_exception(type(outcome)(outcome.code, outcome.message))
            elif isinstance(outcome, Exception):
                told.set_exception(outcome)
            else:
                told.set_result(outcome)


@coroutine
def event_loop() -> Generator[None, None, None]:
    """Wait until an event loop runs what awaits this: to be awaited before asyncio is used.

    What needs no loop never comes here, and asyncio, which takes long to import, is not imported
    (`oaibg.process` steps it by hand). On a loop this lets other tasks run, as `sleep(0)` does.
    """
    yield


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is asyncio's; it can't be where asyncio was never imported."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """Do what may take long in a thread; a cancelled task (a signal) leaves it a moment to end.

    Ending in the middle of a file would leave a part of it.
    """
    await event_loop()

    import asyncio

    working = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working}, timeout=_WORK_GRACE)
        raise


async def insist(call: Callable[[], T], tools: Tools) -> T:
    """Read or write the state, waiting a while for other processes that write.

    Raises:
        StateError: it can't be done.
    """
    give_up = tools.clock.monotonic() + _STATE_PATIENCE
    while True:
        try:
            return call()
        except StateBusyError:
            if tools.clock.monotonic() >= give_up:
                raise
        await tools.clock.sleep(_STATE_INTERVAL)


async def commit(write: Callable[[], T], tools: Tools) -> T:
    """Write to the state; together with other jobs' writes in a run over several.

    Raises:
        StateError: it is not written.
    """
    if tools.commits is None:
        return await insist(write, tools)
    outcome: T = await tools.commits.run(write, tools)
    return outcome


async def remember(write: Callable[[], object], job: Job, tools: Tools) -> bool:
    """Write to the state, and go on where that is impossible: a warning then, once a run.

    Returns:
        Whether it is written.
    """
    try:
        await commit(write, tools)
    except StateError as error:
        warn_of_state(error, job)
        return False
    return True


async def remember_id(job: Job, tools: Tools) -> None:
    """Write a job's id to its row, where that has not been possible so far."""
    row, store = job.unstored_row, tools.store
    if row is not None and await remember(
        lambda: store.submitted(row, str(job.response_id), job.status), job, tools
    ):
        job.unstored_row, job.kept = None, store.is_durable


async def remember_seen(payload: Payload, job: Job, tools: Tools) -> None:
    """Note a job's status, and keep its result where it has ended."""
    await remember_id(job, tools)
    store, base_url, response_id = tools.store, tools.base_url, str(job.response_id)

    def write() -> None:
        store.seen(base_url, response_id, payload.status, payload.model)
        if payload.ended:
            store.note_result(base_url, response_id)

    if not await remember(write, job, tools):
        return
    job.kept = job.kept or store.is_durable
    if payload.ended:
        try:
            await in_thread(store.save_result, base_url, response_id, payload.raw)
        except StateError as error:
            warn_of_state(error, job)


def warn_of_state(error: StateError, job: Job) -> None:
    """Have it told what the state could not take, once a run."""
    if not job.run.state_warned:
        job.untold.append(state_warning(job, error))


async def row_of(job: Job, tools: Tools) -> Row | None:
    """What the state knows of the job's id at this base URL; nothing where it can't be read."""
    try:
        return await insist(lambda: tools.store.by_id(tools.base_url, str(job.response_id)), tools)
    except StateError:
        return None


async def local_copy(job: Job, tools: Tools) -> Payload | None:
    """The result that was kept of the job; None where there is none that can be read."""
    row = await row_of(job, tools)
    raw = tools.store.result(row) if row is not None else None
    try:
        payload = Payload(raw) if raw is not None else None
    except ValueError:
        return None
    return payload if payload is not None and payload.ended else None


def state_warning(job: Job, error: StateError) -> WarningEvent:
    """The warning that says what the state can't do for this run."""
    job.run.state_warned = True
    return job.warning(error.code, f"{error.message} {_STATE_ADVICE[error.code]}")


def state_error(error: StateError) -> OaibgError:
    """The error of a run that can't do without the state."""
    hint = _STATE_ADVICE[error.code]
    if isinstance(error, StateBusyError):
        return Unavailable(error.message, code=error.code, hint=hint)
    return UsageError(error.message, code=error.code, hint=hint)


_STATE_ADVICE = {
    "state_busy": "Try again in a moment.",
    "state_corrupt": "Ids and results that were kept there may be missing from now on.",
    "state_newer": "Upgrade oaibg, or point OAIBG_STATE_DIR to a folder of its own.",
    "state_unwritable": "Point OAIBG_STATE_DIR to a folder that can be written; "
    "ids and results are kept there.",
}
