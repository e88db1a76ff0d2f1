"""The results of a batch on their way from the API's files into the results file."""

from __future__ import annotations

import math
import tempfile
from typing import IO, TYPE_CHECKING, NamedTuple

from oaibg.api.payload import Payload
from oaibg.base.text import utf8
from oaibg.contract.errors import ApiRefused, CallFailed, ExitCode, NotFound, Unavailable
from oaibg.contract.events import Final, OutputText, OutputTextMissing
from oaibg.engine import retry as polling
from oaibg.engine.commands import told
from oaibg.engine.job import Job
from oaibg.engine.verdicts import auth_error, is_auth, is_passing, passing_hint
from oaibg.many.results_file import REFUSED, code_of, seen
from oaibg.many.side_by_side import Tally, side_by_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Tools
    from oaibg.many.results_file import ResultsFile

TRANSFER_SECONDS = 1800.0
"""Seconds that an upload or a download may take; they may have hundreds of megabytes."""

TMPDIR_HINT = "Batches take room in the folder for temporary files; TMPDIR names another one."

_PIECE_BYTES = 4 << 20

_BARE_404S = 2
"""Answers of 404 without the API's envelope that are not believed."""


class Delivery:
    """The results of a batch on their way into the results file."""

    def __init__(self, results: ResultsFile, known: set[str] | None, tools: Tools) -> None:
        self._results, self._known, self._tools = results, known, tools
        self._tally = Tally()
        self._tally.each = max(len((known or set()) - results.statuses.keys()), 1)
        self._delivered: set[str] = set()
        """The custom_ids that the batch's files have."""
        self._batch_id: str | None = None
        self._unfetched = False
        """Whether the same command has results to fetch."""

    @property
    def is_complete(self) -> bool:
        """Whether every job has its result."""
        return self._known is not None and self._known <= self._results.statuses.keys()

    async def run(self, job: Job, events: AsyncIterator[Event], own: Job) -> AsyncIterator[Event]:
        """The events of the batch, and the summary."""
        member = job, told(events, job, self._tools)
        async for event in side_by_side(iter([member]), self._tally, at_once=1):
            yield event
        self._batch_id = job.response_id
        yield self.summary(own)

    def summary(self, own: Job) -> Event:
        """The line that ends the run."""
        tally = self._tally
        for status in self._results.statuses.values():
            tally.count(status, code_of(status))
        more = tally.going_on or tally.counts["not_submitted"] or self._unfetched
        next_ = own.again if more else None
        return tally.summary(self._tools, next_=next_, response_id=self._batch_id)

    async def after(self, events: AsyncIterator[Event], job: Job) -> AsyncIterator[Event]:
        """The events of a batch, and before its end those of its jobs."""
        async for event in events:
            if isinstance(event, OutputTextMissing):
                continue  # a batch has none
            if isinstance(event, Final) and job.payload is not None:
                try:
                    async for one in self._deliver(job.payload, job):
                        yield one
                except _SpentError:
                    yield job.timeout(self._tools.elapsed())
                    return
                yield event.of_many(None)
            else:
                yield event

    async def _deliver(self, batch: Payload, job: Job) -> AsyncIterator[Event]:
        strange = 0
        try:
            for key in ("output_file_id", "error_file_id"):
                file_id = batch.data.get(key)
                if self.is_complete or not isinstance(file_id, str):
                    continue
                with tempfile.TemporaryFile() as content:
                    async for event in self._download(file_id, content, job):
                        yield event
                    for lines in _pieces(content):
                        results = [one for raw in lines if (one := self._result(raw)) is not None]
                        strange += len(lines) - len(results)
                        async for event in self._add(results, job):
                            yield event
        except OSError as error:
            self._unfetched = True
            yield job.not_written("A temporary file", error)
            yield job.warning("no_room", TMPDIR_HINT)
        if strange:
            yield job.warning(
                "strange_results", f"{strange:,} lines of the batch's files are no results of it."
            )
        self._count_missing(batch)

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

    async def _download(self, file_id: str, content: IO[bytes], job: Job) -> AsyncIterator[Event]:
        """Fetch a file, with patience; what fails is told.

        Raises:
            NotFound: the API does not have it, or does not hand it out.
            Unavailable: it could not be fetched for long enough.
            _SpentError: the wait budget is spent.
            OSError: there is no room for it.
        """
        tools, clock = self._tools, self._tools.clock
        api, deadline = await tools.connect(), tools.deadline(job)
        attempt, give_up = 0, math.inf
        while True:
            attempt += 1
            left = max(deadline - clock.monotonic(), polling.LEAST_LOOK if attempt == 1 else 0.01)
            content.seek(0)
            content.truncate()
            try:
                await api.download(file_id, content, min(left, TRANSFER_SECONDS))
                break
            except CallFailed as failure:
                now = clock.monotonic()
                if is_auth(failure):
                    raise auth_error(failure) from failure
                bare = failure.http_status == 404 and not failure.envelope
                if not is_passing(failure) and not (bare and attempt <= _BARE_404S):
                    raise NotFound(
                        f"The batch's file {file_id} can't be fetched: {failure.message}",
                        http_status=failure.http_status,
                        request_id=failure.request_id,
                    ) from failure
                give_up = min(give_up, now + polling.BLOCKED_AFTER)
                asked = polling.retry_after(failure.retry_after, clock.now())
                delay = polling.create_delay(attempt, asked, clock.random())
                if now + delay >= give_up:
                    raise Unavailable(
                        f"The batch's file {file_id} could not be fetched: {failure.message}",
                        http_status=failure.http_status,
                        request_id=failure.request_id,
                        hint=passing_hint(failure),
                    ) from failure
                delay = max(min(delay, deadline - now), 0.0)
                yield job.poll_error(
                    failure,
                    attempt=attempt,
                    elapsed=tools.elapsed(),
                    consecutive=attempt,
                    delay=delay,
                )
                await clock.sleep(delay)
                if clock.monotonic() >= deadline:
                    raise _SpentError from failure
        content.seek(0)

    def _result(self, raw: bytes) -> _Result | None:
        """A line as a result; None where it is of somebody else, or there twice."""
        line = seen(raw)
        if line is None or line.custom_id in self._delivered:
            return None
        if self._known is not None and line.custom_id not in self._known:
            return None
        self._delivered.add(line.custom_id)
        return _Result(line.custom_id, line.status, raw)

    async def _add(self, results: list[_Result], job: Job) -> AsyncIterator[Event]:
        new = [one for one in results if one.custom_id not in self._results.statuses]
        try:
            await self._results.add({one.custom_id: (one.status, one.raw) for one in new})
        except OSError as error:
            self._unfetched = True
            yield job.not_written(self._results.path, error)
            for one in new:
                self._tally.count(one.status, code_of(one.status) or ExitCode.LOCAL_IO)
        if self._known is not None:
            left = self._known - self._results.statuses.keys()
            self._tally.each = max(len(left), 1)
        for one in new:
            for event in _told(one, job, self._tools):
                yield event.of_many(one.custom_id)


class _SpentError(Exception):
    """The wait budget was spent before all results were there."""


class _Result(NamedTuple):
    """A line of a batch's files."""

    custom_id: str
    status: str
    raw: bytes


def _told(result: _Result, job: Job, tools: Tools) -> Iterator[Event]:
    """What is told of a job of a batch: its end, as in background mode."""
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
        yield Job(job.response_id, submitting=True).error(refusal)
        return
    body = body or {"status": result.status, "error": line["error"]}
    payload = Payload.of(body)
    if job.output.show_output_text and payload.text:
        text = payload.text
        yield OutputText(response_id=job.response_id, text=text, bytes=len(utf8(text)))
    yield Job(job.response_id).final(payload, tools.elapsed())


def _pieces(content: IO[bytes]) -> Iterator[list[bytes]]:
    """The lines of a file, a piece at a time; each ends with a line end."""
    while lines := content.readlines(_PIECE_BYTES):
        yield [line if line.endswith(b"\n") else line + b"\n" for line in lines if line.strip()]
