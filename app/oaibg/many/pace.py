"""How fast a run over many jobs asks the API: few connections, and slower after each 429."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from oaibg.contract.errors import CallFailed
from oaibg.engine.patience import MIN_RETRIEVE_SECONDS, REPLY_GRACE, retry_after
from oaibg.engine.verdicts import OUT_OF_TURN, is_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from oaibg.api.calls import Calls
    from oaibg.base.clock import Clock

    Call = Callable[..., Coroutine[Any, Any, "T"]]

T = TypeVar("T")

CONNECTIONS = 8, 200
"""The fewest and the most requests at a time."""

_FORGETTING = 1.0001
"""The factor by which the time of the fastest request grows with every other one."""

_RATE_WINDOW = 20
"""Requests over which the rate is measured."""

_GAP_MIN, _GAP_MAX = 0.001, 10.0
_PAUSE, _PAUSE_MAX = 1.0, 60.0
_RECOVERY = 0.97


class Paced:
    """The calls that all jobs of a run share: those that it wraps, at a limited pace.

    Concurrent reads are limited. Reads slow down together when the API reports too many, and so do
    creates, for which it has other limits. `rate` is reads per second.
    """

    def __init__(self, calls: Calls, clock: Clock, rate: float) -> None:
        self._calls, self._clock = calls, clock
        self._creating, self._reading = Pace(clock), Pace(clock)
        self._gate = Gate(rate)
        self.create = self._in_turn(calls.create)
        self.create_stream = self._in_turn(calls.create_stream)
        self.retrieve = self._admitted(calls.retrieve)
        self.cancel = self._admitted(calls.cancel)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    def _in_turn(self, call: Call[T]) -> Call[T]:
        """A create that waits for its turn; the last seconds are for the reply."""

        async def create(*request: Any, timeout: float) -> T:
            left = self._countdown(timeout)
            await self._creating.turn(max(timeout - REPLY_GRACE, 0.0))
            with self._creating.learning():
                return await call(*request, timeout=left())

        return create

    def _admitted(self, call: Call[T]) -> Call[T]:
        """A read that waits for room and for its turn."""

        async def read(response_id: str, timeout: float) -> T:
            left = self._countdown(timeout)
            await self._gate.enter(timeout)
            try:
                await self._reading.turn(left())
                began = self._clock.monotonic()
                with self._reading.learning():
                    answer = await call(response_id, left())
                self._gate.took(self._clock.monotonic() - began)
                return answer
            finally:
                self._gate.leave()

        return read

    def _countdown(self, seconds: float) -> Callable[[], float]:
        """What is left of the time, waiting for a turn included; a second at least for a try."""
        give_up = self._clock.monotonic() + seconds
        return lambda: max(give_up - self._clock.monotonic(), min(MIN_RETRIEVE_SECONDS, seconds))


class Pace:
    """The least time between two requests of a run.

    Nothing at first. When the API is busy (a 429) the rate that was reached is halved, once for all
    requests that were under way, and nothing goes out for as long as it asks; with every answer
    the rate grows again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gap = 0.0
        self._next = self._resume = self._slowed = -math.inf
        self._busy = 0
        self._began: deque[float] = deque(maxlen=_RATE_WINDOW)

    async def turn(self, seconds: float) -> None:
        """Wait for one's turn; raises `CallFailed` if it does not come within `seconds`."""
        clock = self._clock
        give_up = clock.monotonic() + seconds
        while True:
            now = clock.monotonic()
            at = max(now, self._next, self._resume)
            if at > give_up:
                await clock.sleep(max(give_up - now, 0.0))
                raise _out_of_turn()
            self._next = at + self._gap
            if at > now:
                await clock.sleep(at - now)
            if self._resume <= clock.monotonic():  # else it was put off meanwhile
                self._began.append(clock.monotonic())
                return

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Learn from a request that is made meanwhile: slow down after a 429, else recover."""
        began = self._clock.monotonic()
        try:
            yield
        except CallFailed as failure:
            if is_busy(failure):
                self._slow_down(began, retry_after(failure.retry_after, self._clock.now()))
            raise
        self._busy = 0
        self._gap = self._gap * _RECOVERY if self._gap > _GAP_MIN else 0.0

    def _slow_down(self, began: float, asked: float | None) -> None:
        now = self._clock.monotonic()
        pause = asked or min(_PAUSE * 2.0**self._busy, _PAUSE_MAX)
        self._resume = max(self._resume, now + pause)
        if began <= self._slowed:
            return  # it was under way already when another one was refused
        self._slowed = now
        self._busy = min(self._busy + 1, 10)
        reached = (now - self._began[0]) / len(self._began) if self._began else 0.0
        self._began.clear()  # the pause is no part of the next rate
        self._gap = min(max(2 * self._gap, 2 * reached, _GAP_MIN), _GAP_MAX)


class Gate:
    """Limits the concurrent requests to what the rate needs.

    By Little's law that is the rate times the average time of a request; twice as many are let
    through. If they wait for the process itself, more of them would only wait longer: the time of
    the fastest is free of that wait, and sets a bound. `rate` is requests per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._average = self._fastest = 0.0
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.limit = CONNECTIONS[0]
        """How many may be inside."""

    async def enter(self, seconds: float) -> None:
        """Be inside until `leave`; raises `CallFailed` if there is no room within `seconds`."""
        if self._inside < self.limit and not self._waiting:
            self._inside += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except (TimeoutError, asyncio.CancelledError) as error:
            if not place.cancelled():
                self.leave()  # it was let in, and does not come
            if isinstance(error, TimeoutError):
                raise _out_of_turn() from None
            raise

    def leave(self) -> None:
        """Make room for the next."""
        self._inside -= 1
        while self._waiting and self._inside < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._inside += 1
                place.set_result(None)

    def took(self, seconds: float) -> None:
        """Learn how long a request takes."""
        self._average += (seconds - self._average) / (16 if self._average else 1)
        self._fastest = min(seconds, self._fastest * _FORGETTING or seconds)
        fewest, most = CONNECTIONS
        bound = 4 * self._rate * self._fastest + fewest
        needed = math.ceil(min(2 * self._rate * self._average, bound))
        self.limit = min(max(needed, fewest), most)


def _out_of_turn() -> CallFailed:
    return CallFailed(OUT_OF_TURN, "the API asks this run to slow down", sent=False)
