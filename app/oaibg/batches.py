"""A jobs file's run through the Batch API: one upload, one batch, and its results.

https://platform.openai.com/docs/guides/batch. What is paid for is the batch: it is created once.
Unlike responses, batches can be listed, so that one whose create was not answered can be found
again, by what its metadata has.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from oaibg import polling
from oaibg.errors import (
    ApiRefused,
    CallFailed,
    ExitCode,
    NotFound,
    OaibgError,
    OutcomeUnknown,
    Unavailable,
    UsageError,
)
from oaibg.events import Final, OutputText, OutputTextMissing
from oaibg.job import Job
from oaibg.jobs import Target, ask, monitor, see_through, told
from oaibg.many import Tally, side_by_side
from oaibg.payload import Payload, is_response_id
from oaibg.request import Request
from oaibg.results import REFUSED, ResultsFile, code_of, seen
from oaibg.runs import check_begun, locked_run
from oaibg.store import Intent, line_key
from oaibg.submitting import Submission, create_locked
from oaibg.text import utf8
from oaibg.tools import event_loop, in_thread, insist, remember_id
from oaibg.verdicts import (
    CreateVerdict,
    auth_error,
    is_auth,
    is_passing,
    judge_create,
    passing_hint,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from oaibg.events import Event
    from oaibg.jobsfile import JobsFile
    from oaibg.runs import Plan
    from oaibg.store import Row
    from oaibg.tools import BatchClient, Client, Tools

WINDOW = "24h"

_MARK = "oaibg"
"""The key in a batch's metadata by which it is found again."""

_TRANSFER_SECONDS = 1800.0
"""Seconds that an upload or a download may take; they may have hundreds of megabytes."""

_PIECE_BYTES = 4 << 20

_TMPDIR_HINT = "Batches take room in the folder for temporary files; TMPDIR names another one."

_BARE_404S = 2
"""Answers of 404 without the API's envelope that are not believed."""

_LOOKS, _LOOK_INTERVAL = 3, 3.0
_LOOK_PAGES = 20
"""Pages of a hundred batches that are looked through for one."""


def submit_batch(plan: Plan, own: Job, tools: Tools, *, detach: bool) -> AsyncIterator[Event]:
    """Submit the jobs of a file as one batch, follow it to its end, and fetch the results.

    Args:
        plan: what to do.
        own: what is known of the run itself.
        tools: what it works with.
        detach: whether to leave the batch to run.
    """
    return told(_submit_batch(plan, own, tools, detach=detach), own, tools)


def monitor_batch(batch_id: str, results_path: str, own: Job, tools: Tools) -> AsyncIterator[Event]:
    """Follow a batch that was submitted before, to its end, and fetch the results."""
    return told(_monitor_batch(batch_id, results_path, own, tools), own, tools)


async def _submit_batch(
    plan: Plan, own: Job, tools: Tools, *, detach: bool
) -> AsyncIterator[Event]:
    file = plan.file
    with locked_run(plan.key, tools):
        rows = await insist(lambda: tools.store.of_run(tools.base_url, plan.key), tools)
        check_begun(file, rows, batch=True)
        sha256 = _digest(line.custom_id + line.sha256 for line in file.lines)
        row = rows.get("")
        _check_same(file, row, sha256)
        begun = row is not None and row.response_id is not None
        await event_loop()
        known = {line.custom_id for line in file.lines}
        results = ResultsFile(plan.results_path, dict.fromkeys(known))
        if results.statuses and not begun:
            raise UsageError(
                f"{results.path}: its results are not of this run, which has no batch yet.",
                hint="Name another --results-file, or move this one away.",
            )
        delivery = _Delivery(results, known, tools)
        if delivery.is_complete:
            yield delivery.summary(own)
            return
        job = Job(wait=own.wait, output=own.output, submitting=True, run=own.run)
        job.again = own.again  # the batch alone would not bring the results
        own.outcome = None  # from here on the batch has it
        submitting = _Submitting(plan, row, sha256, job, tools)

        async def steps() -> AsyncIterator[Event]:
            async for event in submitting.events():
                yield event
            rest = see_through(job, tools, detach=detach, one_of_many=True)
            async for event in delivery.after(rest, job):
                yield event

        async for event in delivery.run(job, steps(), own):
            yield event


