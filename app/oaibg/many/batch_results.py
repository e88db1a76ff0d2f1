"""The results of a batch on their way from the API's files into the results file."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, NamedTuple

from oaibg.api.payload import Payload
from oaibg.contract.errors import ApiRefused, CallFailed, ExitCode, NotFound, Unavailable
from oaibg.contract.events import Final, Interrupted
from oaibg.engine import report
from oaibg.engine.commands import closing
from oaibg.engine.follow import End
from oaibg.engine.job import Job
from oaibg.engine.persist import remember_seen
from oaibg.engine.retry import BLOCKED_AFTER, LEAST_LOOK, Patience
from oaibg.engine.verdicts import auth_error, is_auth, is_passing, passing_hint
from oaibg.many.results_file import REFUSED, code_of, read_line
from oaibg.many.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.results_file import ResultsFile

TRANSFER_SECONDS = 1800.0
"""Seconds that an upload or a download may take; they may have hundreds of megabytes."""

TMPDIR_HINT = "Batches take room in the folder for temporary files; TMPDIR names another one."

_PIECE_BYTES = 4 << 20


class BatchResults:
    """The results of a batch on their way into the results file.

    Args:
        results: where they go.
        known: the custom_ids of the jobs; None if the jobs file is not at hand.
        context: what to work with.
    """

    def __init__(self, results: ResultsFile, known: set[str] | None, context: Context) -> None:
        async def emit(event: Event) -> None:
            await context.emit(event if event.of else event.of_many(None))

        self.context = context.but(emit=emit)
        """The run's, for the steps of the batch's own job."""
        self._results, self._known = results, known
        self._tally = Tally(each=max(len((known or set()) - results.statuses.keys()), 1))
        self._delivered: set[str] = set()
        """The custom_ids that the batch's files have."""
        self._batch_id: str | None = None
        self._unfetched = False
        """Whether the same command has results to fetch."""

    @property
    def is_complete(self) -> bool:
        """Whether every job has its result."""
        return self._known is not None and self._known <= self._results.statuses.keys()

    async def run(self, job: Job, steps: Coroutine[Any, Any, End | Event]) -> Event:
        """See a batch through, and fetch its results; returns the summary.

        Args:
            job: the batch.
            steps: return the batch's end, or the event that ends the wait for it.
        """
        event = await closing(self._see_through(job, steps), job, self.context)
        if isinstance(event, Interrupted):
            self._tally.note_interrupt()
        if not isinstance(event, Final):  # its jobs have been counted one by one
            self._tally.take(event)
        await self.context.emit(event)
        self._batch_id = job.response_id
        return self.summary()

    def summary(self) -> Event:
        """The event that ends the run."""
        tally = self._tally
        for status in self._results.statuses.values():
            tally.count(status, code_of(status))
        more = tally.going_on or tally.counts["not_submitted"] or self._unfetched
        next_ = self.context.next_command.rerun() if more else None
        return tally.summary(self.context, next_=next_, response_id=self._batch_id)

    async def _see_through(self, job: Job, steps: Coroutine[Any, Any, End | Event]) -> Event:
        end = await steps
        if not isinstance(end, End):
            return end
        if not end.is_local:
            await remember_seen(end.payload, job, self.context)
        if not await self._deliver(end.payload, job):
            return report.timeout(job, self.context)
        return report.final(job, end.payload, self.context)

    async def _deliver(self, batch: Payload, job: Job) -> bool:
        """Fetch the batch's files; False if the wait budget is spent before all are there."""
        context, strange = self.context, 0
        try:
            for key in ("output_file_id", "error_file_id"):
                file_id = batch.data.get(key)
                if self.is_complete or not isinstance(file_id, str):
                    continue
                with tempfile.TemporaryFile() as content:
                    if not await self._download(file_id, content, job):
                        return False
                    for lines in _pieces(content):
                        results = [one for raw in lines if (one := self._result(raw)) is not None]
                        strange += len(lines) - len(results)
                        await self._add(results, job)
        except OSError as error:
            self._unfetched = True
            await context.emit(report.not_written(job, "A temporary file", error))
            await context.emit(report.warning(job, "no_room", TMPDIR_HINT))
        if strange:
            message = f"{strange:,} lines of the batch's files are no results of it."
            await context.emit(report.warning(job, "strange_results", message))
        self._count_missing(batch)
        return True

    async def _download(self, file_id: str, content: IO[bytes], job: Job) -> bool:
        """Fetch a file, and report each failure; False if the wait budget is spent.

        Raises:
            NotFound: the API does not have it, or does not hand it out.
            Unavailable: it could not be fetched for long enough.
            OSError: there is no room for it.
        """
        context, clock = self.context, self.context.clock
        api = await context.connect()
        patience = Patience(clock, deadline=context.deadline)
        while True:
            content.seek(0)
            content.truncate()
            least = LEAST_LOOK if not patience.failures else 0.01
            left = max(context.deadline - clock.monotonic(), least)
            try:
                await api.download(file_id, content, min(left, TRANSFER_SECONDS))
            except CallFailed as failure:
                patience.failed(failure)
                delay = _delay(file_id, failure, patience, clock.monotonic())
                delay = max(min(delay, context.deadline - clock.monotonic()), 0.0)
                event = report.poll_error(
                    failure,
                    job,
                    context,
                    attempt=patience.failures,
                    consecutive=patience.failures,
                    delay=delay,
                )
                await context.emit(event)
                await clock.sleep(delay)
                if clock.monotonic() >= context.deadline:
                    return False
            else:
                content.seek(0)
                return True

    def _result(self, raw: bytes) -> _Result | None:
        """A line as a result; None if it is of somebody else, or there twice."""
        line = read_line(raw)
        if line is None or line.custom_id in self._delivered:
            return None
        if self._known is not None and line.custom_id not in self._known:
            return None
        self._delivered.add(line.custom_id)
        return _Result(line.custom_id, line.status, raw)

    async def _add(self, results: list[_Result], job: Job) -> None:
        """Write results to the file, and report how their jobs ended."""
        new = [one for one in results if one.custom_id not in self._results.statuses]
        try:
            await self._results.add({one.custom_id: (one.status, one.raw) for one in new})
        except OSError as error:
            self._unfetched = True
            await self.context.emit(report.not_written(job, self._results.path, error))
            for one in new:
                self._tally.count(one.status, code_of(one.status) or ExitCode.LOCAL_IO)
        if self._known is not None:
            left = self._known - self._results.statuses.keys()
            self._tally.stand_for(max(len(left), 1))
        for one in new:
            for event in _ends(one, job, self.context):
                await self.context.emit(event.of_many(one.custom_id))

    def _count_missing(self, batch: Payload) -> None:
        """Count the jobs that the batch's files lack."""
        if self._known is not None:
            missing = len(self._known - self._results.statuses.keys() - self._delivered)
        else:
            total = (batch.object("request_counts") or {}).get("total")
            missing = total - len(self._delivered) if isinstance(total, int) else 0
            if batch.status != "completed" and not self._delivered:
                missing = max(missing, 1)  # the batch itself
        if missing <= 0:
            return
        status, code = "missing", ExitCode.LOCAL_IO
        if not self._unfetched and batch.status == "completed":
            self._unfetched, code = True, ExitCode.ERROR
        elif not self._unfetched:
            status, code = str(batch.status), ExitCode.UNSUCCESSFUL
        self._tally.count(status, code, number=missing)


