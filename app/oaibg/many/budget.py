"""Keeps a run below its cost limit: decides whether one more job may be submitted."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from oaibg.api.payload import WITH_OUTPUT
from oaibg.base.text import dollars
from oaibg.contract.errors import ExitCode, UsageError
from oaibg.contract.events import Error, Final
from oaibg.engine.totals import Totals

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.many.results.results_file import ResultsFile

FIRST = 5
"""Jobs that may run at once before the cost of any job is known; each known cost allows one more.
"""


class Budget:
    """Admits jobs while the cost of a run, as far as it can be foreseen, is within a limit.

    That is the known cost of the jobs that ended, and the average of these costs for each job that
    is running, that may be running, or that asks to be submitted. A job that failed or was
    cancelled without a `usage` counts as free.
    """

    def __init__(self, limit: float | None, results: ResultsFile) -> None:
        """Start with the jobs that have results; without a limit, all jobs are admitted."""
        self._limit = limit
        self._ended = Totals()
        self._ended.include(results.totals)
        self._unpriced = results.unpriced
        self._lost = 0
        """Jobs that may be running, and whose cost this process won't know."""
        self._running: set[str] = set()
        self._waiting: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self.is_spent = False
        """Whether a job was not admitted."""

    def start(self, *, jobs: int, followed: int, lost: int) -> None:
        """Count the jobs without a result, and those of them with an unknown outcome.

        Raises `UsageError` if none of them can be followed, and none is admitted: then the same
        command would never do anything.
        """
        self._lost = lost
        if jobs and not followed and not self._has_room:
            code, message = self.reason()
            raise UsageError(message, code=code, hint="No job was submitted.")

    def reason(self) -> tuple[str, str]:
        """Return why no job is admitted any more, and what to do: a code and a message."""
        if self._unpriced is not None:
            return "price_unknown", (
                f"The cost of the job {self._unpriced!r} is unknown, because its response has no "
                "`usage`, or its model has no known price. The run stopped submitting jobs; to "
                "submit the others without a limit, omit --max-cost-usd."
            )
        return "cost_limit", limit_reached(self._limit or 0.0, self._ended, self._lost)

    @property
    def _has_room(self) -> bool:
        """Whether one more job may be submitted now."""
        if self._limit is None:
            return True
        if self._unpriced is not None or len(self._running) >= FIRST + self._ended.priced:
            return False
        return is_within(self._limit, self._ended, len(self._running) + self._lost + 1)

    async def admit(self, custom_id: str) -> bool:
        """Wait until a job may be submitted; False if no job may be submitted any more.

        The decision falls once there is room, or once no job is running that could make room.
        """
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((custom_id, place))
        self._decide()
        return await place

    def join(self, custom_id: str) -> None:
        """Count a job that an earlier process submitted as running."""
        self._running.add(custom_id)

    def settle(self, custom_id: str, event: Event | None) -> None:
        """Count how a job ended in this process; ignores jobs that were not running."""
        if custom_id not in self._running:
            return
        self._running.remove(custom_id)
        if isinstance(event, Final):
            self._ended.add(None, event.cost_usd)
            if event.cost_usd is None and event.status in WITH_OUTPUT:
                self._unpriced = self._unpriced or custom_id
        elif event is not None and not _was_not_paid(event):
            self._lost += 1
        self._decide()

    def _decide(self) -> None:
        """Answer the first jobs in the queue, as far as that is possible now."""
        while self._waiting and (self._has_room or not self._running):
            custom_id, place = self._waiting.popleft()
            if place.done():  # a signal cancelled it
                continue
            admitted = self._has_room
            if admitted:
                self._running.add(custom_id)
            self.is_spent = self.is_spent or not admitted
            place.set_result(admitted)


def is_within(limit: float, ended: Totals, jobs: int) -> bool:
    """Return whether so many more jobs, at the average cost of those that ended, fit the limit."""
    return round((ended.cost_usd or 0.0) + _average(ended) * jobs, 9) <= limit


def limit_reached(limit: float, ended: Totals, lost: int) -> str:
    """Return why no job is submitted any more; `lost` is how many of unknown outcome there are."""
    spent = dollars(ended.cost_usd or 0.0)
    unsure = f", and {lost:,} more may be running" if lost else ""
    return (
        f"The run has cost {spent} for {ended.priced:,} jobs{unsure}. One more job, at the average "
        f"of {dollars(_average(ended))}, could exceed the limit of {dollars(limit)}. The run "
        "stopped submitting jobs; to submit the others, raise --max-cost-usd in the command."
    )


def _average(ended: Totals) -> float:
    return (ended.cost_usd or 0.0) / (ended.priced or 1)


def _was_not_paid(event: Event) -> bool:
    """Whether a job was certainly not created, or has ended without a `usage`."""
    if not isinstance(event, Error):
        return False
    return event.outcome == "not_created" or event.exit_code == ExitCode.NOT_FOUND
