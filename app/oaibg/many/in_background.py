"""A jobs file's run: each of its jobs once, in background mode, however often the run is begun."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import ApiRefused, AuthRefused, ExitCode, Unavailable, UsageError
from oaibg.engine.commands import see_through, told
from oaibg.engine.context import insist, state_error
from oaibg.engine.create import Submission, create_locked
from oaibg.engine.job import Job
from oaibg.engine.verdicts import SPENT, is_no_api
from oaibg.many.results_file import ResultsFile, code_of, line_id
from oaibg.many.side_by_side import Tally, side_by_side, spread
from oaibg.state.file import StateError
from oaibg.state.store import line_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Tools
    from oaibg.many.side_by_side import Member
    from oaibg.request.jobs_file import JobsFile, Line
    from oaibg.state.store import Row


class Plan(Record):
    """What a run is to do.

    Args:
        file: the jobs.
        key: what the run is known by when it is begun again.
        results_path: where the results go.
        max_in_flight: how many jobs may be alive at the API.
        completion_window: what the jobs ask for.
        resubmit_unknown: whether to submit again what may have been submitted.
    """

    file: JobsFile
    key: str
    results_path: str
    max_in_flight: int
    completion_window: str | None
    resubmit_unknown: bool


def submit_file(plan: Plan, own: Job, tools: Tools) -> AsyncIterator[Event]:
    """Submit the jobs of a file and follow each to its end.

    What has ended, by the results file or the state, is not submitted again; what runs is followed.

    Args:
        plan: what to do.
        own: what is known of the run itself, with the options of all its jobs.
        tools: what it works with.
    """
    return told(_submit_file(plan, own, tools), own, tools)


async def _submit_file(plan: Plan, own: Job, tools: Tools) -> AsyncIterator[Event]:
    with locked_run(plan.key, tools):
        rows = await insist(lambda: tools.store.of_run(tools.base_url, plan.key), tools)
        check_begun(plan.file, rows, batch=False)
        scope = f"{tools.base_url}\n{plan.key}"
        ids = {
            line.custom_id: line_id(scope, line.custom_id, line.sha256) for line in plan.file.lines
        }
        with ResultsFile(plan.results_path, ids) as results:
            run = _FileRun(plan, own, rows, results, tools)
            own.outcome = None  # from here on each job has its own
            members = run.members()
            async for event in side_by_side(members, run.tally, at_once=plan.max_in_flight):
                yield event
            for _ in members:
                pass  # what a signal has kept from beginning is counted
        yield run.tally.summary(tools, next_=own.again if run.is_unfinished else None)


@contextmanager
def locked_run(key: str, tools: Tools) -> Iterator[None]:
    """Hold a run's lock.

    Raises:
        UsageError: the state can't be used, without which a run can't be taken up again.
        Unavailable: another process is at this run.
    """
    problem = tools.state_problem
    if problem is not None and problem.code != "state_corrupt":
        raise state_error(problem)
    lock = tools.store.lock(tools.base_url, line_key(key, ""))
    if lock is None:
        raise Unavailable(
            f"Another process is running the jobs of {key!r} right now.",
            code="job_key_busy",
            outcome="not_created",
        )
    try:
        yield
    finally:
        tools.store.unlock(lock)


def check_begun(file: JobsFile, rows: dict[str, Row], *, batch: bool) -> None:
    """Refuse a file that is not the one that the run was begun with.

    Raises:
        UsageError: a body was changed, or the run was begun the other way.
    """
    if rows and batch != ("" in rows):
        way = "as a batch (--completion-window 24h)" if "" in rows else "in background mode"
        raise UsageError(
            f"{file.path}: this run was begun {way}, and goes on that way.",
            code="job_key_reused",
            hint="--job-key KEY, with a results file of its own, begins another run of the same "
            "file, which is paid for again.",
        )
    changed = [
        line
        for line in file.lines
        if line.custom_id in rows and rows[line.custom_id].request_sha256 != line.sha256
    ]
    if changed:
        named = ", ".join(f"{line.custom_id!r} (line {line.number})" for line in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise UsageError(
            f"{file.path}: another request was submitted under the same custom_id: {named}{more}.",
            code="job_key_reused",
            hint="Give a changed request a new custom_id, or begin another run with --job-key KEY "
            "and a results file of its own. The options that fill the bodies count, too.",
        )


class _FileRun:
    """What a run's jobs share."""

    def __init__(
        self, plan: Plan, own: Job, rows: dict[str, Row], results: ResultsFile, tools: Tools
    ) -> None:
        self.tally = Tally()
        self._plan, self._own, self._tools = plan, own, tools
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
        return self._tools.clock.monotonic() >= self._tools.deadline(self._own)

    def _member(self, line: Line, number: int) -> Member:
        own = self._own
        job = Job(
            wait=own.wait,
            output=own.output,
            submitting=True,
            custom_id=line.custom_id,
            run=own.run,
            spread=spread(number),
            results=self._results,
        )
        return job, told(self._submit(line, job), job, self._tools)

    async def _submit(self, line: Line, job: Job) -> AsyncIterator[Event]:
        try:
            async for event in self._create(line, job):
                yield event
        except _LeftOverError:
            self.tally.count("not_submitted", ExitCode.STILL_RUNNING)
            return
        async for event in see_through(job, self._tools, one_of_many=True):
            yield event

    async def _create(self, line: Line, job: Job) -> AsyncIterator[Event]:
        plan = self._plan
        request = plan.file.request(line)
        yield job.submit_start(request, plan.key)
        submission = Submission(
            request=request,
            model=line.model,
            completion_window=plan.completion_window,
            job_key=line_key(plan.key, line.custom_id),
            resubmit_unknown=plan.resubmit_unknown,
            custom_id=line.custom_id,
        )
        row = self._rows.get(line.custom_id)
        try:
            async for event in create_locked(submission, row, job, self._tools):
                yield event
        except ApiRefused as refusal:
            if refusal.code in SPENT or is_no_api(refusal):
                self._stopped = True
            else:
                await self._note(line, refusal, job)
            raise
        except Unavailable:
            if self._is_late():
                raise _LeftOverError from None
            self._stopped = True
            raise
        except (AuthRefused, StateError):
            self._stopped = True
            raise

    async def _note(self, line: Line, refusal: ApiRefused, job: Job) -> None:
        """A refusal is a result, too."""
        try:
            await self._results.add_refusal(line.custom_id, refusal)
        except OSError as error:
            job.untold.append(job.not_written(self._results.path, error))


class _LeftOverError(Exception):
    """The wait budget was spent before a job could be created."""