class _Result(NamedTuple):
    """A line of a batch's files."""

    custom_id: str
    status: str
    raw: bytes


def _delay(file_id: str, failure: CallFailed, patience: Patience, now: float) -> float:
    """Seconds until a file is asked for again; raises what ends that."""
    if is_auth(failure):
        raise auth_error(failure) from failure
    if not is_passing(failure) and not patience.doubts:
        message = f"The batch's file {file_id} can't be fetched: {failure.message}"
        raise NotFound.of(failure, message) from failure
    patience.give_up_at(min(patience.give_up, now + BLOCKED_AFTER))
    delay = patience.delay()
    if now + delay >= patience.give_up:
        message = f"The batch's file {file_id} could not be fetched: {failure.message}"
        raise Unavailable.of(failure, message, hint=passing_hint(failure)) from failure
    return delay


def _ends(result: _Result, job: Job, context: Context) -> Iterator[Event]:
    """The events about the end of a batch's job, as in background mode."""
    line = Payload(result.raw).data
    response = line["response"] or {}
    body = response.get("body")
    if result.status == REFUSED:
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
    payload = Payload.of(body or {"status": result.status, "error": line["error"]})
    if context.output.show_output_text and payload.text:
        yield report.output_text(job, payload.text)
    yield report.final(Job(job.response_id), payload, context)


def _pieces(content: IO[bytes]) -> Iterator[list[bytes]]:
    """The lines of a file, a piece at a time; each ends with a line end."""
    while lines := content.readlines(_PIECE_BYTES):
        yield [line if line.endswith(b"\n") else line + b"\n" for line in lines if line.strip()]
