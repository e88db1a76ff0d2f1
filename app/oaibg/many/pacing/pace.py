"""How fast a run over many jobs sends requests: few at a time, and slower after each 429."""

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
    from oaibg.many.pacing.in_flight import InFlight

    Call = Callable[..., Coroutine[Any, Any, "T"]]

T = TypeVar("T")

CONNECTIONS = 8, 200
"""The lowest and the highest limit of concurrent requests."""

_FORGETTING = 1.0001
"""The factor by which the time of the fastest request grows with each later request."""

_RATE_WINDOW = 20
"""Number of requests over which the rate is measured."""

_HANGS_SECONDS = 0.5
"""Seconds after which a request counts as hanging, if most take less than a quarter of that."""

_GAP_MIN, _GAP_MAX = 0.001, 10.0
_PAUSE, _PAUSE_MAX = 1.0, 60.0
_RECOVERY = 0.97


class Paced:
    """The API calls that all jobs of a run share, at a limited pace.

    Limits the number of concurrent reads. After a 429 all reads slow down together, or all creates:
    the API has separate limits for them. `rate` is reads per second. `slots` adapts to the replies.
    """

    def __init__(
        self, calls: Calls, clock: Clock, rate: float, slots: InFlight | None = None
    ) -> None:
        self._calls, self._clock = calls, clock
        self._creating, self._reading = Pace(clock), Pace(clock)
        self._gate = Gate(rate)
        self._slots = slots
        self._sending = 0
        """The number of creates that have no reply yet."""
        self.create = self._in_turn(calls.create)
        self.create_stream = self._in_turn(calls.create_stream)
        self.retrieve = self._admitted(calls.retrieve)
        self.cancel = self._admitted(calls.cancel)

    def hurry(self) -> None:
        """Admit as many reads as there may be connections; the pace after a 429 stays."""
        self._gate.open()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    def _in_turn(self, call: Call[T]) -> Call[T]:
        """Return a create that waits for its turn; the last seconds are for the reply."""

        async def create(*request: Any, timeout: float) -> T:
            left = self._countdown(timeout)
            self._sending += 1
            try:
                await self._creating.turn(max(timeout - REPLY_GRACE, 0.0))
                with self._creating.learning():
                    return await self._observed(call(*request, timeout=left()))
            finally:
                self._sending -= 1

        return create

    def _admitted(self, call: Call[T]) -> Call[T]:
        """Return a read that waits for room and for its turn."""

        async def read(response_id: str, timeout: float, *options: Any, **more: Any) -> T:
            left = self._countdown(timeout)
            await self._gate.enter(timeout)
            hanging: Hanging | None = None
            try:
                await self._reading.turn(left())
                hanging = self._gate.watch()
                began = self._clock.monotonic()
                with self._reading.learning():
                    request = call(response_id, left(), *options, **more)
                    payload = await self._observed(request)
                self._gate.took(self._clock.monotonic() - began)
                return payload
            finally:
                self._gate.leave(hanging)

        return read

    async def _observed(self, request: Coroutine[Any, Any, T]) -> T:
        """Await a request, and report its outcome to the slots."""
        slots, began = self._slots, self._clock.monotonic()
        if slots is None:
            return await request
        try:
            reply = await request
        except CallFailed as failure:
            if is_busy(failure):
                slots.note_busy(self._clock.monotonic(), began)
            raise
        now = self._clock.monotonic()
        slots.note_reply(now, now - began)
        payload = reply[0] if isinstance(reply, tuple) else reply
        if (left := getattr(payload, "requests_left", None)) is not None:
            slots.note_left(now, left - self._sending + 1)
        return reply

    def _countdown(self, seconds: float) -> Callable[[], float]:
        """Count down from now; what is left is always enough for one attempt."""
        give_up = self._clock.monotonic() + seconds
        return lambda: max(give_up - self._clock.monotonic(), min(MIN_RETRIEVE_SECONDS, seconds))


