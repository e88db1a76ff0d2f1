"""Retries while another process writes to the state, and combined writes of many jobs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from oaibg.state.database import StateBusyError, StateError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from oaibg.base.clock import Clock
    from oaibg.state.store import Store

T = TypeVar("T")

_COMMIT_INTERVAL = 0.02


async def patiently(
    call: Callable[[], T],
    clock: Clock,
    *,
    run: Callable[[Callable[[], T]], Awaitable[T]] | None = None,
) -> T:
    """Read or write the state; retry while another process writes. Raises `StateError`.

    `run` runs the call in a thread. Meanwhile nothing else may write the state.
    """
    patience = _Patience(clock)
    while True:
        try:
            return call() if run is None else await run(call)
        except StateBusyError as busy:
            await clock.sleep(patience.interval(busy))


def patiently_blocking(call: Callable[[], T], clock: Clock) -> T:
    """Like `patiently`, for code outside the event loop."""
    patience = _Patience(clock)
    while True:
        try:
            return call()
        except StateBusyError as busy:
            clock.block(patience.interval(busy))


class _Patience:
    """How long to retry for each kind of busy state."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[type[StateBusyError], float] = {}

    def interval(self, busy: StateBusyError) -> float:
        """Return the seconds until the next attempt; raises the error if its patience is over."""
        now = self._clock.monotonic()
        if type(busy) is not StateBusyError:  # the state could be read: restart its own patience
            self._since.pop(StateBusyError, None)
        if now >= self._since.setdefault(type(busy), now) + busy.patience:
            raise busy
        return busy.interval


class Commits:
    """Combines the state writes of many jobs into few transactions.

    Each transaction costs a disk sync. Writes soon after the last transaction wait a moment and
    are committed together. Each writer returns when its own write is on the disk.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._waiting: list[_Waiting] = []
        self._last = -math.inf
        self._flushing: asyncio.Task[None] | None = None
        self._committed: list[tuple[_Waiting, Any]] = []
        """The writes that something follows, and their results."""
        self._following: asyncio.Task[None] | None = None

    async def write(self, write: Callable[[], T], then: Callable[[T], object] | None = None) -> T:
        """Run `write` in a transaction and return its result; raises `StateError`.

        `then` gets the result once it is committed. It may raise `StateError`, and must not use the
        database, because later writes are committed at the same time. Both may run even if this
        raises or is cancelled, so they must only change the state. The caller makes all other
        changes after this returns.
        """
        import asyncio

        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(write, then, outcome))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await outcome

    async def _flush(self) -> None:
        """Commit what waits; only one thread at a time writes."""
        while self._waiting:
            await self._clock.sleep(max(self._last + _COMMIT_INTERVAL - self._clock.monotonic(), 0))
            waiting = [
                one for one in self._waiting if not one.outcome.done()
            ]  # skip cancelled ones
            self._waiting = []
            await self._commit(waiting)
        self._flushing = None

    async def _commit(self, waiting: list[_Waiting]) -> None:
        import asyncio

        clock, writes = self._clock, [one.write for one in waiting]
        try:
            # In a thread: signals and other jobs must not wait for a slow disk.
            results = await patiently(
                lambda: self._store.together(writes), clock, run=asyncio.to_thread
            )
        except Exception as error:  # noqa: BLE001 - every writer must get the error
            results = [error] * len(waiting)
        self._last = clock.monotonic()
        for one, result in zip(waiting, results, strict=True):
            if one.then is None or isinstance(result, Exception):
                one.end(result)
            else:
                self._committed.append((one, result))
        if self._committed and self._following is None:
            # The next writes, such as IDs of jobs that are paid for, don't wait for it.
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """Do what follows the writes, in one thread."""
        import asyncio

        while self._committed:
            committed, self._committed = self._committed, []
            ends = await asyncio.to_thread(_followed, committed)
            for (one, _), end in zip(committed, ends, strict=True):
                one.end(end)
        self._following = None


def _followed(committed: list[tuple[_Waiting, Any]]) -> list[Any]:
    return [one.followed(result) for one, result in committed]


class _Waiting(NamedTuple):
    write: Callable[[], Any]
    then: Callable[[Any], object] | None
    outcome: asyncio.Future[Any]

    def followed(self, result: Any) -> Any:
        """Do what follows the committed write; return its result, or the error."""
        assert self.then is not None  # noqa: S101 - for the type checker
        try:
            self.then(result)
        except Exception as error:  # noqa: BLE001 - the writer must get the error
            return error
        return result

    def end(self, result: Any) -> None:
        """Give the writer its result, or raise the error there, unless it was cancelled."""
        if self.outcome.done():
            return
        if isinstance(result, StateError):
            # A copy for each writer, because callers extend the message.
            result = type(result)(result.code, result.message)
        if isinstance(result, Exception):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)
