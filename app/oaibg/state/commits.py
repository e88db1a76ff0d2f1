"""Reading and writing the state with patience, and the writes of many jobs together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from oaibg.state.database import StateBusyError, StateError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from oaibg.base.clock import Clock
    from oaibg.state.store import Store

T = TypeVar("T")

_COMMIT_INTERVAL = 0.02


async def patiently(call: Callable[[], T], clock: Clock) -> T:
    """Read or write the state, or raise `StateError`; try again while another process writes."""
    patience = _Patience(clock)
    while True:
        try:
            return call()
        except StateBusyError as busy:
            await clock.sleep(patience.interval(busy))


def patiently_blocking(call: Callable[[], T], clock: Clock) -> T:
    """As `patiently`, in code that runs on no event loop."""
    patience = _Patience(clock)
    while True:
        try:
            return call()
        except StateBusyError as busy:
            clock.block(patience.interval(busy))


class _Patience:
    """For how long each kind of busy state is worth another try."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[type[StateBusyError], float] = {}

    def interval(self, busy: StateBusyError) -> float:
        """Seconds until the next try; raises the error if it has come for too long."""
        now = self._clock.monotonic()
        if type(busy) is not StateBusyError:  # the state could be read: its patience begins anew
            self._since.pop(StateBusyError, None)
        if now >= self._since.setdefault(type(busy), now) + busy.patience:
            raise busy
        return busy.interval


class Commits:
    """Writes of many jobs to the state, which go out as few transactions.

    Each transaction costs a disk sync. Writes that come soon after the last one wait a moment, and
    are committed together; each writer learns when its own write is on the disk.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._last = -math.inf
        self._flushing: asyncio.Task[None] | None = None

    async def write(self, write: Callable[[], T]) -> T:
        """Do a write, perhaps with others; returns what it returns, or raises `StateError`.

        It may be done although its outcome is an error, or the caller is cancelled: what it
        changes elsewhere than in the state has to wait for the outcome.
        """
        import asyncio

        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, outcome))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await outcome

    async def _flush(self) -> None:
        clock = self._clock
        await clock.sleep(max(self._last + _COMMIT_INTERVAL - clock.monotonic(), 0.0))
        waiting = [one for one in self._waiting if not one[1].done()]  # but the cancelled ones
        self._waiting, self._flushing = [], None
        writes = [write for write, _ in waiting]
        try:
            results = await patiently(lambda: self._store.together(writes), clock)
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of it
            results = [error] * len(waiting)
        self._last = clock.monotonic()
        for (_, outcome), result in zip(waiting, results, strict=True):
            if outcome.done():
                continue  # cancelled
            if isinstance(result, StateError):
                # A copy for each writer: what is known of its job may be added to the message.
                result = type(result)(result.code, result.message)  # noqa: PLW2901
            if isinstance(result, Exception):
                outcome.set_exception(result)
            else:
                outcome.set_result(result)