class Pace:
    """The minimum time between two requests of a run.

    Zero at first. After a 429 nothing is sent for as long as the API asks, and then half the rate
    that was reached. Several 429s of requests in flight count once. Each success raises the rate.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gap = 0.0
        self._next = self._resume = self._slowed = -math.inf
        self._busy = 0
        self._began: deque[float] = deque(maxlen=_RATE_WINDOW)

    async def turn(self, seconds: float) -> None:
        """Wait until a request may be sent; raises `CallFailed` if that takes over `seconds`."""
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
            if self._resume <= clock.monotonic():  # otherwise a 429 postponed it
                self._began.append(clock.monotonic())
                return

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Adapt to the request in this block: slow down after a 429, otherwise recover."""
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
            return  # it was in flight when another one was refused
        self._slowed = now
        self._busy = min(self._busy + 1, 10)
        reached = (now - self._began[0]) / len(self._began) if self._began else 0.0
        self._began.clear()  # the next rate excludes the pause
        self._gap = min(max(2 * self._gap, 2 * reached, _GAP_MIN), _GAP_MAX)


class Gate:
    """Limits concurrent requests to the number that the rate needs.

    By Little's law that is the rate times the average time of a request; twice as many are allowed.
    If requests are slow because this process is busy, more of them only wait longer. The fastest
    request did not wait, so its time sets an upper bound. `rate` is requests per second. A request
    that hangs gives its place to another one, so that it holds up no other job.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._average = self._fastest = 0.0
        self._inside = self._hanging = 0
        self._is_open = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.limit = CONNECTIONS[0]
        """The number of requests that may be inside at once."""

    async def enter(self, seconds: float) -> None:
        """Take a place until `leave`; raises `CallFailed` if none is free within `seconds`."""
        if self._has_room() and not self._waiting:
            self._inside += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except (TimeoutError, asyncio.CancelledError) as error:
            if not place.cancelled():
                self.leave()  # it got its place too late
            if isinstance(error, TimeoutError):
                raise _out_of_turn() from None
            raise

    def watch(self) -> Hanging:
        """Watch a request that is being sent; `leave` takes what this returns."""
        return Hanging(self._lend, max(_HANGS_SECONDS, 4 * self._average))

    def leave(self, hanging: Hanging | None = None) -> None:
        """Free a place for the next request."""
        self._inside -= 1
        if hanging is not None and not hanging.ends():
            self._hanging -= 1
        self._admit()

    def open(self) -> None:
        """Raise the limit to the highest, for good."""
        self._is_open, self.limit = True, CONNECTIONS[1]
        self._admit()

    def _lend(self) -> None:
        """Lend the place of a request that hangs."""
        self._hanging += 1
        self._admit()

    def _has_room(self) -> bool:
        return self._inside < min(self.limit + self._hanging, CONNECTIONS[1])

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.done():
                self._inside += 1
                place.set_result(None)

    def took(self, seconds: float) -> None:
        """Adapt the limit to the time that a request took."""
        if self._is_open:
            return
        self._average += (seconds - self._average) / (16 if self._average else 1)
        self._fastest = min(seconds, self._fastest * _FORGETTING or seconds)
        fewest, most = CONNECTIONS
        bound = 4 * self._rate * self._fastest + fewest
        needed = math.ceil(min(2 * self._rate * self._average, bound))
        self.limit = min(max(needed, fewest), most)


class Hanging:
    """Calls `then` if a request takes longer than `seconds`."""

    def __init__(self, then: Callable[[], None], seconds: float) -> None:
        self._then: Callable[[], None] | None = then
        self._timer = asyncio.get_running_loop().call_later(seconds, self._call)

    def ends(self) -> bool:
        """Stop watching; return whether the request was fast enough."""
        self._timer.cancel()
        return self._then is not None

    def _call(self) -> None:
        if self._then is not None:
            then, self._then = self._then, None
            then()


def _out_of_turn() -> CallFailed:
    return CallFailed(OUT_OF_TURN, "the API asked this run to slow down", sent=False)
