"""A jobs file's run: each of its jobs once, in background mode, however often the run is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import ApiRefused, AuthRefused, ExitCode, Unavailable
from oaibg.engine import report
from oaibg.engine.commands import closing, see_through
from oaibg.engine.create import Created, create_locked
from oaibg.engine.follow import PollTimes
from oaibg.engine.job import Job
from oaibg.engine.submission import Submission
from oaibg.engine.verdicts import SPENT, is_no_api
from oaibg.many.plan import locked_run, rows_of
from oaibg.many.results_file import ResultsFile, code_of, line_id
from oaibg.many.side_by_side import side_by_side, spread
from oaibg.many.tally import Tally
from oaibg.state.file import StateError
from oaibg.state.store import line_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.plan import Plan
    from oaibg.many.side_by_side import Member
    from oaibg.request.jobs_file import Line
    from oaibg.state.store import Row


async def submit_file(plan: Plan, own: Job, context: Context) -> Event:
    """Submit the jobs of a file, and follow each to its end.

    What has ended, by the results file or the state, is not submitted again; what runs is followed.

    Args:
        plan: what to do.
        own: what is known of the run itself.
        context: what to work with.
    """
    return await closing(_submit_file(plan, own, context), own, context)


async def _submit_file(plan: Plan, own: Job, context: Context) -> Event:
    with locked_run(plan.key, context):
        rows = await rows_of(plan, context, batch=False)
        scope = f"{context.base_url}\n{plan.key}"
        ids = {
            line.custom_id: line_id(scope, line.custom_id, line.sha256) for line in plan.file.lines
        }
        with ResultsFile(plan.results_path, ids) as results:
            run = _FileRun(plan, rows, results, context)
            own.hand_over_outcome()
            members = run.members()
            await side_by_side(
                members, run.tally, context.but(results=results), at_once=plan.max_in_flight
            )
            for _ in members:
                pass  # what a signal has kept from beginning is counted
        next_ = context.next_command.rerun() if run.is_unfinished else None
        return run.tally.summary(context, next_=next_)


class _FileRun:
    """What a run's jobs share."""

    def __init__(
        self, plan: Plan, rows: dict[str, Row], results: ResultsFile, context: Context
    ) -> None:
        self.tally = Tally()
        self._plan, self._context = plan, context
        self._rows, self._results = rows, results
        self._stopped = False
        """Whether nothing more is submitted: it would fail, too."""

    @property
    def is_unfinished(self) -> bool:
        """Whether the same command has something left to do."""
        lines, done = self._plan.file.lines, self._results.statuses
        left = sum(line.custom_id not in done for line in lines)
        counts = self.tally.counts
        return left > counts["outcome_unknown"] + counts["not_found"]

    def members(self) -> Iterator[Member]:
        """The jobs that are not done: those first that are alive at the API."""
        todo = []
        for line in self._plan.file.lines:
            ended = self._results.statuses.get(line.custom_id)
            if ended is not None:
                self.tally.count(ended, code_of(ended))
            else:
                todo.append(line)
        todo.sort(key=self._is_new)
        for number, line in enumerate(todo):
            if (status := self._left_alone(line, number)) is not None:
                self.tally.count(status, ExitCode.STILL_RUNNING)
            else:
                yield self._member(line, number)

    def _is_new(self, line: Line) -> bool:
        row = self._rows.get(line.custom_id)
        return row is None or row.step == "intent"

    def _left_alone(self, line: Line, number: int) -> str | None:
        """What a job counts as that is not begun with any more; None for the others."""
        interrupted = self.tally.interrupted
        late = self._is_late()
        if self._is_new(line):
            return "not_submitted" if self._stopped or interrupted or late else None
        # A start that took the whole wait budget still leaves one look at what is alive.
        if interrupted or (late and number >= self._plan.max_in_flight):
            return self._rows[line.custom_id].status or "unknown"
        return None

    def _is_late(self) -> bool:
        return self._context.clock.monotonic() >= self._context.deadline

    def _member(self, line: Line, number: int) -> Member:
        async def run(context: Context) -> Event | None:
            wait = context.wait
            job = Job(submitting=True, custom_id=line.custom_id, streams=wait.stream)
            times = PollTimes(wait.poll_seconds, spread=spread(number))
            return await closing(self._submit(line, job, times, context), job, context)

        return line.custom_id, run

    async def _submit(
        self, line: Line, job: Job, times: PollTimes, context: Context
    ) -> Event | None:
        created = await self._create(line, job, context)
        if created is None:
            self.tally.count("not_submitted", ExitCode.STILL_RUNNING)
            return None
        return await see_through(created, job, context, times, one_of_many=True)

    async def _create(self, line: Line, job: Job, context: Context) -> Created | None:
        """Create a job; None if the wait budget was spent before it could be created."""
        plan = self._plan
        request = plan.file.request(line)
        await context.emit(report.submit_start(request, plan.key, context.wait.poll_seconds))
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
            if refusal.code in SPENT or is_no_api(refusal):
                self._stopped = True
            else:
                await self._note(line, refusal, job, context)
            raise
        except Unavailable:
            if self._is_late():
                return None
            self._stopped = True
            raise
        except (AuthRefused, StateError):
            self._stopped = True
            raise

    async def _note(self, line: Line, refusal: ApiRefused, job: Job, context: Context) -> None:
        """A refusal is a result, too."""
        try:
            await self._results.add_refusal(line.custom_id, refusal)
        except OSError as error:
            await context.emit(report.not_written(job, self._results.path, error))
