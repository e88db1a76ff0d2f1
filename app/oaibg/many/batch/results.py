"""A batch's results: appends the lines of the API's files to the results file."""

from __future__ import annotations

import codecs
import tempfile
from typing import IO, TYPE_CHECKING

from oaibg.api.payload import Payload
from oaibg.contract.errors import CallFailed, ExitCode, Unavailable
from oaibg.contract.events import Final
from oaibg.engine import commands, persist, report, report_end
from oaibg.engine.artifacts import save_artifacts
from oaibg.engine.deliver import text_events
from oaibg.engine.job import Job
from oaibg.engine.poll import End
from oaibg.engine.written import Written
from oaibg.many.batch.files import Downloads, files_of, keep_file
from oaibg.many.progress import BatchProgress
from oaibg.many.results.line_id import digest
from oaibg.many.results.result_line import MISSING, code_of, ending_of, not_run, read_line
from oaibg.many.results.result_row import ResultRow
from oaibg.many.side_by_side import side_by_side
from oaibg.many.tally import UNSUCCESSFUL_MAX, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.results.result_line import ResultLine
    from oaibg.many.results.results_file import ResultsFile
    from oaibg.many.results.results_table import ResultsTable

    Follow = Callable[[Context], Awaitable[End | Event]]
    """Returns the end of the batch, or the event that ended the wait for it."""

TMPDIR_HINT = "A batch needs space for temporary files; set TMPDIR to another directory."

_PIECE_BYTES = 4 << 20


