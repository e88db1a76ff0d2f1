"""How fast the jobs of a run end: the pace that the board, `run_progress` and `show` report."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from oaibg.contract.events import CancelResult, Error, Final, Poll, Submitted

if TYPE_CHECKING:
    from collections.abc import Hashable

    from oaibg.contract.events import Event

WINDOW = 300.0
"""The number of most recent seconds that the pace covers, or more if jobs take longer."""

_SOONEST = 5.0
"""Seconds before which the pace is unknown."""

_GROWTH = 1.25
"""The factor by which the number of running jobs may grow without a new start."""

_GAP = 1.0
"""Seconds between two marks."""


class Speed:
    """Measures how many jobs end per minute. Times are seconds of any one clock.

    It starts anew whenever clearly more jobs are running than ever before, and the pace is unknown
    until as many jobs have ended since then as are running. Before, the first jobs would say too
    little about the others. Jobs that had ended before they were followed don't count.
    """

    def __init__(self) -> None:
        self._followed: set[Hashable] = set()
        self._ended = self._running = self._most = 0
        self._marks: deque[tuple[float, int]] = deque()
        """Times, and the number of jobs that had ended then."""

    def see(self, job: Hashable, event: Event, now: float) -> None:
        """Note what an event says about a job."""
        match event:
            case Final() | CancelResult() | Error():
                self.leave(job, now, ended=True)
            case Submitted(reattached=False):
                self.follow(job, now)
            case Poll() if event.next_poll_seconds is not None:
                self.follow(job, now)

    def follow(self, job: Hashable, now: float) -> None:
        """Note that a job is running."""
        if job not in self._followed:
            self._followed.add(job)
            self.count(now, ended=self._ended, running=len(self._followed))

    def leave(self, job: Hashable, now: float, *, ended: bool) -> None:
        """Note that a job has ended, or is no longer followed."""
        if job in self._followed:
            self._followed.remove(job)
            self.count(now, ended=self._ended + ended, running=len(self._followed))

    def count(self, now: float, *, ended: int, running: int) -> None:
        """Note how many jobs have ended in all, and how many are running."""
        self._ended, self._running = ended, running
        if running > self._most * _GROWTH:
            self._most = running
            self._marks = deque([(now, ended)])
        marks = self._marks
        if not marks or now - marks[-1][0] >= _GAP:
            marks.append((now, ended))
        while len(marks) > 1 and marks[1][0] <= now - WINDOW and self._is_enough(marks[1][1]):
            marks.popleft()

    def per_minute(self, now: float) -> float | None:
        """Return how many jobs end per minute; None if that is unknown."""
        marks = self._marks  # another thread may replace it
        then, before = marks[0] if marks else (now, 0)
        if now - then < _SOONEST or not self._is_enough(before):
            return None
        return round((self._ended - before) / (now - then) * 60, 1)

    def _is_enough(self, before: int) -> bool:
        """Whether at least as many jobs have ended since then as are running."""
        return self._ended - before >= max(self._running, 1)


def eta(left: int | None, per_minute: float | None) -> float | None:
    """Return the estimated seconds until the last job ends; None if that is unknown."""
    return round(left / per_minute * 60) if per_minute and left is not None else None
