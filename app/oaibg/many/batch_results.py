"""A batch's results: downloads the API's files and appends their lines to the results file."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING

from oaibg.api.payload import Payload
from oaibg.contract.errors import ApiRefused, CallFailed, ExitCode, NotFound, Unavailable
from oaibg.contract.events import Final
from oaibg.engine import commands, persist, report, verdicts
from oaibg.engine.hints import passing_hint
from oaibg.engine.job import Job
from oaibg.engine.patience import BLOCKED_AFTER, MIN_RETRIEVE_SECONDS, Patience
from oaibg.engine.poll import End
from oaibg.many.results_file import REFUSED, code_of, read_line
from oaibg.many.side_by_side import side_by_side
from oaibg.many.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.results_file import ResultLine, ResultsFile

    Follow = Callable[[Context], Awaitable[End | Event]]
    """Returns the end of the batch, or the event that ended the wait for it."""

TRANSFER_SECONDS = 1800.0
"""Maximum seconds of an upload or a download, which may have hundreds of megabytes."""

TMPDIR_HINT = "A batch needs space for temporary files; set TMPDIR to another directory."

_PIECE_BYTES = 4 << 20


class BatchResults:
    """Writes a batch's results to the results file, and counts its jobs."""

    def __init__(self, results: ResultsFile) -> None:
        self._results, self._tally = results, Tally()
        self._delivered: set[str] = set()
        """The custom_ids of the results in the batch's files."""
        self._unfetched = False
        """Whether running the same command again can fetch more results."""

    async def run(self, job: Job, follow: Follow, context: Context) -> Event:
        """Follow a batch to its end and fetch its results; return the run's summary."""

        async def steps(context: Context) -> None:
            event = await commands.closing(self._see_through(job, follow, context), job, context)
            if not isinstance(event, Final):  # a final's jobs were counted one by one
                self._tally.take(event, jobs=len(self._results.missing or ()) or 1)
            await context.emit(event)

        await side_by_side(iter([(None, steps)]), self._tally, context, at_once=1)
        return self.summary(context, job.response_id)

    def summary(self, context: Context, batch_id: str | None = None) -> Event:
        """Return the event that ends the run."""
        tally = self._tally
        for status in self._results.statuses.values():
            tally.count(status, code_of(status))
        more = tally.still_running or tally.counts["not_submitted"] or self._unfetched
        next_ = context.next_command.rerun() if more else None
        return tally.summary(context, next_=next_, response_id=batch_id)

    async def _see_through(self, job: Job, follow: Follow, context: Context) -> Event:
        end = await follow(context)
        if not isinstance(end, End):
            return end
        if not end.is_local:
            await persist.remember_payload(end.payload, job, context)
        fetched = await self._fetch(end.payload, job, context)
        return report.final(job, end.payload, context) if fetched else report.timeout(job, context)

    async def _fetch(self, batch: Payload, job: Job, context: Context) -> bool:
        """Download the batch's files; False if the wait limit is reached before the end."""
        ignored = 0
        try:
            for key in ("output_file_id", "error_file_id"):
                file_id = batch.data.get(key)
                if self._results.missing == set() or not isinstance(file_id, str):
                    continue
                with tempfile.TemporaryFile() as content:
                    if not await _download(file_id, content, job, context):
                        return False
                    for raws in _pieces(content):
                        lines = [line for raw in raws if (line := self._result(raw)) is not None]
                        ignored += len(raws) - len(lines)
                        await self._add(lines, job, context)
        except OSError as error:
            self._unfetched = True
            await context.emit(report.not_written(job, "a temporary file", error))
            await context.emit(report.warning(job, "no_room", TMPDIR_HINT))
        if ignored:
            message = f"Ignored invalid, duplicate or unknown lines of the batch: {ignored:,}."
            await context.emit(report.warning(job, "strange_results", message))
        self._count_missing(batch)
        return True

    def _result(self, raw: bytes) -> ResultLine | None:
        """Parse a line of results; None if it is invalid, a duplicate, or of another run."""
        line = read_line(raw)
        if line is None or line.custom_id in self._delivered or not self._results.is_ours(line):
            return None
        self._delivered.add(line.custom_id)
        return line

    async def _add(self, lines: list[ResultLine], job: Job, context: Context) -> None:
        new = [line for line in lines if line.custom_id not in self._results.statuses]
        try:
            await self._results.add(new)
        except OSError as error:
            self._unfetched = True
            await context.emit(report.not_written(job, self._results.path, error))
            for line in new:
                self._tally.count(line.status, code_of(line.status) or ExitCode.LOCAL_IO)
        for line in new:
            for event in _ends(line, job, context):
                await context.emit(event.of_many(line.custom_id))

    def _count_missing(self, batch: Payload) -> None:
        if self._results.missing is not None:
            missing = len(self._results.missing - self._delivered)
        else:
            total = (batch.object("request_counts") or {}).get("total")
            missing = total - len(self._delivered) if isinstance(total, int) else 0
            if batch.status != "completed" and not self._delivered:
                missing = max(missing, 1)  # the batch counts as a job
        if missing <= 0:
            return
        if self._unfetched:
            self._tally.count("missing", ExitCode.LOCAL_IO, jobs=missing)
        elif batch.status == "completed":
            self._unfetched = True
            self._tally.count("missing", ExitCode.ERROR, jobs=missing)
        else:
            self._tally.count(str(batch.status), ExitCode.UNSUCCESSFUL, jobs=missing)


