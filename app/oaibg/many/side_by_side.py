"""Many jobs in one run: side by side in one process, their events merged, and one summary."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.contract.events import CancelResult, Detached, Error, Interrupted, Summary, exit_code_of
from oaibg.engine import commands as jobs
from oaibg.engine.commands import Target, told
from oaibg.engine.context import event_loop
from oaibg.engine.job import Job
from oaibg.many.pace import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from typing import Any

    from oaibg.contract.events import Event
    from oaibg.engine.context import Tools

WORST = (6, 8, 7, 1, 2, 3, 9, 5, 4, 0)
"""Exit codes of single jobs, the worst first: it is the run's. A signal comes before all.

A single job has 2 where the state can't take it any more."""

AT_ONCE = 100_000
"""Jobs that are followed at the same time where nobody asks for fewer."""

_COLLECTIONS = 50_000, 20, 100
"""Objects, and younger collections, between two collections of garbage."""

_FIRST_LOOK = 0.0025
"""Seconds between the first looks at two jobs."""

_GOLDEN = 0.6180339887498949

_NEXT_BYTES = 1 << 20
"""What a command line takes on every system."""


def spread(number: int) -> float:
    """A part of an interval for the job of that number: any row of them lies evenly in (0, 1]."""
    return 1.0 - number * _GOLDEN % 1


def monitor(own: Job, response_ids: list[str], tools: Tools) -> AsyncIterator[Event]:
    """Follow jobs that were submitted before, each to its end.

    Args:
        own: what is known of the run itself, with the options of all its jobs.
        response_ids: each once.
        tools: what it works with.
    """
    return told(_each(own, response_ids, jobs.monitor, tools), own, tools)


def cancel(own: Job, response_ids: list[str], tools: Tools) -> AsyncIterator[Event]:
    """Cancel jobs, and tell the true status of each."""
    # No more than are asked at a time: who waits for long takes the API for gone.
    return told(_each(own, response_ids, jobs.cancel, tools, CONNECTIONS[1]), own, tools)


async def _each(
    own: Job,
    response_ids: list[str],
    function: Callable[[Target, Job, Tools], AsyncIterator[Event]],
    tools: Tools,
    at_once: int = AT_ONCE,
) -> AsyncIterator[Event]:
    tally = Tally()
    interval, count = own.wait.poll_seconds, len(response_ids)
    # The first look at each comes at once, but not at thousands in the same moment.
    first = min(count * _FIRST_LOOK, interval)

    def members() -> Iterator[Member]:
        for number, response_id in enumerate(response_ids):
            job = Job(
                response_id,
                wait=own.wait,
                output=own.output,
                run=own.run,
                delay=first * number / count,
                spread=spread(number) if first < interval else 1.0,
            )
            yield job, function(Target(response_id=response_id), job, tools)

    async for event in side_by_side(members(), tally, at_once=at_once):
        yield event
    yield tally.summary(tools, next_=monitor_command(own, tally.going_on))


def monitor_command(own: Job, response_ids: list[str]) -> list[str] | None:
    """The command that follows these jobs; None where there are none, or it would be too long."""
    if not response_ids or sum(len(one) + 1 for one in response_ids) > _NEXT_BYTES:
        return None
    return own.monitor_command(*response_ids)


Member = tuple[Job, "AsyncIterator[Event]"]
"""A job, and its job function."""


class Tally:
    """What has become of the jobs of a run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.going_on: list[str] = []
        """The ids of jobs that go on at the API."""
        self.interrupted = False
        """Whether a signal ended the run."""
        self.each = 1
        """How many jobs an event stands for: a batch's for all of its jobs."""
        self._codes: set[int] = set()

    def count(self, status: str, code: int, *, number: int = 1) -> None:
        """Take one more job that has come to its end in this run, or so many of them."""
        self.counts[status] += number
        self._codes.add(code)

    def take(self, event: Event) -> None:
        """Take the event that ended a job's part of the run."""
        code = exit_code_of(event)
        assert code is not None  # noqa: S101 - the caller has looked
        self.count(_status(event), code, number=self.each)
        if event.response_id is not None and _goes_on(event):
            self.going_on.append(event.response_id)

    def summary(
        self, tools: Tools, *, next_: list[str] | None, response_id: str | None = None
    ) -> Summary:
        """The line that ends the run; `response_id` is the one batch of all its jobs."""
        if self.interrupted:
            code = 128 + tools.signum()
        else:
            code = next((code for code in WORST if code in self._codes), ExitCode.OK)
        return Summary(
            response_id=response_id,
            counts=dict(self.counts),
            elapsed_seconds=tools.elapsed(),
            exit_code=code,
            next=next_,
        )


def _status(event: Event) -> str:
    """What a job counts as."""
    if isinstance(event, Error):
        if event.outcome == "unknown":
            return "outcome_unknown"
        if event.exit_code == ExitCode.NOT_FOUND:
            return "not_found"
        if event.outcome == "not_created":
            return "refused" if event.exit_code == ExitCode.ERROR else "not_submitted"
        return "unknown"
    if isinstance(event, Interrupted) and event.response_id is None:
        return "outcome_unknown" if event.outcome == "unknown" else "not_submitted"
    status: str | None = getattr(event, "status", None)
    return status or "unknown"


def _goes_on(event: Event) -> bool:
    """Whether the job is still alive at the API, as far as is known."""
    if isinstance(event, Interrupted):
        return not event.job_cancelled
    if isinstance(event, Error):
        return event.next is not None
    if isinstance(event, CancelResult) and event.exit_code == ExitCode.ERROR:
        return True  # the server refuses to cancel it
    return isinstance(event, Detached) or exit_code_of(event) == ExitCode.STILL_RUNNING


async def side_by_side(
    members: Iterator[Member], tally: Tally, *, at_once: int
) -> AsyncIterator[Event]:
    """The events of many job functions, as they come; `tally` has what became of each job.

    A cancelled task (a signal) ends the wait of all of them.

    Args:
        members: asked for the next one when there is room for it.
        tally: told of each job's end.
        at_once: how many may run at a time.
    """
    await event_loop()
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    slots = asyncio.Semaphore(at_once)
    running: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    async def run(job: Job, function: AsyncIterator[Event]) -> None:
        try:
            async for event in function:
                if exit_code_of(event) is not None:
                    tally.take(event)
                events.put_nowait(event if event.of else event.of_many(job.custom_id))
        finally:
            slots.release()

    async def feed() -> None:
        while True:
            await slots.acquire()
            member = next(members, None)
            if member is None:
                return
            start(run(*member))

    def start(steps: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(steps)
        running.add(task)
        task.add_done_callback(ended)

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            failures.append(failure)
        events.put_nowait(None)

    # Thousands of jobs are objects that stay: to look through them again and again finds nothing.
    gc.set_threshold(*_COLLECTIONS)
    start(feed())
    while running or not events.empty():
        try:
            event = await events.get()
        except asyncio.CancelledError:
            tally.interrupted = True
            for task in list(running):
                task.cancel()
            continue
        if event is not None:
            yield event
    if failures:
        raise failures[0]