async def _monitor_batch(
    batch_id: str, results_path: str, own: Job, tools: Tools
) -> AsyncIterator[Event]:
    await event_loop()
    results = ResultsFile(results_path)
    delivery = _Delivery(results, None, tools)
    job = Job(batch_id, wait=own.wait, output=own.output, run=own.run)
    job.again = own.again
    events = delivery.after(monitor(Target(response_id=batch_id), job, tools), job)
    async for event in delivery.run(job, events, own):
        yield event


def _check_same(file: JobsFile, row: Row | None, sha256: str) -> None:
    """Refuse a file of which another version was sent."""
    if row is not None and row.step != "intent" and row.request_sha256 != sha256:
        raise UsageError(
            f"{file.path}: it was changed since its batch was submitted.",
            code="job_key_reused",
            hint="--job-key KEY with a results file of its own begins another run, which is paid "
            "for again. The options that fill the bodies count, too.",
        )


class _Submitting:
    """The batch of a run on its way to being created, or to being found again."""

    def __init__(self, plan: Plan, row: Row | None, sha256: str, job: Job, tools: Tools) -> None:
        self._plan, self._row, self._job, self._tools = plan, row, job, tools
        self._sha256 = sha256
        self._mark = _digest([tools.base_url, plan.key, self._sha256])
        self._file_id: str | None = None

    async def events(self) -> AsyncIterator[Event]:
        """Create the batch, or reattach to the one that there is; ends with `submitted`."""
        plan, job, tools = self._plan, self._job, self._tools
        request = Request(body={"model": plan.file.lines[0].model}, sha256=self._sha256)
        yield job.submit_start(request, plan.key)
        submission = Submission(
            request=request,
            model=plan.file.lines[0].model,
            completion_window=WINDOW,
            job_key=line_key(plan.key, ""),
            resubmit_unknown=plan.resubmit_unknown,
            create=self._create,
        )
        row, sent = self._row, self._row is not None and self._row.step == "sending"
        if sent:
            job.outcome = "unknown"
            # Who decides for another batch must have been told that there is none so far.
            if await self._find(looks=1, insist=plan.resubmit_unknown):
                yield job.reattached()
                return
            job.outcome = "not_created"
        try:
            async for event in create_locked(submission, row, job, tools):
                yield event
        except OutcomeUnknown:
            if sent and not plan.resubmit_unknown:
                raise  # it was looked for above
            if not await self._find(looks=_LOOKS):
                raise
            yield job.reattached()

    async def _create(
        self, client: Client, on_sending: Callable[[], Awaitable[None]], timeout: float
    ) -> Payload:
        api = cast("BatchClient", client)
        try:
            if self._file_id is None:
                self._file_id = await self._upload(api)
            return await api.create_batch(
                self._file_id, {_MARK: self._mark}, on_sending, timeout=timeout
            )
        except CallFailed as failure:
            if failure.http_status not in (404, 405):
                raise
            raise ApiRefused(
                failure.message,
                code=failure.code,
                http_status=failure.http_status,
                request_id=failure.request_id,
                hint="Has this server a Batch API? Without --completion-window 24h the same jobs "
                "run in background mode.",
                outcome="not_created",
            ) from failure

    async def _upload(self, api: BatchClient) -> str:
        """Send the file; nothing is created by that, and it may be done again."""
        left = self._tools.deadline(self._job) - self._tools.clock.monotonic()
        try:
            with await in_thread(_content, self._plan.file) as content:
                return await api.upload("jobs.jsonl", content, min(left, _TRANSFER_SECONDS))
        except CallFailed as failure:
            if judge_create(failure) is CreateVerdict.UNKNOWN:
                failure.sent = False
            raise
        except OSError as error:
            raise UsageError(
                f"The file to upload could not be written: {error.strerror}.",
                hint=_TMPDIR_HINT,
                outcome="not_created",
            ) from error

    async def _find(self, *, looks: int, insist: bool = False) -> bool:
        """Whether the API has the batch although nothing is known here; it is noted then.

        Args:
            looks: how often to look.
            insist: whether an API that can't be asked is an error, and not as one without it.
        """
        job, tools = self._job, self._tools
        try:
            found = await self._looked_for(looks)
        except OaibgError:
            if insist:
                raise
            return False
        if found is None:
            return False
        job.response_id, job.status, job.outcome = found.id, found.status, "created"
        job.unstored_row = await self._row_number()
        await remember_id(job, tools)
        return True

    async def _row_number(self) -> int:
        """The row of the batch in the state; a new one where the state has lost it."""
        tools, plan = self._tools, self._plan
        rows = await insist(lambda: tools.store.of_run(tools.base_url, plan.key), tools)
        if "" in rows:
            return rows[""].id
        intent = Intent(
            base_url=tools.base_url,
            request_sha256=self._sha256,
            job_key=line_key(plan.key, ""),
            model=plan.file.lines[0].model,
            completion_window=WINDOW,
        )
        return await insist(lambda: tools.store.intent(intent), tools)

    async def _looked_for(self, looks: int) -> Payload | None:
        api, clock = await _connect(self._tools), self._tools.clock
        deadline = self._tools.deadline(self._job)
        for look in range(looks):
            if look:
                if clock.monotonic() + _LOOK_INTERVAL > deadline:
                    break
                await clock.sleep(_LOOK_INTERVAL)
            found = await self._marked(api)
            if found is not None:
                return found
        return None

    async def _marked(self, api: BatchClient) -> Payload | None:
        after: str | None = None
        for _ in range(_LOOK_PAGES):

            async def look(_: str, seconds: float, after: str | None = after) -> list[Any]:
                return await api.batches(after, seconds)

            try:
                page = await ask(look, self._job, self._tools)
            except CallFailed:
                return None
            for batch in map(Payload.of, page):
                marked = (batch.object("metadata") or {}).get(_MARK) == self._mark
                if marked and batch.id is not None and is_response_id(batch.id):
                    return batch
            if not page:
                return None
            after = str(page[-1].get("id"))
        return None