class BatchResults:
    """Writes a batch's results to the results file, and counts its jobs."""

    def __init__(self, results: ResultsFile, table: ResultsTable) -> None:
        self._results, self._table, self._tally = results, table, Tally()
        self._tally.totals.include(results.totals)
        self._delivered: set[str] = set()
        """The custom_ids of the results in the batch's files."""
        self._waiting: dict[str, str] = {}
        """The statuses of results that are not in the file, by custom_id; a rerun adds them."""
        self._unfetched = False
        """Whether running the same command again can fetch more results."""
        self._refused = False
        """Whether the server refused to send a file."""
        self._rest = ResultRow("", "not_submitted")
        """The table's row of the jobs without a result."""

    async def run(self, job: Job, follow: Follow, context: Context) -> Event:
        """Follow a batch to its end and fetch its results; return the run's summary."""

        async def steps(context: Context) -> None:
            event = await commands.closing(self._see_through(job, follow, context), job, context)
            if not isinstance(event, Final):  # a final's jobs were counted one by one
                self._tally.take(event, jobs=len(self._left or ()) or 1)
                self._rest = ResultRow.of_event("", event)._replace(response_id=None)
            await context.emit(event)

        progress = BatchProgress(self._tally, context, self._results, job)
        try:
            await side_by_side(iter([(None, steps)]), progress, context, at_once=1)
        finally:
            summary = await self.end(job, context)
        return summary

    async def end(self, job: Job, context: Context) -> Event:
        """Write the table of the results, and return the event that ends the run."""
        tally = self._tally
        await self._table.write(self._results, self._unended, job, tally, context)
        for custom_id, status in self._results.statuses.items():
            tally.count(status, code_of(status))
            if (unsuccessful := self._results.unsuccessful.get(custom_id)) is not None:
                tally.note_unsuccessful(unsuccessful)
        for status in self._waiting.values():
            tally.count(status, code_of(status) or ExitCode.LOCAL_IO)
        more = tally.unfinished or tally.counts["not_submitted"] or self._unfetched or self._waiting
        next_ = context.next_command.rerun() if more or tally.is_unwritten else None
        return tally.summary(
            context, next_=next_, response_id=job.response_id, results_file=self._table.path
        )

    def _unended(self, custom_id: str) -> ResultRow:
        """Return the table's row of a job without a result."""
        status = self._waiting.get(custom_id, self._rest.status)
        return self._rest._replace(custom_id=custom_id, status=status)

    @property
    def _left(self) -> set[str] | None:
        """The custom_ids without a result so far; None if the custom_ids are not known."""
        missing = self._results.missing
        return None if missing is None else missing - self._waiting.keys()

    async def _see_through(self, job: Job, follow: Follow, context: Context) -> Event:
        end = await follow(context)
        if not isinstance(end, End):
            return end
        if not end.is_local:
            await persist.remember_payload(end.payload, job, context)
        fetched = await self._fetch(end.payload, job, context)
        if not fetched:
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
            await context.emit(report.not_written(job, "a temporary file", error))
            await context.emit(report.warning(job, "no_room", TMPDIR_HINT))
        if blocked is not None:
            raise blocked
        if in_time:
            await self._add_missing(batch, job, context)
            self._count_missing(batch)
        return in_time

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
        for raws in _pieces(content):
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
            await self._add(lines, job, context)
        if unreadable or foreign:
            message = (
                f"Lines of the batch's {name} were ignored: {unreadable:,} can't be read, "
                f"{foreign:,} are duplicates or results of unknown jobs."
            )
            if unreadable:
                message += await self._keep(content, name.rpartition(" ")[2], job, context)
            await context.emit(report.warning(job, "strange_results", message))

    async def _keep(self, content: IO[bytes], file_id: str, job: Job, context: Context) -> str:
        """Save a file with lines that can't be read; return the sentence that says where."""
        try:
            path = await persist.in_thread(keep_file, content, file_id, self._results.path)
        except OSError as error:
            await context.emit(report.not_written(job, f"a copy of {file_id}", error))
            return ""
        return f" The whole file was saved as {path}."

    async def _add(self, lines: list[ResultLine], job: Job, context: Context) -> None:
        new = [line for line in lines if line.custom_id not in self._results.statuses]
        # Before the lines are written: a rerun ignores those that the file has.
        for line in new if context.output.artifacts_dir is not None else ():
            saved = await _save_artifacts(line, job, context)
            if saved is Written.RETRY:
                self._waiting[line.custom_id] = line.status
            elif saved is Written.LOST:
                self._tally.count(line.status, code_of(line.status) or ExitCode.LOCAL_IO, jobs=0)
        try:
            await self._results.add(line for line in new if line.custom_id not in self._waiting)
        except OSError as error:
            self._unfetched = True
            await context.emit(report.not_written(job, self._results.path, error))
            self._waiting |= {line.custom_id: line.status for line in new}
        for line in new:
            self._tally.totals.add(
                line.recap.usage, line.recap.cost_usd(self._results.window_of(line.custom_id))
            )
            if (unsuccessful := line.unsuccessful) is not None:
                self._tally.note_unsuccessful(unsuccessful)
            for event in _ends(line, job, context):
                await context.emit(event.of_many(line.custom_id))

    async def _add_missing(self, batch: Payload, job: Job, context: Context) -> None:
        """Add a line for each job for which the batch will never have a result."""
        missing = (self._results.missing or set()) - self._delivered
        if not missing or self._unfetched or (batch.status == "completed" and not self._refused):
            return
        code, message = f"batch_{batch.status}", f"The batch ended as {batch.status}."
        if self._refused:
            code, message = MISSING, "The batch's file with the result is no longer available."
        elif batch.status == "failed" and (error := batch.object("error")) is not None:
            code, message = str(error.get("code") or code), str(error.get("message") or message)
        lines = [
            not_run(f"batch_req_{digest(str(batch.id), name)[:32]}", name, code, message)
            for name in sorted(missing)
        ]
        try:
            await self._results.add(lines)
        except OSError as error:
            self._unfetched = True
            await context.emit(report.not_written(job, self._results.path, error))
            return
        for line in lines[:UNSUCCESSFUL_MAX]:
            if (unsuccessful := line.unsuccessful) is not None:
                self._tally.note_unsuccessful(unsuccessful)

    def _count_missing(self, batch: Payload) -> None:
        if self._results.missing is not None:
            missing = len(self._results.missing - self._delivered)
        else:
            has = len(self._delivered | self._results.statuses.keys())
            total = (batch.object("request_counts") or {}).get("total")
            missing = total - has if isinstance(total, int) else int(self._refused)
            if batch.status != "completed" and not has:
                missing = max(missing, 1)  # the batch counts as a job
        if missing <= 0:
            return
        if self._unfetched and not self._refused:
            code, status = ExitCode.LOCAL_IO, "missing"
        elif self._refused or batch.status == "completed":
            self._unfetched = self._unfetched or not self._refused
            code, status = ExitCode.ERROR, "missing"
        else:
            code, status = ExitCode.UNSUCCESSFUL, str(batch.status)
        self._tally.count(status, code, jobs=missing)
        self._rest = ResultRow("", status)


async def _save_artifacts(line: ResultLine, batch: Job, context: Context) -> Written:
    """Save the images and files of a job."""

    async def emit(event: Event) -> None:
        await context.emit(event.of_many(line.custom_id))

    ending = ending_of(Payload(line.raw).data)
    output = ending.payload.data.get("output") if ending and ending.payload else None
    job = Job(batch.response_id, custom_id=line.custom_id, is_batch=True)
    return await save_artifacts(output, job, context.but(emit=emit))


def _ends(line: ResultLine, job: Job, context: Context) -> Iterator[Event]:
    """Yield the events of a job's end; they are the same as in background mode."""
    ending = ending_of(Payload(line.raw).data)
    assert ending is not None  # noqa: S101 - the line was read before
    payload, refusal = ending
    if refusal is not None:
        yield report_end.error(Job(job.response_id, submitting=True), refusal, context.next_command)
    if payload is None:
        return
    yield from text_events(payload, job, context)
    own = Job(job.response_id, is_batch=True)
    yield report_end.final(own, payload, context, Written.ALL)


def _pieces(content: IO[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of a file in lists of a few megabytes; every line ends with a line feed.

    Some servers write a byte order mark, or the line ends of Windows.
    """
    while lines := content.readlines(_PIECE_BYTES):
        bare = (line.removeprefix(codecs.BOM_UTF8).strip() for line in lines)
        yield [line + b"\n" for line in bare if line]
