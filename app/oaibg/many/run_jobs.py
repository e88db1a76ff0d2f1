"""What is known of a run over a jobs file, from any process: by the local state and its results.

While another process runs it, the state is current; lines of the results file are added to it for
jobs that have no row there, because the API refused them.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.engine import report
from oaibg.engine.claim import LOST_JOB
from oaibg.engine.find import Target
from oaibg.engine.job import Job
from oaibg.engine.persist import state_error
from oaibg.engine.recap import Recap
from oaibg.many.budget import is_within, limit_reached
from oaibg.many.results.replaced import ReplacedLines
from oaibg.many.results.result_line import SUCCESSFUL, code_of, custom_id_of, read_line
from oaibg.many.results.results_table import lines_path
from oaibg.many.retry import replaced_marks
from oaibg.many.run_now import batch_jobs_of, is_active, run_now
from oaibg.many.run_speed import ENDED_ROW, run_speed
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError
from oaibg.state.rows import BATCH_WINDOW

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.results.result_line import ResultLine
    from oaibg.many.tally import Tally
    from oaibg.state.rows import Row
    from oaibg.state.runs import RunRow

_LOST = Recap(status="outcome_unknown", code="outcome_unknown", message=LOST_JOB)


class RunningJob(Target):
    """A job of a run that was submitted, and has not ended by the local state."""

    status: str | None


class RunJobs:
    """The jobs of a run that are running; the others are counted in a tally.

    `count_rest` counts those that were not submitted, which the process of the run may still do.
    With `to_cancel`, jobs that have ended or were not submitted count as successes: only a job
    whose outcome is unknown may still be running. Raises `OaibgError` if the local state can't be
    read.
    """

    def __init__(
        self,
        run: RunRow,
        tally: Tally,
        context: Context,
        *,
        to_cancel: bool = False,
        fetched: Mapping[str, ResultLine] | None = None,
    ) -> None:
        self.run, self._tally, self._to_cancel = run, tally, to_cancel
        self._context, self._fetched = context, fetched or {}
        self.is_active = False
        """Whether another process runs it now."""
        self.running: list[RunningJob] = []
        self._known: set[str] = set()
        """The custom_ids of the jobs that are running or counted."""
        self._sent: list[str] = []
        """The custom_ids of the jobs whose request was sent, but whose ID is not known."""
        self._paid: set[str | None] = set()
        """The response IDs of the jobs whose usage is counted, or is counted when they end."""
        self.is_unfinished = False
        """Whether a rerun has something to do, apart from waiting for running jobs."""
        self.batch_id: str | None = None
        self.per_minute: float | None = None
        """How many jobs ended per minute; None if no process runs the run, or none has ended."""
        self._unwritten = 0
        """The number of jobs that have ended, but have no line in the results file."""
        self.updated_at = run.updated_at
        """The Unix time of the last change."""
        self._look(is_first=True)
        if run.is_cancelled and not to_cancel:
            tally.note_cancelled()

    def look_again(self) -> list[RunningJob]:
        """Return the jobs that were submitted since the last look, even if they have ended."""
        before = len(self.running)
        self._note_cancel()
        self._look(is_first=False)
        return self.running[before:]

    @property
    def may_submit(self) -> bool:
        """Whether another process runs the run, and may submit more of its jobs."""
        return self.is_active and not self.run.is_cancelled

    def count_rest(self) -> None:
        """Count the jobs that have no ID, by whether a process still runs the run."""
        if self.run.is_batch:
            return
        for custom_id in self._sent:
            if self.is_active:  # it is being submitted, and a cancel would not reach it
                self._tally.count("not_submitted", ExitCode.STILL_RUNNING)
                self.is_unfinished = not self.run.is_cancelled
            else:
                self._count("outcome_unknown", ExitCode.OUTCOME_UNKNOWN)
                self._note(custom_id, None, _LOST)
        if (left := self.run.total - len(self._known) - len(self._sent)) > 0:
            self._count_not_submitted(left)

    def note_unwritten(self) -> list[Event]:
        """Count the results that the results file lacks; return a warning if there are any."""
        message = self.unwritten()
        if not message:
            return []
        self.is_unfinished = True
        self._tally.note_unwritten()
        self._tally.note_problem(message)
        return [report.warning(Job(), "results_missing", message)]

    def note_limit(self) -> list[Event]:
        """Return a warning if the cost limit keeps the run from submitting the other jobs."""
        tally, limit = self._tally, _cost_limit(self.run.argv or [])
        if limit is None or self.is_active or self.running or not tally.counts["not_submitted"]:
            return []
        lost = tally.counts["outcome_unknown"]
        if is_within(limit, tally.totals, lost + 1):
            return []
        message = limit_reached(limit, tally.totals, lost)
        tally.note_problem(message)
        return [report.warning(Job(), "cost_limit", message)]

    def unwritten(self) -> str:
        """Return what to do about results that the results file lacks; empty if it lacks none."""
        if self.is_active or self.run.results_file is None or not self._unwritten:
            return ""
        lacks = f"{self.run.results_file} lacks results of jobs that have ended"
        return f"{lacks} ({self._unwritten:,}). {self._to_get_results()}"

    def _to_get_results(self) -> str:
        """Return how to get results that the results file lacks."""
        if not (self.run.is_cancelled and self._tally.counts["not_submitted"]):
            return "Repeat the submit command to write them."
        list_jobs = shlex.join(["oaibg", "show", "--list", "--job-key", self.run.run_key])
        return f"`oaibg show ID` has each of them; `{list_jobs}` lists the IDs."

    def _look(self, *, is_first: bool) -> None:
        run, store, clock = self.run, self._context.store, self._context.clock
        try:
            self.is_active = is_active(run, store)
            rows = patiently_blocking(lambda: store.of_run(run.base_url, run.run_key), clock)
            replaced = patiently_blocking(
                lambda: store.replaced_in_run(run.base_url, run.run_key), clock
            )
        except StateError as error:
            raise state_error(error) from error
        self.updated_at = max([run.updated_at, *(row.updated_at for row in rows.values())])
        if not run.is_batch:
            self._read_jobs(dict(reversed(rows.items())), replaced, is_first=is_first)
            if self.may_submit:
                self.per_minute = run_speed(run, rows.values(), clock.now())
        elif is_first:
            jobs = batch_jobs_of(run, self._context)
            self._read_batch(rows.get(""), {} if jobs is None else jobs.replaced)

    def _note_cancel(self) -> None:
        """Note a cancel of the run that another process made since the state was read."""
        if (now := run_now(self.run.run_key, self._context)) is not None and now.is_cancelled:
            self.run = now
            self._tally.note_cancelled()

    def _read_jobs(self, rows: dict[str, Row], replaced: list[Row], *, is_first: bool) -> None:
        ended = {custom_id for custom_id, row in rows.items() if row.status in ENDED_ROW}
        new = {custom_id: row for custom_id, row in rows.items() if custom_id not in self._known}
        if is_first:
            for row in (*rows.values(), *replaced):
                if (recap := Recap.of_row(row)) is not None:
                    self._tally.totals.add(recap.usage, recap.cost_usd(row.completion_window))
                    self._paid.add(row.response_id)
        else:
            self._paid |= {row.response_id for name, row in new.items() if name in ended}
        marks = replaced_marks(rows)
        self._tally.note_retried(marks)
        lines = self._lines(ended, marks)
        self._sent = []
        for custom_id, row in new.items():
            if custom_id in ended and is_first:
                recap = Recap.of_row(row) or Recap(status=str(row.status), code=row.status)
                status = recap.status if row.status == "completed" else str(row.status)
                self._count_end(custom_id, row.response_id, recap.but(status=status))
            elif custom_id not in ended and (custom_id in lines or row.step == "intent"):
                continue
            elif row.response_id is not None:
                self.running.append(
                    RunningJob(response_id=row.response_id, custom_id=custom_id, status=row.status)
                )
                self._paid.add(row.response_id)
            else:
                self._sent.append(custom_id)
                continue
            self._known.add(custom_id)
        for line in filter(None, lines.values()):
            if line.custom_id not in self._known:
                self._count_end(line.custom_id, line.response_id, line.recap)
                self._known.add(line.custom_id)
        self._unwritten = len(ended - lines.keys())

    def _read_batch(self, row: Row | None, replaced: dict[str, str]) -> None:
        """A batch's jobs have no rows: those without a result have the status of the batch."""
        self._tally.note_retried({name for name, mark in replaced.items() if mark})
        lines = self._lines((), replaced)
        new = {name: line for name, line in self._fetched.items() if name not in lines}
        for line in new.values():
            self._tally.totals.add(line.recap.usage, line.recap.cost_usd(BATCH_WINDOW))
        lines |= new
        self._unwritten = len(new)
        for line in filter(None, lines.values()):
            self._count_end(line.custom_id, line.response_id, line.recap)
        left = self.run.total - len(lines)
        self.batch_id = None if row is None else row.response_id
        if left <= 0:
            return
        if row is None or row.step == "intent" or (self.batch_id is None and self.is_active):
            self._count_not_submitted(left)
            return
        self.is_unfinished = self.batch_id is not None
        if self.batch_id is None:
            self._count("outcome_unknown", ExitCode.OUTCOME_UNKNOWN, jobs=left)
            self._note(None, None, _LOST)
        elif row.status == "completed":
            self._count("missing", ExitCode.LOCAL_IO, jobs=left)
        elif row.status in ENDED_ROW:
            self._count(str(row.status), code_of(str(row.status)), jobs=left)
        else:
            self._count(row.status or "unknown", ExitCode.STILL_RUNNING, jobs=left)

    def _count_not_submitted(self, jobs: int) -> None:
        """Count jobs that a rerun would submit, unless the run was cancelled."""
        self.is_unfinished = not self.run.is_cancelled
        code = ExitCode.UNSUCCESSFUL if self.run.is_cancelled else ExitCode.STILL_RUNNING
        self._count("not_submitted", code, jobs=jobs)

    def _count(
        self, status: str, code: ExitCode, *, jobs: int = 1, custom_id: str | None = None
    ) -> None:
        is_success = self._to_cancel and code != ExitCode.OUTCOME_UNKNOWN
        code = ExitCode.OK if is_success else code
        self._tally.count(status, code, jobs=jobs, custom_id=custom_id)

    def _count_end(self, custom_id: str, response_id: str | None, recap: Recap) -> None:
        self._count(recap.status, code_of(recap.status), custom_id=custom_id)
        self._note(custom_id, response_id, recap)

    def _note(self, custom_id: str | None, response_id: str | None, recap: Recap) -> None:
        if (unsuccessful := recap.unsuccessful(custom_id, response_id)) is not None:
            self._tally.note_unsuccessful(unsuccessful)

    def _lines(
        self, ended: Container[str], marks: Mapping[str, str]
    ) -> dict[str, ResultLine | None]:
        """Return the line of each job in the results file, by custom_id.

        It is None for a job in `ended`, whose row is enough. Leaves out what is not a result, such
        as a last line that is being written, and the lines that a retry replaces, by their `marks`.
        Counts the usage of all lines whose jobs have no rows.
        """
        found: dict[str, ResultLine | None] = {}
        if self.run.results_file is None:
            return found
        replaced, window = ReplacedLines(marks), BATCH_WINDOW if self.run.is_batch else None
        with suppress(OSError), open(lines_path(self.run.results_file), "rb") as file:  # noqa: PTH123
            for raw in file:
                name = custom_id_of(raw) if raw.endswith(b"\n") else None
                if name is not None and name in ended and name not in marks:
                    found[name] = None  # without parsing the line
                    continue
                line = read_line(raw)
                if line is None:
                    continue
                if line.response_id is None or line.response_id not in self._paid:
                    self._tally.totals.add(line.recap.usage, line.recap.cost_usd(window))
                    self._paid |= {line.response_id} - {None}
                if line.status not in SUCCESSFUL and replaced.end_with(line):
                    found.pop(line.custom_id, None)
                else:
                    found[line.custom_id] = None if line.custom_id in ended else line
        return found


def _cost_limit(argv: list[str]) -> float | None:
    """Return the cost limit in a command; None if it has none."""
    with suppress(ValueError, IndexError):
        return float(argv[argv.index("--max-cost-usd") + 1])
    return None
