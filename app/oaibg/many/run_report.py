"""What is known of a run over a jobs file, from any process: by the local state and its results.

While another process runs it, the state is current; lines of the results file are added to it for
jobs that have no row there, because the API refused them.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.api.payload import TERMINAL
from oaibg.base.json_text import read_json
from oaibg.base.text import timestamp
from oaibg.contract.errors import ExitCode
from oaibg.contract.events import Run, Unsuccessful
from oaibg.engine import report
from oaibg.engine.find import Target
from oaibg.engine.job import Job
from oaibg.engine.persist import state_error
from oaibg.engine.recap import Recap
from oaibg.many.batch.jobs import BatchJobs
from oaibg.many.results.result_line import SUCCESSFUL, code_of, read_line
from oaibg.many.results.results_table import lines_path
from oaibg.many.tally import Tally
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError
from oaibg.state.rows import BATCH_WINDOW, NOT_FOUND, line_key

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.state.rows import Row
    from oaibg.state.runs import RunRow

_ENDED = TERMINAL | {NOT_FOUND}

_CUSTOM_ID = re.compile(rb'\{"id": ?(?:null|"[^"\\]*"), ?"custom_id": ?("(?:[^"\\]|\\.)*")')
"""The start of a line, as oaibg and the Batch API write it."""


def show_run(run: RunRow, context: Context) -> list[Event]:
    """Return the events that show a run: its line, and the summary of its jobs.

    Raises `OaibgError` if the local state can't be read.
    """
    tally = Tally()
    jobs = RunJobs(run, tally, context)
    for job in jobs.running:
        tally.count(job.status or "unknown", ExitCode.STILL_RUNNING)
    warnings = jobs.note_unwritten()
    next_ = None
    if jobs.running or jobs.is_unfinished:
        next_ = run.argv or context.next_command.monitor([run.run_key] if jobs.running else [])
    summary = tally.summary(
        context, next_=next_, response_id=jobs.batch_id, results_file=run.results_file
    )
    shown = Run(
        response_id=jobs.batch_id,
        job_key=run.run_key,
        jobs_file=run.jobs_file,
        results_file=run.results_file,
        total=run.total,
        counts=summary.counts,
        usage=summary.usage,
        cost_usd=summary.cost_usd,
        created_at=timestamp(run.created_at),
        updated_at=timestamp(jobs.updated_at),
        base_url=run.base_url,
    )
    return [*warnings, shown, summary]


class RunningJob(Target):
    """A job of a run that was submitted, and has not ended by the local state."""

    status: str | None


class RunJobs:
    """The jobs of a run that are running; the others are counted in a tally.

    With `to_cancel`, jobs that have ended or were not submitted count as successes: only a job
    whose outcome is unknown may still be running. Raises `OaibgError` if the local state can't be
    read.
    """

    def __init__(
        self, run: RunRow, tally: Tally, context: Context, *, to_cancel: bool = False
    ) -> None:
        self.run, self._tally, self._to_cancel = run, tally, to_cancel
        store, clock = context.store, context.clock
        try:
            lock = store.lock(run.base_url, line_key(run.run_key, ""))
            self.is_active = lock is None
            """Whether another process runs it now."""
            if lock is not None:
                store.unlock(lock)
            rows = patiently_blocking(lambda: store.of_run(run.base_url, run.run_key), clock)
            jobs = patiently_blocking(lambda: store.batch_jobs(run.base_url, run.run_key), clock)
        except StateError as error:
            raise state_error(error) from error
        self.running: list[RunningJob] = []
        self.is_unfinished = False
        """Whether a rerun has something to do, apart from waiting for running jobs."""
        self.batch_id: str | None = None
        self._unwritten = 0
        """The number of jobs that have ended, but have no line in the results file."""
        self.updated_at = max([run.updated_at, *(row.updated_at for row in rows.values())])
        """The Unix time of the last change."""
        if run.is_batch:
            replaced = {} if jobs is None else BatchJobs.read(jobs).replaced
            self._read_batch(rows.get(""), replaced)
        else:
            self._read_jobs(dict(reversed(rows.items())))

    def note_unwritten(self, more: int = 0) -> list[Event]:
        """Count the results that the results file lacks; return a warning if there are any.

        `more` is the number of jobs that ended since the file was read.
        """
        count = self._unwritten + more
        if self.is_active or self.run.results_file is None or count == 0:
            return []
        self.is_unfinished = True
        self._tally.note_unwritten()
        message = (
            f"{self.run.results_file} lacks results of jobs that have ended ({count:,}). Repeat "
            "the submit command to write them."
        )
        return [report.warning(Job(), "results_missing", message)]

    def _read_jobs(self, rows: dict[str, Row]) -> None:
        ended = {custom_id for custom_id, row in rows.items() if row.status in _ENDED}
        replaced = {name: row.replaced_lines or 0 for name, row in rows.items()}
        lines = dict(_lines(self.run.results_file, ended, replaced))
        known = unwritten = 0
        for custom_id, row in rows.items():
            if custom_id in ended:
                recap = Recap.of_row(row) or Recap(status=str(row.status), code=row.status)
                status = recap.status if row.status == "completed" else str(row.status)
                self._count_end(custom_id, row.response_id, recap.but(status=status))
                unwritten += custom_id not in lines
            elif custom_id in lines or row.step == "intent":
                continue
            elif row.response_id is not None:
                self.running.append(
                    RunningJob(response_id=row.response_id, custom_id=custom_id, status=row.status)
                )
            elif not self.is_active:  # otherwise it is being submitted
                self._count("outcome_unknown", ExitCode.OUTCOME_UNKNOWN)
                recap = Recap(status="outcome_unknown", code="outcome_unknown")
                self._note_unsuccessful(custom_id, None, recap)
            else:
                continue
            known += 1
        for custom_id, end in lines.items():
            if end is not None:
                self._count_end(custom_id, *end)
                known += 1
        if self.run.total > known:
            self.is_unfinished = True
            self._count("not_submitted", ExitCode.STILL_RUNNING, jobs=self.run.total - known)
        self._unwritten = unwritten

    def _read_batch(self, row: Row | None, replaced: dict[str, int]) -> None:
        """A batch's jobs have no rows: those without a result have the status of the batch."""
        ends = dict(_lines(self.run.results_file, (), replaced))
        for custom_id, end in ends.items():
            if end is not None:
                self._count_end(custom_id, *end)
        left = self.run.total - len(ends)
        self.batch_id = None if row is None else row.response_id
        if left <= 0:
            return
        self.is_unfinished = True
        if row is None or row.step == "intent" or (self.batch_id is None and self.is_active):
            self._count("not_submitted", ExitCode.STILL_RUNNING, jobs=left)
        elif self.batch_id is None:
            self._count("outcome_unknown", ExitCode.OUTCOME_UNKNOWN, jobs=left)
        elif row.status == "completed":
            self._count("missing", ExitCode.LOCAL_IO, jobs=left)
        elif row.status in _ENDED:
            self._count(str(row.status), code_of(str(row.status)), jobs=left)
        else:
            self._count(row.status or "unknown", ExitCode.STILL_RUNNING, jobs=left)

    def _count(self, status: str, code: ExitCode, *, jobs: int = 1) -> None:
        is_success = self._to_cancel and code != ExitCode.OUTCOME_UNKNOWN
        self._tally.count(status, ExitCode.OK if is_success else code, jobs=jobs)

    def _count_end(self, custom_id: str, response_id: str | None, recap: Recap) -> None:
        self._count(recap.status, code_of(recap.status))
        self._tally.totals.add(
            recap.usage, recap.cost_usd(BATCH_WINDOW if self.run.is_batch else None)
        )
        if recap.status != "completed":
            self._note_unsuccessful(custom_id, response_id, recap)

    def _note_unsuccessful(self, custom_id: str, response_id: str | None, recap: Recap) -> None:
        self._tally.note_unsuccessful(
            Unsuccessful(
                custom_id=custom_id,
                response_id=response_id,
                status=recap.status,
                code=recap.code,
                message=recap.message,
            )
        )


