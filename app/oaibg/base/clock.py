"""The time: a protocol, so that tests own it, and the system's clock."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back."""
        ...

    def random(self) -> float:
        """A random number in [0, 1), for jitter."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, and let other tasks run; also for no time at all."""
        ...

    def block(self, seconds: float) -> None:
        """Wait in code that runs on no event loop."""
        ...


class RealClock:
    """The system's clocks, and asyncio's sleep."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()

    def random(self) -> float:
        """A random number in [0, 1)."""
        return random.random()

    async def sleep(self, seconds: float) -> None:
        """Wait, and let other tasks run; also for no time at all."""
        import asyncio

        await asyncio.sleep(seconds)

    def block(self, seconds: float) -> None:
        """Wait in code that runs on no event loop."""
        time.sleep(seconds)
