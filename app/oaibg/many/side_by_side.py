"""Many jobs at a time: tasks in one group, their events in one order."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.contract.errors import StdoutGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.tally import Tally

    Steps = Callable[[Context], Awaitable[Event | None]]
    Member = tuple[str | None, Steps]
    """A job: its name in its file, and what runs it. It returns the event that ends the job's part
    of the run; None if the job is counted already."""

_COLLECTIONS = 50_000, 20, 100
"""Objects, and younger collections, between two collections of garbage."""

_GOLDEN = 0.6180339887498949


def spread(number: int) -> float:
    """A part of an interval for the job of that number: any row of them lies evenly in (0, 1]."""
    return 1.0 - number * _GOLDEN % 1


async def side_by_side(
    members: Iterator[Member], tally: Tally, context: Context, *, at_once: int
) -> None:
    """Run jobs at the same time, and emit their events as they come.

    A cancelled task (a signal) ends the wait of all of them. If stdout is gone, creates that are
    under way still get their replies.

    Args:
        members: asked for the next one when there is room for it.
        tally: takes each job's end.
        context: what to work with; each job gets a copy with an `emit` of its own.
        at_once: how many may run at a time.

    Raises:
        StdoutGone: nobody takes the events.
    """
    outbox: asyncio.Queue[Event | None] = asyncio.Queue()
    # Thousands of jobs are objects that stay: to look through them again and again finds nothing.
    gc.set_threshold(*_COLLECTIONS)
    running = asyncio.create_task(_run_all(members, tally, context, outbox, at_once))
    while True:
        try:
            event = await outbox.get()
            if event is None:
                break
            await context.emit(event)
        except asyncio.CancelledError:
            tally.note_interrupt()
            running.cancel()
        except StdoutGone:
            context.shared.abandon()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
            raise
    with suppress(asyncio.CancelledError):
        await running


async def _run_all(
    members: Iterator[Member],
    tally: Tally,
    context: Context,
    outbox: asyncio.Queue[Event | None],
    at_once: int,
) -> None:
    slots = asyncio.Semaphore(at_once)

    async def run(custom_id: str | None, steps: Steps) -> None:
        async def emit(event: Event) -> None:
            outbox.put_nowait(event if event.of else event.of_many(custom_id))

        try:
            closing = await steps(context.but(emit=emit))
            if closing is not None:
                tally.take(closing)
                await emit(closing)
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                member = next(members, None)
                if member is None:
                    break
                group.create_task(run(*member))
    finally:
        outbox.put_nowait(None)