def _lines(
    path: str | None, without: Container[str], replaced: Mapping[str, int]
) -> Iterator[tuple[str, tuple[str | None, Recap] | None]]:
    """Yield the custom_id, and the response ID and end, of each line of a results file.

    The end is None for the custom_ids of `without`. What is not a result is left out, such as a
    last line that is being written; so are the unsuccessful lines that a retry replaces, whose
    number is in `replaced`.
    """
    if path is None:
        return
    failures: Counter[str] = Counter()
    with suppress(OSError), open(lines_path(path), "rb") as file:  # noqa: PTH123
        for raw in file:
            custom_id = _custom_id(raw) if raw.endswith(b"\n") else None
            if custom_id is not None and custom_id in without and not replaced.get(custom_id):
                yield custom_id, None  # without parsing the line
            elif (line := read_line(raw)) is not None:
                name = line.custom_id
                if line.status not in SUCCESSFUL:
                    failures[name] += 1
                    if failures[name] <= replaced.get(name, 0):
                        continue
                yield name, None if name in without else (line.response_id, line.recap)


def _custom_id(raw: bytes) -> str | None:
    """Return the custom_id of a line without parsing all of it."""
    found = _CUSTOM_ID.match(raw)
    with suppress(ValueError):
        value = read_json(found[1]) if found is not None else None
        return value if isinstance(value, str) else None
    return None
