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
from oaibg.contract.run_status import without_result
from oaibg.engine import commands, report
from oaibg.engine.claim import Submission
from oaibg.engine.create import create_locked
from oaibg.engine.job import Job
from oaibg.engine.persist import finished, in_thread, state_error
from oaibg.engine.poll import PollTimes
from oaibg.many.budget import Budget
from oaibg.many.finished_artifacts import save_finished_artifacts
from oaibg.many.pacing.learned_times import LearnedTimes
from oaibg.many.pacing.poll_schedule import PollSchedule
from oaibg.many.plan import locked_run, note_run
from oaibg.many.progress import Progress
from oaibg.many.results.line_id import id_of
from oaibg.many.results.lost_lines import restore_lost_lines
from oaibg.many.results.result_line import code_of
from oaibg.many.results.result_row import ResultRow
from oaibg.many.results.results_file import ResultsFile
from oaibg.many.results.results_table import ResultsTable
from oaibg.many.retry import begin_retry, check_retry, replaced_marks, replaced_rows
from oaibg.many.run_now import run_now
from oaibg.many.side_by_side import side_by_side, spread
from oaibg.many.tally import Tally
from oaibg.state.database import RunCancelledError, StateError
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

    Jobs that ended, by the results file or the state, are not submitted again, unless they did not
    succeed and the plan retries them. Running jobs are followed.
    """
    return await commands.closing(_submit_file(plan, own, context), own, context)


async def _submit_file(plan: Plan, own: Job, context: Context) -> Event:
    async with locked_run(plan, context, batch=False) as rows:
        ids = {
            line.custom_id: id_of(context.base_url, plan.key, line.custom_id, line.sha256)
            for line in plan.file.lines
        }

        windows = {line.custom_id: line.completion_window for line in plan.file.lines}

        def window_of(custom_id: str) -> str | None:
            row = rows.get(custom_id)
            return windows[custom_id] if row is None else row.completion_window

        table = ResultsTable(plan.results_path, plan.file)
        with await in_thread(
            ResultsFile, table.lines_path, ids, replaced_marks(rows), window_of
        ) as results:
            retried = check_retry(plan, rows, results)
            results.count_replaced(await replaced_rows(plan, retried, rows, context))
            budget = _checked_budget(plan, retried, rows, results)
            results.begin()
            await note_run(plan, context, batch=False)
            rows = await begin_retry(plan, retried, rows, results, context)  # noqa: PLW2901
            run = _FileRun(plan, rows, results, budget, context.but(results=results))
            own.note_outcome(None)
            context = context.but(results=results)
            members = run.members()
            progress = Progress(run.tally, context, len(plan.file.lines))
            await save_finished_artifacts(results, progress, context)
            try:
                await side_by_side(
                    members, progress, context, at_once=plan.slots or plan.max_in_flight
                )
            finally:
                for _ in members:
                    pass  # counts the jobs that a signal kept from starting
                if await restore_lost_lines(results, plan.key, own, run.tally, context):
                    await table.write(results, run.unended, own, run.tally, context)
            if run.budget.is_spent and context.clock.monotonic() < context.deadline:
                code, message = run.budget.reason()
                run.tally.note_problem(message)
                await context.emit(report.warning(own, code, message))
        is_unfinished = len(results.missing or ()) > run.tally.counts["outcome_unknown"]
        next_ = run.next(is_unfinished=is_unfinished)
        return run.tally.summary(
            context, next_=next_, results_file=plan.results_path, job_key=plan.key
        )


def _checked_budget(
    plan: Plan, retried: list[Line], rows: dict[str, Row], results: ResultsFile
) -> Budget:
    """Return the budget, which knows of the jobs that were sent before; raises as its `start`."""
    again = {line.custom_id for line in retried}
    left = [
        None if line.custom_id in again else rows.get(line.custom_id)
        for line in _todo(plan, results)
    ]
    followed = sum(row is not None and row.response_id is not None for row in left)
    lost = sum(row is not None and row.is_unknown for row in left)
    budget = Budget(plan.max_cost_usd, results)
    budget.start(jobs=len(left), followed=followed, lost=lost)
    return budget


def _todo(plan: Plan, results: ResultsFile) -> list[Line]:
    return [line for line in plan.file.lines if line.custom_id not in results.statuses]


class _FileRun:
    """What the jobs of a run share."""

    def __init__(
        self,
        plan: Plan,
        rows: dict[str, Row],
        results: ResultsFile,
        budget: Budget,
        context: Context,
    ) -> None:
        self.tally = Tally()
        self.tally.note_retried(replaced_marks(rows))
        self.is_unretrievable = False
        """Whether the server can't return the jobs, so that a rerun would not help."""
        self._plan, self._context = plan, context
        self._rows, self._results = rows, results
        self._blocked: int | None = None
        """The exit code of what keeps further jobs from being submitted."""
        self._unended: dict[str, ResultRow] = {}
        """The jobs that were reported without a result, by custom_id."""
        self.budget = budget
        self._schedule = PollSchedule() if plan.learns_polls else None

    def unended(self, custom_id: str) -> ResultRow:
        """Return the table's row of a job without a result."""
        if custom_id in self._unended:
            return self._unended[custom_id]
        if self._is_new(custom_id):
            return ResultRow(custom_id, "not_submitted")
        row = self._rows[custom_id]
        return ResultRow(custom_id, without_result(row.status), response_id=row.response_id)

    def next(self, *, is_unfinished: bool) -> list[str] | None:
        """Return the argv that continues the run; after a cancel, it submits nothing."""
        command, tally = self._context.next_command, self.tally
        if (now := run_now(self._plan.key, self._context)) is not None and now.is_cancelled:
            tally.note_cancelled()
        if tally.is_cancelled and (tally.left or not tally.is_unwritten):
            is_running = tally.left > tally.counts["not_submitted"]
            return command.monitor([self._plan.key]) if is_running else None
        is_useful = is_unfinished and not self.is_unretrievable
        return command.rerun() if is_useful or tally.is_unwritten else None

    def members(self) -> Iterator[Member]:
        """Yield the jobs without a result, submitted ones first; count the other jobs."""
        lines, done, todo = (
            self._plan.file.lines,
            self._results.statuses,
            _todo(self._plan, self._results),
        )
        self.tally.totals.include(self._results.totals)
        streams = self._context.wait.stream
        for custom_id in [line.custom_id for line in lines if line.custom_id in done]:
            status = done[custom_id]
            self.tally.count(status, code_of(status), custom_id=custom_id)
            if (unsuccessful := self._results.unsuccessful.get(custom_id)) is not None:
                self.tally.note_unsuccessful(unsuccessful)
        for number, line in enumerate(sorted(todo, key=lambda line: self._is_new(line.custom_id))):
            if (skipped := self._skipped(line, number)) is not None:
                self.tally.count(*skipped)
            else:
                job = Job(submitting=True, custom_id=line.custom_id, streams=streams)
                yield job, partial(self._run, line, number, job)

    def _is_new(self, custom_id: str) -> bool:
        row = self._rows.get(custom_id)
        return row is None or row.step == "intent"

    def _skipped(self, line: Line, number: int) -> tuple[str, int] | None:
        """Return the status and the exit code of a job that can't be started any more, else None.

        A job that waits for nothing but its turn counts as running, so that `next` is run.
        """
        interrupted, late = self.tally.interrupted, self._is_late()
        if self._is_new(line.custom_id):
            if self._blocked is not None:
                return "not_submitted", self._blocked
            return ("not_submitted", ExitCode.STILL_RUNNING) if interrupted or late else None
        # If the start took until the wait limit, running jobs are still retrieved once.
        if interrupted or (late and number >= self._plan.max_in_flight):
            status = without_result(self._rows[line.custom_id].status)
            return status, ExitCode.STILL_RUNNING
        return None

    def _is_late(self) -> bool:
        return self._context.clock.monotonic() >= self._context.deadline

    async def _run(self, line: Line, number: int, job: Job, context: Context) -> Event | None:
        event = await commands.closing(self._submit(line, number, job, context), job, context)
        if event is not None and line.custom_id not in self._results.statuses:
            self._unended[line.custom_id] = ResultRow.of_event(line.custom_id, event)
        self.budget.settle(line.custom_id, event)
        context.shared.note_end(job)
        return event

    async def _submit(self, line: Line, number: int, job: Job, context: Context) -> Event | None:
        """Create a job and follow it; None if it was not submitted, and counted so."""
        if not await self._may_start(line):
            blocked = ExitCode.STILL_RUNNING if self._blocked is None else self._blocked
            self.tally.count("not_submitted", blocked)
            return None
        created = await self._create(line, job, context)
        if created is None:
            return None
        times = self._times(line, number, created)
        try:
            end = await commands.report_and_follow(created, job, context, times)
        except NotFound as gone:
            await self._add_end(self._results.add_gone(line.custom_id, gone), job, context)
            raise
        except NotRetrievable as refusal:
            if not context.shared.retrieved:
                self.is_unretrievable, self._blocked = True, refusal.exit_code
            raise
        else:
            if isinstance(end, Final):
                times.note_end(end.job_seconds, context.clock.monotonic())
            return end
        finally:
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

    async def _may_start(self, line: Line) -> bool:
        """Wait until the cost of the run allows a job; False if it must not be submitted."""
        row = self._rows.get(line.custom_id)
        if row is not None and row.response_id is not None:
            self.budget.join(line.custom_id)
            return True
        if not self._is_new(line.custom_id) and not self._plan.resubmit_unknown:
            return True  # it sends nothing
        if not await self.budget.admit(line.custom_id):
            self._blocked = self._blocked or ExitCode.STILL_RUNNING
        return self._blocked is None

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
            job_key=line_key(plan.key, line.custom_id),
            resubmit_unknown=plan.resubmit_unknown,
            custom_id=line.custom_id,
        )
        try:
            return await create_locked(submission, self._rows.get(line.custom_id), job, context)
        except ApiRefused as refusal:
            if refusal.is_general:
                self._blocked = refusal.exit_code
            else:
                end = self._results.add_refusal(line.custom_id, refusal)
                await self._add_end(end, job, context)
            raise
        except Unavailable as error:
            if self._is_late() and context.shared.answered:
                self.tally.count("not_submitted", ExitCode.STILL_RUNNING)
                return None
            if self._blocked == error.exit_code:  # reported by another job
                self.tally.count("not_submitted", error.exit_code)
                return None
            self._blocked = error.exit_code
            raise
        except AuthRefused as error:
            self._blocked = error.exit_code
            raise
        except RunCancelledError:
            self.tally.note_cancelled()
            self._blocked = self._blocked or ExitCode.UNSUCCESSFUL
            self.tally.count("not_submitted", self._blocked)
            return None
        except StateError as error:
            self._blocked = state_error(error).exit_code
            raise

    async def _add_end(self, adding: Awaitable[None], job: Job, context: Context) -> None:
        """Write the result of a job without a response to the results file."""
        try:
            await finished(adding)
        except OSError as error:
            warning = report.not_written(job, self._results.path, error)
            self.tally.note_unsaved(warning.message)
            await context.emit(warning)
