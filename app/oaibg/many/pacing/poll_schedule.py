"""When to poll the jobs of a run, learned from how long its ended jobs took.

If durations have density f and survival S, polls at a rate proportional to the root of the hazard
f/S give the smallest product of polls and lag (Barlow, Hunter and Proschan, 1963). The hazard is
estimated as by Nelson and Aalen, smoothed by a kernel in log time. A running job counts until its
last poll, since nothing is known of it after that.

Of all schedules with that product, this is the one that would poll exponential durations of the
same mean every `mean / 20` seconds, but at least every minute and at most every second.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from operator import add, mul

_FIRST, _STEP, _CELLS = 0.5, 0.05, 260
"""The grid of ages: the first one in seconds, the step of its logarithm, and the number of cells;
the last age is about 60 hours."""
_AGES = [_FIRST * math.exp(_STEP * cell) for cell in range(_CELLS + 1)]
_WIDTHS = [_AGES[cell + 1] - _AGES[cell] for cell in range(_CELLS)]

_POLLS_PER_MEAN = 20.0
_INTERVAL_MIN, _INTERVAL_MAX = 1.0, 60.0

_PRIOR = 0.1
"""The weight, in jobs, of the assumption that the hazard at an age is 1 / age."""
_PRIOR_SIGMA = 0.3
"""The deviation of log durations that is assumed, with the weight of two jobs."""
_KERNEL, _KERNEL_MIN = 0.6, 0.03
"""The kernel's width is this many deviations for one job, and at least the minimum."""

_POLLS_PER_FIT, _LEARNING, _GROWTH = 5, 50, 1.1
"""A new estimate is made if 10 % more jobs have ended and, until 50 have, after 5 polls."""


class PollSchedule:
    """The ages at which the jobs of a run are polled. All times are in seconds."""

    def __init__(self) -> None:
        self._ends = [0] * _CELLS
        self._count = self._fitted = self._polls = 0
        self._sum = self._squares = 0.0
        self._seen: dict[int, float] = {}
        self._polls_until: list[float] = []
        self.fits = 0
        """How often the schedule has changed."""
        self._fit()

    @property
    def has_ends(self) -> bool:
        """Whether a job has ended."""
        return self._count > 0

    def next_age(self, age: float, part: float = 1.0) -> float:
        """The age of the next poll, after a poll at `age`; 0 is the job's creation.

        `part` is the fraction of a full step after which the poll comes.
        """
        goal = self._polls_at(age) + part
        above = bisect_left(self._polls_until, goal)
        if above > _CELLS:
            return max(_AGES[-1], 2 * age)
        low, high = self._polls_until[above - 1], self._polls_until[above]
        return _AGES[above - 1] + _WIDTHS[above - 1] * (goal - low) / (high - low)

    def note_running(self, job: int, age: float) -> None:
        """Note that a poll at this age found the job running."""
        self._seen[job] = age
        self._polls += 1
        if self._count < _LEARNING and self._polls >= _POLLS_PER_FIT:
            self._fit()

    def note_end(self, job: int, seconds: float) -> None:
        """Note that a job took this long."""
        self.forget(job)
        self._ends[_cell(seconds)] += 1
        self._count += 1
        logarithm = math.log(max(seconds, _FIRST))
        self._sum, self._squares = self._sum + logarithm, self._squares + logarithm**2
        if self._count >= self._fitted * _GROWTH:
            self._fit()

    def forget(self, job: int) -> None:
        """Note that a job is no longer polled."""
        self._seen.pop(job, None)

    def _polls_at(self, age: float) -> float:
        """The number of polls, as a fraction, that are due until an age."""
        cell = _cell(age)
        low, high = self._polls_until[cell : cell + 2]
        return low + (high - low) * min(max((age - _AGES[cell]) / _WIDTHS[cell], 0.0), 1.0)

    def _fit(self) -> None:
        """Estimate the hazard of each cell, and from it the number of polls until each age."""
        self._fitted, self._polls, self.fits = self._count, 0, self.fits + 1
        kernel = _kernel(self._deviation() * _KERNEL * max(self._count, 1) ** -0.2)
        seen = [0] * _CELLS
        for age in self._seen.values():
            seen[_cell(age)] += 1
        ends, alive = _smooth(self._ends, kernel), _smooth(seen, kernel)
        leaving = map(add, reversed(ends), reversed(alive))
        at_risk = list(accumulate(leaving, initial=_PRIOR))[:0:-1]
        hazards = [(end + _PRIOR * _STEP) / risk for end, risk in zip(ends, at_risk, strict=True)]
        mean = self._mean(hazards, seen)
        interval = min(max(mean / _POLLS_PER_MEAN, _INTERVAL_MIN), _INTERVAL_MAX)
        polls = (math.sqrt(mean * one) / interval for one in map(mul, hazards, _WIDTHS))
        self._polls_until = list(accumulate(polls, initial=0.0))

    def _deviation(self) -> float:
        """The standard deviation of the durations' logarithms."""
        squares: float = self._squares - self._sum**2 / max(self._count, 1)
        return math.sqrt((max(squares, 0.0) + 2 * _PRIOR_SIGMA**2) / (self._count + 1.0))

    def _mean(self, hazards: list[float], seen: list[int]) -> float:
        """The mean duration; jobs that outlast all that was seen take twice that long."""
        last = max((cell for cell in range(_CELLS) if self._ends[cell] or seen[cell]), default=0)
        left = [math.exp(-total) for total in accumulate(hazards[:last], initial=0.0)]
        reached = sum(width * part for width, part in zip(_WIDTHS, left[:last], strict=False))
        return _FIRST + reached + left[-1] * _AGES[last]


def _cell(age: float) -> int:
    return min(max(int(math.log(max(age, _FIRST) / _FIRST) / _STEP), 0), _CELLS - 1)


def _kernel(width: float) -> list[float]:
    width = max(width, _KERNEL_MIN) / _STEP
    reach = math.ceil(3 * width)
    weights = [math.exp(-((cell / width) ** 2) / 2) for cell in range(-reach, reach + 1)]
    return [weight / sum(weights) for weight in weights]


def _smooth(counts: list[int], kernel: list[float]) -> list[float]:
    smoothed, reach = [0.0] * _CELLS, len(kernel) // 2
    for cell, count in enumerate(counts):
        if count:
            for place, weight in enumerate(kernel, cell - reach):
                smoothed[min(max(place, 0), _CELLS - 1)] += count * weight
    return smoothed
