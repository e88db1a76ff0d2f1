"""A jobs file's run through the Batch API: one upload, one batch, and its results.

https://platform.openai.com/docs/guides/batch. What is paid for is the batch: it is created once.
Unlike responses, batches can be listed, so that one whose create was not answered can be found
again, by what its metadata has.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any

from oaibg.api.payload import Payload, is_response_id
from oaibg.contract.errors import ApiRefused, CallFailed, OaibgError, OutcomeUnknown, UsageError
from oaibg.engine.commands import Target, ask, monitor, see_through, told
from oaibg.engine.context import event_loop, in_thread, insist, remember_id
from oaibg.engine.create import Submission, create_locked
from oaibg.engine.job import Job
from oaibg.engine.verdicts import CreateVerdict, judge_create
from oaibg.many.batch_results import TMPDIR_HINT, TRANSFER_SECONDS, Delivery
from oaibg.many.in_background import check_begun, locked_run
from oaibg.many.results_file import ResultsFile
from oaibg.request.body import Request
from oaibg.state.store import Intent, line_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from oaibg.api.calls import Calls
    from oaibg.contract.events import Event
    from oaibg.engine.context import Tools
    from oaibg.many.in_background import Plan
    from oaibg.request.jobs_file import JobsFile
    from oaibg.state.store import Row

WINDOW = "24h"

_MARK = "oaibg"
"""The key in a batch's metadata by which it is found again."""

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
    with ExitStack() as stack:
        stack.enter_context(locked_run(plan.key, tools))
        rows = await insist(lambda: tools.store.of_run(tools.base_url, plan.key), tools)
        check_begun(file, rows, batch=True)
        sha256 = _digest(line.custom_id + line.sha256 for line in file.lines)
        row = rows.get("")
        _check_same(file, row, sha256)
        begun = row is not None and row.response_id is not None
        known = {line.custom_id for line in file.lines}
        results = stack.enter_context(ResultsFile(plan.results_path, dict.fromkeys(known)))
        await event_loop()
        if results.statuses and not begun:
            raise UsageError(
                f"{results.path}: its results are not of this run, which has no batch yet.",
                hint="Name another --results-file, or move this one away.",
            )
        delivery = Delivery(results, known, tools)
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
    with ResultsFile(results_path) as results:
        await event_loop()
        delivery = Delivery(results, None, tools)
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
        self, client: Calls, on_sending: Callable[[], Awaitable[None]], timeout: float
    ) -> Payload:
        api = client
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

    async def _upload(self, api: Calls) -> str:
        """Send the file; nothing is created by that, and it may be done again."""
        left = self._tools.deadline(self._job) - self._tools.clock.monotonic()
        try:
            with await in_thread(_content, self._plan.file) as content:
                return await api.upload("jobs.jsonl", content, min(left, TRANSFER_SECONDS))
        except CallFailed as failure:
            if judge_create(failure) is CreateVerdict.UNKNOWN:
                failure.sent = False
            raise
        except OSError as error:
            raise UsageError(
                f"The file to upload could not be written: {error.strerror}.",
                hint=TMPDIR_HINT,
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
        api, clock = await self._tools.connect(), self._tools.clock
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

    async def _marked(self, api: Calls) -> Payload | None:
        after: str | None = None
        for _ in range(_LOOK_PAGES):

            async def look(_: str, seconds: float, after: str | None = after) -> list[Any]:
                return await api.list_batches(after, seconds)

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


def _content(file: JobsFile) -> IO[bytes]:
    """The file to upload, in a temporary one."""
    content = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    for line in file.requests():
        content.write(line)
    content.seek(0)
    return content


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()
