"""The clock as a protocol, and the system's clock."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Time and randomness, as a protocol so that tests can replace them."""

    def now(self) -> float:
        """Return the Unix time in seconds."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    def random(self) -> float:
        """Return a random number in [0, 1), for jitter."""

    async def sleep(self, seconds: float) -> None:
        """Wait; other tasks run even if `seconds` is 0."""

    def block(self, seconds: float) -> None:
        """Wait outside the event loop."""


class RealClock:
    """The system's clocks, and asyncio's sleep."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    random = staticmethod(random.random)
    block = staticmethod(time.sleep)

    async def sleep(self, seconds: float) -> None:
        """Wait; other tasks run even if `seconds` is 0."""
        import asyncio

        await asyncio.sleep(seconds)
