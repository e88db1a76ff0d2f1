"""Many jobs at once: a task for each, and one stream of their events."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.contract.errors import StdoutGone
from oaibg.contract.events import Interrupted
from oaibg.engine import report
from oaibg.engine.job import Job
from oaibg.many.pacing.in_flight import InFlight
from oaibg.many.progress import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from oaibg.contract import events
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.progress import Progress

    Steps = Callable[[Context], Awaitable[Event | None]]
    Member = tuple[Job, Steps]
    """A job, and the steps that run it. They return the event that ends the job, or None if they
    counted the job themselves."""

_GC_THRESHOLDS = 50_000, 20, 100
"""Thresholds of the garbage collector, far above the defaults."""


def spread(number: int) -> float:
    """Return a job's fraction of an interval; consecutive numbers spread evenly over (0, 1]."""
    return 1.0 - number * 0.6180339887498949 % 1  # the golden ratio


async def side_by_side(
    members: Iterator[Member] | AsyncIterator[Member],
    progress: Progress,
    context: Context,
    *,
    at_once: int | InFlight,
) -> None:
    """Run as many jobs at the same time as `at_once` admits, and emit their events as they arrive.

    Takes the next job from `members` when a job has ended, and counts each job's end in the tally
    of `progress`, which is emitted every minute with `--events summary`.
    If this task is cancelled (by a signal), all jobs stop waiting. If stdout is closed, creates
    that were sent still wait for their replies.
    """
    tally = progress.tally
    outbox: asyncio.Queue[Event | None] = asyncio.Queue()
    slots = InFlight(at_once) if isinstance(at_once, int) else at_once
    bugs: list[Exception] = []
    running_jobs = context.shared.jobs

    async def run(job: Job, steps: Steps) -> None:
        running_jobs.add(job)
        last: Event | None = None

        async def emit(event: Event) -> None:
            progress.see(job, event)
            own = event if event.of else event.of_many(job.custom_id)
            outbox.put_nowait(own.named(job.known_as, job.alias))

        try:
            last = await steps(context.but(emit=emit))
            if last is not None:
                tally.take(last, job.custom_id)
                await emit(last)
        except Exception as bug:  # noqa: BLE001 - raised once the other jobs have ended
            bugs.append(bug)
        finally:
            if not isinstance(last, Interrupted):
                running_jobs.discard(job)
            progress.leave(job)
            slots.leave()

    async def report() -> None:
        while True:
            outbox.put_nowait(progress.event())
            await context.clock.sleep(INTERVAL)

    async def run_all() -> None:
        reporting: asyncio.Task[None] | None = None
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await slots.enter(context.clock)
                    if isinstance(members, AsyncIterator):
                        member = await anext(members, None)
                    else:
                        member = next(members, None)
                    if member is None:
                        return
                    if reporting is None and context.wait.events == "summary":
                        reporting = asyncio.create_task(report())
                    group.create_task(run(*member))
        finally:
            if reporting is not None:
                reporting.cancel()

    # Thousands of jobs are long-lived objects: frequent collections would find no garbage.
    gc.set_threshold(*_GC_THRESHOLDS)
    running = asyncio.create_task(run_all())
    running.add_done_callback(lambda _: outbox.put_nowait(None))
    while True:
        try:
            event = await outbox.get()
            if event is None:
                break
            await context.emit(event)
        except asyncio.CancelledError:
            tally.note_interrupt()
            context.shared.note_running(len(running_jobs))
            running.cancel()
        except StdoutGone:
            context.shared.abandon()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
            raise
    with suppress(asyncio.CancelledError):
        await running
    if bugs:
        raise bugs[0]
    if tally.uncancelled and context.wait.cancel_on_interrupt:
        warning = _unconfirmed(len(tally.uncancelled))
        tally.note_problem(warning.message)
        await context.emit(warning)


def _unconfirmed(jobs: int) -> events.Warning:
    those = "1 job" if jobs == 1 else f"{jobs} jobs"
    message = (
        f"The API has not confirmed the cancel of {those}, which may still be running. Run `next` "
        "to cancel what still runs."
    )
    return report.warning(Job(), "cancel_unconfirmed", message)
