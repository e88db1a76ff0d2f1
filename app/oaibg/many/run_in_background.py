"""A jobs file's run in background mode: each job is created once, even if the run is repeated."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oaibg.contract.errors import (
    ApiRefused,
    AuthRefused,
    ExitCode,
    NotFound,
    NotRetrievable,
    Unavailable,
)
from oaibg.contract.events import Final
from oaibg.engine import commands, report
from oaibg.engine.claim import Submission
from oaibg.engine.create import create_locked
from oaibg.engine.job import Job
from oaibg.engine.poll import PollTimes
from oaibg.many.learned_times import LearnedTimes
from oaibg.many.plan import digest, locked_run
from oaibg.many.poll_schedule import PollSchedule
from oaibg.many.result_line import code_of
from oaibg.many.results_file import ResultsFile
from oaibg.many.side_by_side import side_by_side, spread
from oaibg.many.tally import Tally
from oaibg.state.database import StateError
from oaibg.state.store import line_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.create import Created
    from oaibg.many.plan import Plan
    from oaibg.many.side_by_side import Member
    from oaibg.request.jobs_file import Line
    from oaibg.state.store import Row


async def submit_file(plan: Plan, own: Job, context: Context) -> Event:
    """Submit the jobs of a file, and follow each to its end; `own` stands for the run itself.

    Jobs that ended, by the results file or the state, are not submitted again. Running jobs are
    followed.
    """
    return await commands.closing(_submit_file(plan, own, context), own, context)


async def _submit_file(plan: Plan, own: Job, context: Context) -> Event:
    async with locked_run(plan, context, batch=False) as rows:
        ids = {line.custom_id: _line_id(line, plan, context) for line in plan.file.lines}
        with ResultsFile(plan.results_path, ids) as results:
            own.note_outcome(None)
            context = context.but(results=results)
            run = _FileRun(plan, rows, results, context)
            members = run.members()
            at_once = plan.slots or plan.max_in_flight
            await side_by_side(members, run.tally, context, at_once=at_once)
            for _ in members:
                pass  # counts the jobs that a signal kept from starting
        is_unfinished = len(results.missing or ()) > run.tally.counts["outcome_unknown"]
        is_useful = is_unfinished and not run.is_unretrievable
        next_ = context.next_command.rerun() if is_useful else None
        return run.tally.summary(context, next_=next_)


def _line_id(line: Line, plan: Plan, context: Context) -> str:
    """Return the `id` of a result line, which is unique to this request in this run."""
    return f"batch_req_{digest(context.base_url, plan.key, line.custom_id, line.sha256)[:32]}"


class _FileRun:
    """What the jobs of a run share."""

    def __init__(
        self, plan: Plan, rows: dict[str, Row], results: ResultsFile, context: Context
    ) -> None:
        self.tally = Tally()
        self.is_unretrievable = False
        """Whether the server can't return the jobs, so that a rerun would not help."""
        self._plan, self._context = plan, context
        self._rows, self._results = rows, results
        self._submits_no_more = False
        """Whether to submit no further jobs, because they would fail too."""
        self._schedule = PollSchedule() if plan.learns_polls else None

    def members(self) -> Iterator[Member]:
        """Yield the jobs without a result, submitted ones first; count the other jobs."""
        lines, done = self._plan.file.lines, self._results.statuses
        todo = [line for line in lines if line.custom_id not in done]
        for ended in [done[line.custom_id] for line in lines if line.custom_id in done]:
            self.tally.count(ended, code_of(ended))
        for number, line in enumerate(sorted(todo, key=self._is_new)):
            if (status := self._status_if_skipped(line, number)) is not None:
                self.tally.count(status, ExitCode.STILL_RUNNING)
            else:
                yield line.custom_id, partial(self._run, line, number)

    def _is_new(self, line: Line) -> bool:
        row = self._rows.get(line.custom_id)
        return row is None or row.step == "intent"

    def _status_if_skipped(self, line: Line, number: int) -> str | None:
        """Return the status to count a job under if it can't be started any more, else None."""
        interrupted, late = self.tally.interrupted, self._is_late()
        if self._is_new(line):
            return "not_submitted" if self._submits_no_more or interrupted or late else None
        # If the start took until the wait limit, running jobs are still retrieved once.
        if interrupted or (late and number >= self._plan.max_in_flight):
            return self._rows[line.custom_id].status or "unknown"
        return None

    def _is_late(self) -> bool:
        return self._context.clock.monotonic() >= self._context.deadline

    async def _run(self, line: Line, number: int, context: Context) -> Event | None:
        job = Job(submitting=True, custom_id=line.custom_id, streams=context.wait.stream)
        return await commands.closing(self._submit(line, number, job, context), job, context)

    async def _submit(self, line: Line, number: int, job: Job, context: Context) -> Event | None:
        """Create a job and follow it; None if the wait limit was reached before its create."""
        created = await self._create(line, job, context)
        if created is None:
            return None
        times = self._times(line, number, created)
        try:
            end = await commands.report_and_follow(created, job, context, times)
        except NotFound as gone:
            await self._add_end(self._results.add_gone(line.custom_id, gone), job, context)
            raise
        except NotRetrievable:
            self.is_unretrievable = self._submits_no_more = True
            raise
        else:
            if isinstance(times, LearnedTimes) and isinstance(end, Final):
                times.note_end(end.job_seconds, context.clock.monotonic())
            return end
        finally:
            if isinstance(times, LearnedTimes):
                times.forget()

    def _times(self, line: Line, number: int, created: Created) -> PollTimes:
        if self._schedule is None:
            return PollTimes(self._context.wait.poll_seconds, spread=spread(number))
        row, clock = self._rows.get(line.custom_id), self._context.clock
        began = None
        if row is not None and created.reattached:
            began = clock.monotonic() - max(clock.now() - row.created_at, 0.0)
        # Until a job has ended, jobs that were created together are polled at different ages.
        part = 1.0 if self._schedule.has_ends else spread(number)
        return LearnedTimes(self._schedule, number, created=began, spread=part)

    async def _create(self, line: Line, job: Job, context: Context) -> Created | None:
        """Create a job. Its request is not kept in memory while the job runs."""
        plan = self._plan
        request = plan.file.request(line)
        interval = context.wait.poll_seconds
        if self._schedule is not None:
            interval = round(self._schedule.next_age(0.0), 3)
        await context.emit(report.submit_start(request, plan.key, interval))
        submission = Submission(
            request=request,
            model=line.model,
            completion_window=plan.completion_window,
            job_key=line_key(plan.key, line.custom_id),
            resubmit_unknown=plan.resubmit_unknown,
            custom_id=line.custom_id,
        )
        try:
            return await create_locked(submission, self._rows.get(line.custom_id), job, context)
        except ApiRefused as refusal:
            if refusal.is_general:
                self._submits_no_more = True
            else:
                end = self._results.add_refusal(line.custom_id, refusal)
                await self._add_end(end, job, context)
            raise
        except Unavailable:
            if self._is_late():
                self.tally.count("not_submitted", ExitCode.STILL_RUNNING)
                return None
            self._submits_no_more = True
            raise
        except (AuthRefused, StateError):
            self._submits_no_more = True
            raise

    async def _add_end(self, adding: Awaitable[None], job: Job, context: Context) -> None:
        """Write the result of a job without a response to the results file."""
        try:
            await adding
        except OSError as error:
            await context.emit(report.not_written(job, self._results.path, error))
