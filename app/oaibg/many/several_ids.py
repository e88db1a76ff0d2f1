"""Several response IDs on one command line: each is followed or cancelled like a single job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.engine import commands
from oaibg.engine.artifacts import check_artifacts
from oaibg.engine.find import Target
from oaibg.engine.job import Job
from oaibg.engine.poll import PollTimes
from oaibg.many.pace import CONNECTIONS
from oaibg.many.progress import Progress
from oaibg.many.side_by_side import side_by_side, spread
from oaibg.many.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.side_by_side import Member

    Command = Callable[[Target, Job, Context, PollTimes], Awaitable[Event]]

AT_ONCE = 100_000
"""Maximum number of jobs that are followed at once."""

_FIRST_GAP = 0.0025
"""Seconds between the first polls of two jobs."""


async def monitor(own: Job, response_ids: list[str], context: Context) -> Event:
    """Follow existing jobs, each to its end; `own` stands for the run itself."""
    return await commands.closing(
        _each(response_ids, commands.monitor, context, AT_ONCE), own, context
    )


async def cancel(own: Job, response_ids: list[str], context: Context) -> Event:
    """Cancel jobs, and report the actual status of each."""

    def command(target: Target, job: Job, context: Context, _: PollTimes) -> Awaitable[Event]:
        return commands.cancel(target, job, context)

    # No more than the pace admits: a job that waits too long reports the API as unavailable.
    return await commands.closing(
        _each(response_ids, command, context, CONNECTIONS[1]), own, context
    )


async def _each(response_ids: list[str], command: Command, context: Context, at_once: int) -> Event:
    for response_id in response_ids:
        check_artifacts(response_id, context.output)
    tally, wait = Tally(), context.wait
    interval, count = wait.poll_seconds, len(response_ids)
    # Polls each job for the first time early, but not thousands at the same moment.
    first = min(count * _FIRST_GAP, interval)

    def member(number: int, response_id: str) -> Member:
        part = spread(number) if first < interval else 1.0
        times = PollTimes(interval, first=first * number / count, spread=part)
        job, target = Job(response_id, streams=wait.stream), Target(response_id=response_id)
        return None, lambda context: command(target, job, context, times)

    members = (member(*one) for one in enumerate(response_ids))
    await side_by_side(members, Progress(tally, context, count), context, at_once=at_once)
    left = tally.unfinished
    folder = context.folder_of(Job(left[0])) if len(left) == 1 else ""  # as in this run
    return tally.summary(context, next_=context.next_command.monitor(left, folder=folder))
