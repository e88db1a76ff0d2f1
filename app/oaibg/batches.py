"""A jobs file's run through the Batch API: one upload, one batch, and its results.

https://platform.openai.com/docs/guides/batch. What is paid for is the batch: it is created once.
Unlike responses, batches can be listed, so that one whose create was not answered can be found
again, by what its metadata has.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from oaibg.errors import ApiRefused, CallFailed, ExitCode, NotFound, OutcomeUnknown
from oaibg.events import Final, OutputText, OutputTextMissing
from oaibg.job import Job
from oaibg.jobs import Target, ask, monitor, see_through, told
from oaibg.many import Tally, side_by_side
from oaibg.payload import Payload
from oaibg.request import Request
from oaibg.results import REFUSED, ResultsFile, code_of, seen
from oaibg.runs import check_begun, locked_run
from oaibg.store import line_key
from oaibg.submitting import Submission, create_locked
from oaibg.text import utf8
from oaibg.tools import event_loop, in_thread, insist, remember_id
from oaibg.verdicts import CreateVerdict, judge_create

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
        await event_loop()
        known = {line.custom_id for line in file.lines}
        results = ResultsFile(plan.results_path, f"{tools.base_url}\n{plan.key}", known)
        delivery = _Delivery(results, known, tools)
        if delivery.is_complete:
            yield delivery.summary(own)
            return
        job = Job(wait=own.wait, output=own.output, submitting=True, run=own.run)
        own.outcome = None  # from here on the batch has it
        submitting = _Submitting(plan, rows.get(""), job, tools)

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
    results = ResultsFile(results_path, "")
    delivery = _Delivery(results, None, tools)
    job = Job(batch_id, wait=own.wait, output=own.output, run=own.run)
    events = delivery.after(monitor(Target(response_id=batch_id), job, tools), job)
    async for event in delivery.run(job, events, own):
        yield event


class _Submitting:
    """The batch of a run on its way to being created, or to being found again."""

    def __init__(self, plan: Plan, row: Row | None, job: Job, tools: Tools) -> None:
        self._plan, self._row, self._job, self._tools = plan, row, job, tools
        self._sha256 = _digest(line.custom_id + line.sha256 for line in plan.file.lines)
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
        row = self._row
        if row is not None and row.step == "sending" and await self._find(looks=1):
            yield job.reattached()
            return
        try:
            async for event in create_locked(submission, row, job, tools):
                yield event
        except OutcomeUnknown:
            if row is not None and row.step == "sending" and not plan.resubmit_unknown:
                raise  # it was looked for above
            if not await self._find(looks=_LOOKS):
                raise
            yield job.reattached()

    async def _create(
        self, client: Client, on_sending: Callable[[], Awaitable[None]], timeout: float
    ) -> Payload:
        api = cast("BatchClient", client)
        if self._file_id is None:
            self._file_id = await self._upload(api)
        return await api.create_batch(
            self._file_id, {_MARK: self._mark}, on_sending, timeout=timeout
        )

    async def _upload(self, api: BatchClient) -> str:
        """Send the file; nothing is created by that, and it may be done again."""
        try:
            with await in_thread(_content, self._plan.file) as content:
                return await api.upload("jobs.jsonl", content, _TRANSFER_SECONDS)
        except CallFailed as failure:
            if judge_create(failure) is CreateVerdict.UNKNOWN:
                failure.sent = False
            raise

    async def _find(self, *, looks: int) -> bool:
        """Whether the API has the batch although nothing is known here; it is noted then."""
        job, tools = self._job, self._tools
        api = await _connect(tools)
        for look in range(looks):
            await tools.clock.sleep(_LOOK_INTERVAL if look else 0.0)
            found = await self._marked(api)
            if found is not None:
                rows = await insist(
                    lambda: tools.store.of_run(tools.base_url, self._plan.key), tools
                )
                job.response_id, job.status = found["id"], found["status"]
                job.outcome, job.unstored_row = "created", rows[""].id
                await remember_id(job, tools)
                return True
        return False

    async def _marked(self, api: BatchClient) -> dict[str, Any] | None:
        after: str | None = None
        for _ in range(_LOOK_PAGES):
            page: list[dict[str, Any]] = []

            async def look(_: str, seconds: float, after: str | None = after) -> list[Any]:
                return await api.batches(after, seconds)

            try:
                page = await ask(look, self._job, self._tools)
            except CallFailed:
                return None
            for batch in page:
                if (batch.get("metadata") or {}).get(_MARK) == self._mark:
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
        self._unwritten = False

    @property
    def is_complete(self) -> bool:
        """Whether every job has its result."""
        return self._known is not None and self._known <= self._results.statuses.keys()

    async def run(self, job: Job, events: AsyncIterator[Event], own: Job) -> AsyncIterator[Event]:
        """The events of the batch, and the summary."""
        member = job, told(events, job, self._tools)
        async for event in side_by_side(iter([member]), self._tally, at_once=1):
            yield event
        yield self.summary(own)

    def summary(self, own: Job) -> Event:
        """The line that ends the run."""
        tally = self._tally
        for status in self._results.statuses.values():
            tally.count(status, code_of(status))
        more = tally.going_on or tally.counts["not_submitted"] or self._unwritten
        return tally.summary(self._tools, next_=own.again if more else None)

    async def after(self, events: AsyncIterator[Event], job: Job) -> AsyncIterator[Event]:
        """The events of a batch, and before its end those of its jobs."""
        async for event in events:
            if isinstance(event, OutputTextMissing):
                continue  # a batch has none
            if isinstance(event, Final) and job.payload is not None:
                async for one in self._deliver(job.payload, job):
                    yield one
                yield event.of_many(None)
            else:
                yield event

    async def _deliver(self, batch: Payload, job: Job) -> AsyncIterator[Event]:
        strange = 0
        for key in ("output_file_id", "error_file_id"):
            file_id = batch.data.get(key)
            if self.is_complete or not isinstance(file_id, str):
                continue
            with tempfile.TemporaryFile() as content:
                await self._download(file_id, content, job)
                for lines in _pieces(content):
                    results = [result for raw in lines if (result := self._result(raw))]
                    strange += len(lines) - len(results)
                    async for event in self._add(results, job):
                        yield event
        if strange:
            yield job.warning(
                "strange_results", f"{strange:,} lines of the batch's files are no new results."
            )
        missing = (self._known or set()) - self._results.statuses.keys()
        if missing and not self._unwritten:
            ended = "missing" if batch.status == "completed" else str(batch.status)
            code = ExitCode.ERROR if ended == "missing" else ExitCode.UNSUCCESSFUL
            for _ in missing:
                self._tally.count(ended, code)
        elif self._known is None and batch.status != "completed":
            self._tally.count(str(batch.status), ExitCode.UNSUCCESSFUL)

    async def _download(self, file_id: str, content: IO[bytes], job: Job) -> None:
        api = await _connect(self._tools)

        async def download(_: str, seconds: float) -> None:
            content.seek(0)
            content.truncate()
            await api.download(file_id, content, max(seconds, _TRANSFER_SECONDS))

        try:
            await ask(download, job, self._tools)
        except CallFailed as failure:
            raise NotFound(
                f"The batch's file {file_id} can't be fetched: {failure.message}",
                http_status=failure.http_status,
                request_id=failure.request_id,
            ) from failure
        content.seek(0)

    def _result(self, raw: bytes) -> _Result | None:
        """A line as a result; None where it is of somebody else, or there already."""
        custom_id, status = seen(raw)
        if custom_id is None or custom_id in self._results.statuses:
            return None
        if self._known is not None and custom_id not in self._known:
            return None
        return _Result(custom_id, status, raw)

    async def _add(self, results: list[_Result], job: Job) -> AsyncIterator[Event]:
        try:
            await self._results.add({one.custom_id: (one.status, one.raw) for one in results})
        except OSError as error:
            self._unwritten = True
            yield job.not_written(self._results.path, error)
            for one in results:
                self._tally.count(one.status, code_of(one.status) or ExitCode.LOCAL_IO)
        for one in results:
            for event in _told(one, job, self._tools):
                yield event.of_many(one.custom_id)


async def _connect(tools: Tools) -> BatchClient:
    return cast("BatchClient", await tools.connect())


class _Result(NamedTuple):
    """A line of a batch's files."""

    custom_id: str
    status: str
    raw: bytes


def _told(result: _Result, job: Job, tools: Tools) -> Iterator[Event]:
    """What is told of a job of a batch: its end, as in background mode."""
    line = json.loads(result.raw)
    response = line["response"] or {}
    if result.status == REFUSED:
        error = (response.get("body") or {}).get("error")
        fields = error if isinstance(error, dict) else {"message": str(error)}
        refusal = ApiRefused(
            f"HTTP {response['status_code']}: {fields.get('message')}",
            code=str(fields.get("code") or f"http_{response['status_code']}"),
            http_status=response["status_code"],
            request_id=response.get("request_id"),
            outcome="not_created",
        )
        yield Job(job.response_id, submitting=True).error(refusal)
        return
    body = response.get("body") or {"status": result.status, "error": line["error"]}
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
