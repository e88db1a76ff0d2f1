"""Polls of a run by the automatic schedule, simulated without a client: only their times."""

from __future__ import annotations

import heapq
import math
import random
from typing import TYPE_CHECKING, NamedTuple

from oaibg.many.pacing.poll_schedule import PollSchedule
from oaibg.many.side_by_side import spread

if TYPE_CHECKING:
    from collections.abc import Callable


class Simulated(NamedTuple):
    """What a simulated run cost."""

    polls: float
    """Polls per job."""
    lag: float
    """Mean seconds from a job's end to the poll that finds it."""
    durations: list[float]

    @property
    def cost(self) -> float:
        """The product of polls per job and mean lag."""
        return self.polls * self.lag

    @property
    def fixed_cost(self) -> float:
        """The same product for the fixed interval with the same mean lag."""
        interval = 2 * self.lag
        polls = [math.ceil(seconds / interval) for seconds in self.durations]
        count = len(polls)
        lag = sum(polls) * interval - sum(self.durations)
        return sum(polls) / count * lag / count


class _Job:
    def __init__(self, number: int, created: float, seconds: float, part: float) -> None:
        self.number, self.created, self.seconds, self.part = number, created, seconds, part
        self.seen, self.due = 0.0, math.inf


def simulate(
    draw: Callable[[random.Random], float], *, jobs: int = 200, in_flight: int = 50, seed: int = 0
) -> Simulated:
    """Poll jobs whose durations are drawn; the next one starts when an end is found.

    As in a run, a new estimate may bring a poll forward, or postpone the first one of a job.
    """
    numbers = random.Random(seed)
    durations = [draw(numbers) for _ in range(jobs)]
    schedule, running = PollSchedule(), dict[int, _Job]()
    queue: list[tuple[float, int]] = []
    polls, lag, now, ended = 0, 0.0, 0.0, 0

    def plan(job: _Job) -> None:
        due = max(now, job.created + schedule.next_age(job.seen, job.part))
        if due < job.due or not job.seen:
            job.due = due
            heapq.heappush(queue, (due, job.number))

    def start(number: int) -> None:
        part = 1.0 if ended else spread(number)
        running[number] = _Job(number, now, durations[number], part)
        plan(running[number])

    for number in range(min(in_flight, jobs)):
        start(number)
    while running:
        now, number = heapq.heappop(queue)
        job = running.get(number)
        if job is None or job.due != now:
            continue
        polls, age = polls + 1, now - job.created
        before = schedule.fits
        if age >= job.seconds:
            lag, ended = lag + age - job.seconds, ended + 1
            del running[number]
            schedule.note_end(number, job.seconds)
            if ended + len(running) < jobs:
                start(ended + len(running))
        else:
            job.seen, job.part, job.due = age, 1.0, math.inf
            schedule.note_running(number, age)
            plan(job)
        if schedule.fits > before:
            for other in running.values():
                plan(other)
    return Simulated(polls / jobs, lag / jobs, durations)