async def _download(file_id: str, content: IO[bytes], job: Job, context: Context) -> bool:
    """Download a file, reporting failed attempts; False if the wait limit is reached."""
    api, clock = await context.connect(), context.clock
    patience = Patience(clock, deadline=context.deadline)
    while True:
        content.seek(0)
        content.truncate()
        least = 0.01 if patience.failures else MIN_RETRIEVE_SECONDS
        left = max(context.deadline - clock.monotonic(), least)
        try:
            await api.download(file_id, content, min(left, TRANSFER_SECONDS))
        except CallFailed as failure:
            patience.failed(failure)
            delay, count = _delay(file_id, failure, patience, clock.monotonic()), patience.failures
            event = report.poll_error(
                failure, job, context, attempt=count, consecutive=count, delay=delay
            )
            await context.emit(event)
            await clock.sleep(delay)
            if clock.monotonic() >= context.deadline:
                return False
        else:
            content.seek(0)
            return True


def _delay(file_id: str, failure: CallFailed, patience: Patience, now: float) -> float:
    """Return the seconds until the next attempt to download a file; raise if there is none."""
    if verdicts.is_auth(failure):
        raise verdicts.auth_error(failure) from failure
    if not verdicts.is_transient(failure) and not patience.doubts_last:
        message = f"The batch file {file_id} can't be downloaded: {failure.message}"
        raise NotFound.of(failure, message) from failure
    patience.give_up_at(min(patience.give_up, now + BLOCKED_AFTER))
    delay = patience.delay()
    if now + delay >= patience.give_up:
        message = f"The batch file {file_id} could not be downloaded: {failure.message}"
        raise Unavailable.of(failure, message, hint=passing_hint(failure)) from failure
    return max(min(delay, patience.deadline - now), 0.0)


def _ends(line: ResultLine, job: Job, context: Context) -> Iterator[Event]:
    """Yield the events of a job's end; they are the same as in background mode."""
    data = Payload(line.raw).data
    response = data["response"] or {}
    body = response.get("body")
    if line.status == REFUSED:
        error = body.get("error") if isinstance(body, dict) else body
        fields = error if isinstance(error, dict) else {"message": error}
        status, request_id = response["status_code"], response.get("request_id")
        refusal = ApiRefused(
            f"HTTP {status}: {fields.get('message')}",
            code=str(fields.get("code") or f"http_{status}"),
            http_status=status,
            request_id=request_id if isinstance(request_id, str) else None,
            outcome="not_created",
        )
        yield report.error(Job(job.response_id, submitting=True), refusal, context.next_command)
        return
    payload = Payload.of(body or {"status": line.status, "error": data["error"]})
    if context.output.show_output_text and payload.text:
        yield report.output_text(job, payload.text)
    yield report.final(Job(job.response_id), payload, context)


def _pieces(content: IO[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of a file in lists of a few megabytes; every line ends with a line end."""
    while lines := content.readlines(_PIECE_BYTES):
        yield [line if line.endswith(b"\n") else line + b"\n" for line in lines if line.strip()]
