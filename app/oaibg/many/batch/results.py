"""A batch's results: appends the lines of the API's files to the results file."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING

from oaibg.contract.errors import CallFailed, ExitCode, Unavailable
from oaibg.contract.events import Final
from oaibg.engine import commands, persist, report, report_end
from oaibg.engine.job import Job
from oaibg.engine.poll import End
from oaibg.engine.written import Written
from oaibg.many.batch.end_events import end_events
from oaibg.many.batch.files import (
    Downloads,
    count_of_jobs,
    count_of_lines,
    files_of,
    keep_file,
    lacks_output,
    pieces,
)
from oaibg.many.batch.jobs import in_earlier_batches
from oaibg.many.batch.owner import missing_id
from oaibg.many.finished_artifacts import save_finished_artifacts, save_line_artifacts
from oaibg.many.progress import BatchProgress
from oaibg.many.results.lost_lines import restore_lost_lines
from oaibg.many.results.result_line import (
    MISSING,
    UNDELIVERED,
    code_of,
    not_run,
    read_line,
)
from oaibg.many.results.result_row import ResultRow
from oaibg.many.side_by_side import side_by_side
from oaibg.many.tally import UNSUCCESSFUL_MAX, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.batch.owner import Owner
    from oaibg.many.results.result_line import ResultLine
    from oaibg.many.results.results_file import ResultsFile
    from oaibg.many.results.results_table import ResultsTable

    Follow = Callable[[Context], Awaitable[End | Event]]
    """Returns the end of the batch, or the event that ended the wait for it."""

TMPDIR_HINT = "A batch needs space for temporary files; set TMPDIR to another directory."

_READ_AGAIN_SECONDS = 1.0
"""Seconds until the files are read again, if they have fewer results than the batch counts."""


class BatchResults:
    """Writes a batch's results to the results file, and counts its jobs.

    `own` has the custom_ids of the batch's jobs, if they are known, and the marks of the lines that
    it replaces. The run's other jobs were in the batches `earlier`, which a retry has replaced.
    """

    def __init__(
        self,
        results: ResultsFile,
        table: ResultsTable,
        owner: Owner,
        own: Mapping[str, str] | None = None,
        earlier: Sequence[str] = (),
    ) -> None:
        self._results, self._table, self._owner, self._tally = results, table, owner, Tally()
        self._own, self._earlier = frozenset(own or ()), earlier
        self._tally.note_retried({name for name, mark in (own or {}).items() if mark})
        self._tally.totals.include(results.totals)
        self._delivered: set[str] = set()
        """The custom_ids of the results in the batch's files."""
        self._waiting: dict[str, str] = {}
        """The statuses of results that are not in the file, by custom_id; a rerun adds them."""
        self._unfetched = False
        """Whether running the same command again can fetch more results."""
        self._refused = False
        """Whether the server refused to send a file."""
        self._warned: set[str] = set()  # the files with ignored lines
        self._rest = ResultRow("", "not_submitted")
        """The table's row of the jobs without a result."""

    async def run(self, job: Job, follow: Follow, context: Context) -> Event:
        """Follow a batch to its end and fetch its results; return the run's summary."""

        async def steps(context: Context) -> None:
            event = await commands.closing(self._see_through(job, follow, context), job, context)
            if not isinstance(event, Final):  # a final's jobs were counted one by one
                self._tally.take(event, jobs=len(self._left or ()) or 1)
                self._rest = ResultRow.of_event("", event)._replace(response_id=None)
            context.shared.note_end(job)
            await context.emit(event)

        await self.save_finished(job, context)
        progress = self._progress(job, context)
        try:
            await side_by_side(iter([(job, steps)]), progress, context, at_once=1)
        finally:
            summary = await self.end(job, context)
        return summary

    async def save_finished(self, job: Job, context: Context) -> None:
        """Save the images and files of the results that the file has, if requested."""
        await save_finished_artifacts(self._results, self._progress(job, context), context)

    def _progress(self, job: Job, context: Context) -> BatchProgress:
        return BatchProgress(self._tally, context, self._results, job, self._own or None)

    async def end(self, job: Job, context: Context) -> Event:
        """Write the table of the results, and return the event that ends the run."""
        tally = self._tally
        is_refused = self._owner.is_refused
        if (others := (self._results.missing or set()) - self._own) and not is_refused:
            tally.count(MISSING, code_of(MISSING), jobs=len(others))
            await context.emit(
                in_earlier_batches(len(others), self._earlier, self._table.path, job)
            )
        if not is_refused and await restore_lost_lines(self._results, None, job, tally, context):
            await self._table.write(self._results, self._unended, job, tally, context)
        for custom_id, status in () if is_refused else self._results.statuses.items():
            tally.count(status, code_of(status), custom_id=custom_id)
            if (unsuccessful := self._results.unsuccessful.get(custom_id)) is not None:
                tally.note_unsuccessful(unsuccessful)
        for status in self._waiting.values():
            tally.count(status, code_of(status) or ExitCode.LOCAL_IO)
        more = tally.unfinished or tally.counts["not_submitted"] or self._unfetched or self._waiting
        next_ = context.next_command.rerun() if more or tally.is_unwritten else None
        return tally.summary(
            context,
            next_=next_,
            response_id=job.response_id,
            results_file=self._table.path,
            job_key=job.job_key,
        )

    def _unended(self, custom_id: str) -> ResultRow:
        """Return the table's row of a job without a result."""
        rest = self._rest.status if custom_id in self._own else MISSING
        status = self._waiting.get(custom_id, rest)
        return self._rest._replace(custom_id=custom_id, status=status)

    @property
    def _missing(self) -> set[str] | None:
        """The batch's jobs without a line in the results file; None if they are not known."""
        missing = self._results.missing
        return None if missing is None else missing & self._own

    @property
    def _left(self) -> set[str] | None:
        """The batch's jobs without a result so far; None if they are not known."""
        missing = self._missing
        return None if missing is None else missing - self._waiting.keys()

    async def _see_through(self, job: Job, follow: Follow, context: Context) -> Event:
        end = await follow(context)
        if not isinstance(end, End):
            return end
        if not end.is_local:
            await persist.remember_payload(end.payload, job, context)
        is_sure = self._owner.is_sure or await self._owner.compare(end.payload, job, context)
        in_time = await self._fetch(end.payload, job, context)
        if in_time and self._is_short(end.payload):
            # They will never have more results, unless the server did not send all of them.
            await context.clock.sleep(_READ_AGAIN_SECONDS)
            self._delivered.clear()
            in_time = await self._fetch(end.payload, job, context)
        if in_time:
            await self._add_missing(end.payload, job, context)
            self._count_missing(end.payload)
        if is_sure:
            self._owner.note()
        if not in_time:
            return report_end.timeout(job, context)
        return report_end.final(job, end.payload, context, Written.ALL)

    async def _fetch(self, batch: Payload, job: Job, context: Context) -> bool:
        """Deliver the batch's files; False if the wait limit is reached before the end.

        A file that can't be downloaded does not stop the other one.
        """
        downloads, in_time, blocked = Downloads(job, context), True, None
        try:
            for file_id, name in files_of(batch).items():
                if self._left == set():
                    break
                with tempfile.TemporaryFile() as content:
                    try:
                        if not await downloads.download(file_id, content):
                            in_time = False
                            continue
                    except CallFailed as failure:
                        await self._give_up(name, failure, job, context)
                    except Unavailable as error:
                        blocked = error
                    else:
                        await self._deliver(name, content, job, context)
        except OSError as error:
            self._unfetched = True
            await self._report_unwritten("a temporary file", error, job, context)
            await context.emit(report.warning(job, "no_room", TMPDIR_HINT))
        if blocked is not None:
            raise blocked
        return in_time

    def _is_short(self, batch: Payload) -> bool:
        """Return whether the batch's files have fewer results than the batch counts in them."""
        if self._refused or self._unfetched or self._left == set():
            return False
        return count_of_lines(batch) > len(self._delivered)

    async def _give_up(self, name: str, failure: CallFailed, job: Job, context: Context) -> None:
        """Report a file that the server refuses to send."""
        self._refused = True
        is_gone = failure.http_status in (404, 410) and failure.envelope
        self._unfetched = self._unfetched or not is_gone
        message = f"The batch's {name} could not be downloaded: {failure.message}"
        await context.emit(report.warning(job, "file_unavailable", message))

    async def _deliver(self, name: str, content: IO[bytes], job: Job, context: Context) -> None:
        """Add the lines of a file to the results."""
        unreadable = foreign = 0
        for raws in pieces(content):
            lines: list[ResultLine] = []
            for raw in raws:
                line = read_line(raw)
                if line is None:
                    unreadable += 1
                elif line.custom_id in self._delivered or not self._results.is_ours(line):
                    foreign += 1
                else:
                    self._delivered.add(line.custom_id)
                    lines.append(line)
            await persist.to_end(self._add(lines, job, context))
        if (unreadable or foreign) and name not in self._warned:
            self._warned.add(name)
            message = (
                f"Lines of the batch's {name} were ignored: {unreadable:,} can't be read, "
                f"{foreign:,} are duplicates or results of unknown jobs."
            )
            if unreadable:
                file_id, path = name.rpartition(" ")[2], self._results.path
                message += await keep_file(content, file_id, path, job, context)
            await context.emit(report.warning(job, "strange_results", message))

    async def _add(self, lines: list[ResultLine], job: Job, context: Context) -> None:
        has = self._results.statuses.keys() | self._waiting.keys()
        new = [line for line in lines if line.custom_id not in has]
        # Before the lines are written: a rerun ignores those that the file has.
        for line in new if context.output.artifacts_dir is not None else ():
            own = Job(job.response_id, custom_id=line.custom_id, is_batch=True)
            saved = await save_line_artifacts(line, own, context)
            if saved is Written.RETRY:
                self._waiting[line.custom_id] = line.status
            elif saved is Written.LOST:
                self._tally.count(line.status, code_of(line.status) or ExitCode.LOCAL_IO, jobs=0)
        try:
            await self._results.add(line for line in new if line.custom_id not in self._waiting)
        except OSError as error:
            self._unfetched = True
            await self._report_unwritten(self._results.path, error, job, context)
            self._waiting |= {line.custom_id: line.status for line in new}
        for line in new:
            self._tally.totals.add(
                line.recap.usage, line.recap.cost_usd(self._results.window_of(line.custom_id))
            )
            if (unsuccessful := line.unsuccessful) is not None:
                self._tally.note_unsuccessful(unsuccessful)
            for event in end_events(line, job, context):
                await context.emit(event.of_many(line.custom_id))

    async def _report_unwritten(
        self, path: str, error: OSError, job: Job, context: Context
    ) -> None:
        warning = report.not_written(job, path, error)
        self._tally.note_unsaved(warning.message)
        await context.emit(warning)

    async def _add_missing(self, batch: Payload, job: Job, context: Context) -> None:
        """Add a line for each job for which the batch will never have a result."""
        missing = (self._missing or set()) - self._delivered
        if not missing or self._unfetched:
            return
        code, message = f"batch_{batch.status}", f"The batch ended as {batch.status}."
        if self._refused or lacks_output(batch):
            code, message = MISSING, "The batch's file with the result is no longer available."
        elif batch.status == "completed":
            code, message = UNDELIVERED, "The batch completed, but has no result for this job."
        elif batch.status == "failed" and (error := batch.object("error")) is not None:
            code, message = str(error.get("code") or code), str(error.get("message") or message)
        lines = [
            not_run(missing_id(str(batch.id), name), name, code, message)
            for name in sorted(missing)
        ]
        try:
            await self._results.add(lines)
        except OSError as error:
            self._unfetched = True
            await self._report_unwritten(self._results.path, error, job, context)
            return
        for line in lines[:UNSUCCESSFUL_MAX]:
            if (unsuccessful := line.unsuccessful) is not None:
                self._tally.note_unsuccessful(unsuccessful)

    def _count_missing(self, batch: Payload) -> None:
        if self._missing is not None:
            missing = len(self._missing - self._delivered)
        else:
            has = len(self._delivered | self._results.statuses.keys())
            total = count_of_jobs(batch, "total")
            missing = total - has if total else int(self._refused)
            if batch.status != "completed" and not has:
                missing = max(missing, 1)  # the batch counts as a job
        if missing <= 0:
            return
        if self._unfetched and not self._refused:
            code, status = ExitCode.LOCAL_IO, MISSING
        elif self._refused or batch.status == "completed":
            code, status = ExitCode.ERROR, MISSING
        else:
            code, status = ExitCode.UNSUCCESSFUL, str(batch.status)
        self._tally.count(status, code, jobs=missing)
        self._rest = ResultRow("", status)
