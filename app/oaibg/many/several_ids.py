"""Several jobs on one command line: each is followed or cancelled like a single job.

A run over a jobs file stands for those of its jobs that are running.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import ExitCode
from oaibg.contract.run_status import without_result
from oaibg.engine import commands, report
from oaibg.engine.artifacts import check_artifacts
from oaibg.engine.job import Job
from oaibg.engine.persist import state_error
from oaibg.engine.poll import PollTimes
from oaibg.many.pacing.pace import CONNECTIONS
from oaibg.many.progress import Progress
from oaibg.many.run_hint import after_cancel
from oaibg.many.run_jobs import RunJobs, RunningJob
from oaibg.many.run_now import is_submitting
from oaibg.many.run_report import active_hint, existing_results
from oaibg.many.side_by_side import side_by_side, spread
from oaibg.many.tally import Tally
from oaibg.state.commits import patiently
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.find import Target
    from oaibg.many.side_by_side import Member
    from oaibg.state.runs import RunRow

    Command = Callable[[Target, Job, Context, PollTimes], Awaitable[Event | None]]

AT_ONCE = 100_000
"""Maximum number of jobs that are followed at once."""

_FIRST_GAP = 0.0025
"""Seconds between the first polls of two jobs."""

_STOP_SECONDS, _STOP_INTERVAL = 10.0, 1.0
"""How long a cancel waits for another process that is sending a request, and between two looks."""


class Several(Record):
    """The jobs that a command names one by one, and the runs that it names."""

    targets: list[Target]
    runs: list[RunRow]

    @property
    def total(self) -> int:
        """The number of jobs."""
        return len(self.targets) + sum(run.total for run in self.runs)

    @property
    def known_as(self) -> str | None:
        """The name of the run for people, if the command names nothing else."""
        return None if self.run is None else self.run.known_as

    @property
    def run(self) -> RunRow | None:
        """The run, if the command names nothing else."""
        return self.runs[0] if len(self.runs) == 1 and not self.targets else None


async def monitor(own: Job, several: Several, context: Context) -> Event:
    """Follow existing jobs, each to its end; `own` stands for the run itself."""
    return await commands.closing(_monitor(several, context), own, context)


async def cancel(own: Job, several: Several, context: Context) -> Event:
    """Cancel jobs, and report the actual status of each."""
    return await commands.closing(_cancel(several, context), own, context)


async def _monitor(several: Several, context: Context) -> Event:
    for target in several.targets:
        if target.response_id is not None:
            check_artifacts(Job(target.response_id), context.output)
    tally = Tally()
    parts = [RunJobs(run, tally, context) for run in several.runs]
    await _each(several, parts, commands.monitor, tally, context, AT_ONCE, is_watching=True)
    for part in parts:
        for job in part.look_again():  # submitted after the wait limit or a signal
            tally.count(without_result(job.status), ExitCode.STILL_RUNNING)
        part.count_rest()
    left = [*tally.unfinished, *(part.run.run_key for part in parts if part.may_submit)]
    run = several.run
    if run is None:
        folder = context.folder_of(Job(left[0])) if len(left) == 1 else ""  # as in this run
        next_ = context.next_command.monitor(left, folder=folder)
        return tally.summary(context, next_=next_)
    next_ = context.next_command.monitor([run.run_key] if left else [])
    (part,) = parts
    for warning in (*part.note_unwritten(), *([] if left else part.note_limit())):
        await context.emit(warning)
    if part.is_unfinished and not part.may_submit:
        next_ = part.run.argv or next_
    path, key = existing_results(run), run.run_key
    summary = tally.summary(context, next_=next_, results_file=path, job_key=key)
    if not part.may_submit:
        return summary
    message = f"Another process is running {run.run_key}, and submits the jobs that are left."
    await context.emit(report.warning(Job(), "run_active", message))
    return summary.but(hint=active_hint(run))


async def _cancel(several: Several, context: Context) -> Event:
    tally = Tally()

    async def command(target: Target, job: Job, context: Context, _: PollTimes) -> Event | None:
        event, ended = await commands.cancel(target, job, context), job.recap
        if ended is None:
            return event
        tally.totals.add(ended.usage, ended.cost)
        if ended.status == "cancelled" or not isinstance(target, RunningJob):
            return event
        # A job of a run that had ended before is counted, but is not an error.
        tally.count(ended.status, ExitCode.OK)
        if (unsuccessful := ended.unsuccessful(job.custom_id, job.response_id)) is not None:
            tally.note_unsuccessful(unsuccessful)
        await context.emit(event.but(exit_code=ExitCode.OK))
        return None

    unstopped = [run for run in several.runs if not await _stop(run, context)]
    parts = [RunJobs(run, tally, context, to_cancel=True) for run in several.runs]
    for part in parts:
        part.count_rest()
    # No more than the pace admits: a job that waits too long reports the API as unavailable.
    await _each(several, parts, command, tally, context, CONNECTIONS[1])
    for run in unstopped:
        message = (
            f"Another process is still submitting a job of {run.run_key}. Stop it, and cancel the "
            "run again."
        )
        tally.note_problem(message)
        await context.emit(report.warning(Job(), "run_active", message))
    next_ = context.next_command.monitor(tally.unfinished)
    if unstopped:
        next_ = context.next_command.cancel([run.run_key for run in unstopped])
    only = several.run
    path, key = (None, None) if only is None else (existing_results(only), only.run_key)
    summary = tally.summary(context, next_=next_, results_file=path, job_key=key)
    return summary if unstopped else summary.but(hint=after_cancel(summary))


async def _stop(run: RunRow, context: Context) -> bool:
    """Note that a run is cancelled, so that no process submits further jobs of it.

    Returns whether, after a while, no process is submitting a job any more.
    """
    clock, store = context.clock, context.store
    try:
        await patiently(lambda: store.cancel_run(run.base_url, run.run_key), clock)
    except StateError as error:
        raise state_error(error) from error
    if is_submitting(run, context) is None:
        return True
    give_up = clock.monotonic() + _STOP_SECONDS
    while clock.monotonic() < give_up:
        await clock.sleep(_STOP_INTERVAL)  # the process may be about to send a request
        if not is_submitting(run, context):
            return True
    return False


async def _each(
    several: Several,
    parts: list[RunJobs],
    command: Command,
    tally: Tally,
    context: Context,
    at_once: int,
    *,
    is_watching: bool = False,
) -> None:
    """Run a command for each job; `is_watching` includes jobs that are submitted meanwhile."""
    wait = context.wait
    running = {job.response_id: job for part in parts for job in part.running}
    named = [target for target in several.targets if target.response_id not in running]
    targets = [*named, *running.values()]
    interval, count = wait.poll_seconds, len(targets)
    # Polls each job for the first time early, but not thousands at the same moment.
    first = min(count * _FIRST_GAP, interval)

    def member(number: int, target: Target) -> Member:
        part = spread(number) if first < interval else 1.0
        early = first * number / count if number < count else 0.0
        times = PollTimes(interval, first=early, spread=part)
        job = Job(target.response_id, custom_id=target.custom_id, streams=wait.stream)
        return job, lambda context: command(target, job, context, times)

    async def members() -> AsyncIterator[Member]:
        for one in enumerate(targets):
            yield member(*one)
        numbers = itertools.count(count)
        while is_watching and (left := context.deadline - context.clock.monotonic()) > 0:
            active = [part for part in parts if part.may_submit and not part.run.is_batch]
            if not active:
                return
            await context.clock.sleep(min(interval, left))
            for part in active:
                for job in part.look_again():
                    yield member(next(numbers), job)

    total = len(named) + sum(run.total for run in several.runs)
    progress = Progress(tally, context, total)
    if is_watching and parts and wait.events != "summary":
        await context.emit(progress.event())
    await side_by_side(members(), progress, context, at_once=at_once)
