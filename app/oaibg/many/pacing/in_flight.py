"""How many jobs of a run may be in flight: a fixed number, or what the API can take.

With `--max-in-flight auto` the limit grows by single jobs while requests succeed, and is halved
after a 429, as TCP does. The headers of a create's reply limit it, too.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oaibg.base.clock import Clock

FIRST, MOST = 50, 1000
"""The first and the highest limit if the run adapts it."""

_RAISE_SECONDS = 0.1
"""Seconds between two raises of the limit."""

_SLOW_FACTOR, _SLOW_SECONDS = 3.0, 0.1
"""Requests have become slow if they take this many times, and this much, longer than the fastest.
"""

_WINDOW = 60.0
"""Seconds for which the counts in a reply's headers hold: the API's limits are per minute."""


class InFlight:
    """The places for the jobs in flight. Times are on the monotonic clock, in seconds.

    Without `most`, the limit is fixed.
    """

    def __init__(self, limit: int, most: int | None = None) -> None:
        self.limit, self._most = limit, most
        self._inside = 0
        self._left, self._left_until = math.inf, math.inf
        """The number of creates that the last reply allows, and until when it holds."""
        self._raised = self._cut = -math.inf
        self._average, self._fastest = 0.0, math.inf
        self._waiting: asyncio.Future[None] | None = None

    async def enter(self, clock: Clock) -> None:
        """Take a place until `leave`, for a job to create. Only one task may wait."""
        # Without a job in flight no reply would raise the limit.
        while self._inside and (self._inside >= self.limit or self._left < 1):
            self._waiting = asyncio.get_running_loop().create_future()
            renewing = asyncio.create_task(self._renew(clock)) if self._left < 1 else None
            try:
                await self._waiting
            finally:
                if renewing is not None:
                    renewing.cancel()
        self._inside += 1
        self._left -= 1

    def leave(self) -> None:
        """Free a place."""
        self._inside -= 1
        self._wake()

    def note_reply(self, now: float, seconds: float) -> None:
        """Note that a request succeeded, and how long it took."""
        self._fastest = min(self._fastest, seconds)
        self._average += (seconds - self._average) / (16 if self._average else 1)
        slow = self._average > max(self._fastest * _SLOW_FACTOR, self._fastest + _SLOW_SECONDS)
        is_full = self._inside >= self.limit
        if self._most and is_full and not slow and now >= self._raised + _RAISE_SECONDS:
            self._raised = now
            self.limit = min(self.limit + 1, self._most)
        self._wake()

    def note_left(self, now: float, creates: int) -> None:
        """Note how many further creates the API allows for now."""
        self._left, self._left_until = creates, now + _WINDOW

    def note_busy(self, now: float, began: float) -> None:
        """Note that a request that began at `began` was refused; several at once count once."""
        if self._most is None or began <= self._cut:
            return
        self._cut = now
        self.limit = max(min(self.limit, self._inside) // 2, 1)

    async def _renew(self, clock: Clock) -> None:
        """Forget the last reply's count once its time is over."""
        while (seconds := self._left_until - clock.monotonic()) > 0:
            await clock.sleep(seconds)
        self._left = math.inf
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
