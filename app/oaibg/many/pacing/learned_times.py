"""When a job of a run is polled with `--poll-seconds auto`: as the ends of other jobs suggest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.engine.poll import PollTimes

if TYPE_CHECKING:
    from oaibg.base.clock import Clock
    from oaibg.many.pacing.poll_schedule import PollSchedule

_GAP = 0.1
"""The least number of seconds between two polls of a job."""

_NAP_MIN, _NAP_PART = 0.1, 0.02
"""A job that waits looks at the schedule again after this many seconds, or part of its age."""


class LearnedTimes(PollTimes):
    """The polls of one job by a schedule that all jobs of the run share.

    `created` is when the job was created, on the monotonic clock; None if that is now. `spread` is
    the fraction of a step after which the first poll comes.
    """

    def __init__(
        self, schedule: PollSchedule, number: int, *, created: float | None, spread: float
    ) -> None:
        super().__init__(1.0)
        self._schedule, self._number = schedule, number
        self._created, self._part, self._seen = created, spread, 0.0

    def next(self, began: float, now: float) -> float:
        """As in `PollTimes`; the first call for a new job is for its first poll."""
        if self._created is None:
            self._created = began
        else:
            self._seen, self._part = began - self._created, 1.0
            self._schedule.note_running(self._number, self._seen)
        return max(self._due(), now + _GAP)

    async def sleep(self, clock: Clock, seconds: float, limit: float) -> None:
        """As in `PollTimes`, but poll sooner if the schedule changes.

        A job that was not polled yet may also be polled later than planned.
        """
        began, fits = clock.monotonic(), self._schedule.fits
        due = began + seconds
        while (left := min(due, began + limit) - clock.monotonic()) > 0:
            age = clock.monotonic() - (self._created or began)
            await clock.sleep(min(left, max(_NAP_MIN, age * _NAP_PART)))
            if self._schedule.fits > fits:
                fits = self._schedule.fits
                due = min(due, self._due()) if self._seen else self._due()

    def note_end(self, seconds: float | None, now: float) -> None:
        """As in `PollTimes`; the schedule learns from it."""
        if self._created is None:
            return  # it ended before its first poll was due
        age = now - self._created
        took = (self._seen + age) / 2 if seconds is None else min(max(seconds, self._seen), age)
        self._schedule.note_end(self._number, took)

    def forget(self) -> None:
        """As in `PollTimes`; the schedule leaves the job out."""
        self._schedule.forget(self._number)

    def _due(self) -> float:
        return (self._created or 0.0) + self._schedule.next_age(self._seen, self._part)
