"""The text of a stream, put together into a few lines a second."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oaibg.base.clock import Clock

DELTA_INTERVAL = 0.35
"""Seconds between two lines of text at least."""


class TextLines:
    """Takes deltas, and gives lines."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pieces: list[str] = []
        self._number: int | None = None
        self._next = -math.inf

    @property
    def waits(self) -> bool:
        """Whether there is any."""
        return bool(self._pieces)

    @property
    def due(self) -> float:
        """When the next line is due, on the monotonic clock."""
        return self._next if self._pieces else math.inf

    def add(self, delta: str, number: int | None) -> None:
        """Take one more."""
        self._pieces.append(delta)
        self._number = number

    def take(self) -> tuple[str, int | None]:
        """All that is there, and the number of the last."""
        text, self._pieces = "".join(self._pieces), []
        self._next = self._clock.monotonic() + DELTA_INTERVAL
        return text, self._number