class _Delivery:
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
            yield job.warning("no_room", _TMPDIR_HINT)
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
        self._tally.each = missing
        if self._unfetched:
            self._tally.count("missing", ExitCode.LOCAL_IO)
        elif batch.status == "completed":
            self._unfetched = True
            self._tally.count("missing", ExitCode.ERROR)
        else:
            self._tally.count(str(batch.status), ExitCode.UNSUCCESSFUL)
        self._tally.counts[next(reversed(self._tally.counts))] += missing - 1

    async def _download(self, file_id: str, content: IO[bytes], job: Job) -> AsyncIterator[Event]:
        """Fetch a file, with patience; what fails is told.

        Raises:
            NotFound: the API does not have it, or does not hand it out.
            Unavailable: it could not be fetched for long enough.
            _SpentError: the wait budget is spent.
            OSError: there is no room for it.
        """
        tools, clock = self._tools, self._tools.clock
        api, deadline = await _connect(tools), tools.deadline(job)
        attempt, give_up = 0, math.inf
        while True:
            attempt += 1
            left = max(deadline - clock.monotonic(), polling.LEAST_LOOK if attempt == 1 else 0.01)
            content.seek(0)
            content.truncate()
            try:
                await api.download(file_id, content, min(left, _TRANSFER_SECONDS))
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
        custom_id, status = seen(raw)
        if custom_id is None or custom_id in self._delivered:
            return None
        if self._known is not None and custom_id not in self._known:
            return None
        self._delivered.add(custom_id)
        return _Result(custom_id, status, raw)

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


async def _connect(tools: Tools) -> BatchClient:
    return cast("BatchClient", await tools.connect())


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


def _content(file: JobsFile) -> IO[bytes]:
    """The file to upload, in a temporary one."""
    content = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    for line in file.requests():
        content.write(line)
    content.seek(0)
    return content


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()
