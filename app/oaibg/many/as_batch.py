"""A jobs file's run through the Batch API: one upload, one batch, and its results.

https://platform.openai.com/docs/guides/batch. What is paid for is the batch: it is created once.
Unlike responses, batches can be listed, so that one whose create was not answered can be found
again, by what its metadata has.
"""

from __future__ import annotations

import hashlib
import tempfile
from typing import IO, TYPE_CHECKING, Any

from oaibg.api.payload import Payload, is_response_id
from oaibg.contract.errors import ApiRefused, CallFailed, OaibgError, OutcomeUnknown, UsageError
from oaibg.engine import report
from oaibg.engine.commands import await_end, closing
from oaibg.engine.create import Created, create_locked
from oaibg.engine.find import Target, find
from oaibg.engine.follow import End, PollTimes, follow
from oaibg.engine.job import Job
from oaibg.engine.persist import in_thread, remember_id
from oaibg.engine.retry import ask
from oaibg.engine.submission import Submission
from oaibg.engine.verdicts import CreateVerdict, judge_create
from oaibg.many.batch_results import TMPDIR_HINT, TRANSFER_SECONDS, BatchResults
from oaibg.many.plan import locked_run, rows_of
from oaibg.many.results_file import ResultsFile
from oaibg.request.body import Request
from oaibg.state.commits import patiently
from oaibg.state.store import Intent, line_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from oaibg.api.calls import Calls
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.plan import Plan
    from oaibg.request.jobs_file import JobsFile
    from oaibg.state.store import Row

WINDOW = "24h"

_MARK = "oaibg"
"""The key in a batch's metadata by which it is found again."""

_LOOKS, _LOOK_INTERVAL = 3, 3.0
_LOOK_PAGES = 20
"""Pages of a hundred batches that are searched for one."""


async def submit_batch(plan: Plan, own: Job, context: Context, *, detach: bool) -> Event:
    """Submit the jobs of a file as one batch, follow it to its end, and fetch the results.

    Args:
        plan: what to do.
        own: what is known of the run itself.
        context: what to work with.
        detach: whether to leave the batch to run.
    """
    return await closing(_submit_batch(plan, own, context, detach=detach), own, context)


async def monitor_batch(batch_id: str, results_path: str, own: Job, context: Context) -> Event:
    """Follow a batch that was submitted before, to its end, and fetch the results."""
    return await closing(_monitor_batch(batch_id, results_path, context), own, context)


async def _submit_batch(plan: Plan, own: Job, context: Context, *, detach: bool) -> Event:
    file = plan.file
    with locked_run(plan.key, context):
        rows = await rows_of(plan, context, batch=True)
        sha256 = _digest(line.custom_id + line.sha256 for line in file.lines)
        row = rows.get("")
        _check_same(file, row, sha256)
        begun = row is not None and row.response_id is not None
        known = {line.custom_id for line in file.lines}
        with ResultsFile(plan.results_path, dict.fromkeys(known)) as results:
            if results.statuses and not begun:
                raise UsageError(
                    f"{results.path}: its results are not of this run, which has no batch yet.",
                    hint="Name another --results-file, or move this one away.",
                )
            batch = BatchResults(results, known, context)
            if batch.is_complete:
                return batch.summary()
            job = Job(submitting=True, is_run=True)  # the batch alone would not bring the results
            own.hand_over_outcome()

            async def steps() -> End | Event:
                created = await _Submitting(plan, row, sha256, job, batch.context).run()
                times = PollTimes(context.wait.poll_seconds)
                return await await_end(
                    created, job, batch.context, times, detach=detach, one_of_many=True
                )

            return await batch.run(job, steps())


async def _monitor_batch(batch_id: str, results_path: str, context: Context) -> Event:
    with ResultsFile(results_path) as results:
        batch = BatchResults(results, None, context)
        job = Job(batch_id, is_run=True)

        async def steps() -> End | Event:
            await find(Target(response_id=batch_id), job, batch.context)
            times = PollTimes(context.wait.poll_seconds)
            end = await follow(job, batch.context, times, delay=0.0)
            return end or report.timeout(job, context)

        return await batch.run(job, steps())


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

    def __init__(
        self, plan: Plan, row: Row | None, sha256: str, job: Job, context: Context
    ) -> None:
        self._plan, self._row, self._job, self._context = plan, row, job, context
        self._sha256 = sha256
        self._mark = _digest([context.base_url, plan.key, self._sha256])
        self._file_id: str | None = None

    async def run(self) -> Created:
        """Create the batch, or reattach to the one that there is."""
        plan, job, context = self._plan, self._job, self._context
        request = Request(body={"model": plan.file.lines[0].model}, sha256=self._sha256)
        await context.emit(report.submit_start(request, plan.key, context.wait.poll_seconds))
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
            job.note_sending()
            # Who decides for another batch must have learnt that there is none so far.
            if await self._find(looks=1, insist=plan.resubmit_unknown):
                return Created()
            job.note_not_created()
        try:
            return await create_locked(submission, row, job, context)
        except OutcomeUnknown:
            if sent and not plan.resubmit_unknown:
                raise  # it was searched for above
            if not await self._find(looks=_LOOKS):
                raise
            return Created()

    async def _create(
        self, api: Calls, on_sending: Callable[[], Awaitable[None]], timeout: float
    ) -> Payload:
        try:
            if self._file_id is None:
                self._file_id = await self._upload(api)
            metadata = {_MARK: self._mark}
            return await api.create_batch(self._file_id, metadata, on_sending, timeout=timeout)
        except CallFailed as failure:
            if failure.http_status not in (404, 405):
                raise
            raise ApiRefused.of(
                failure,
                hint="Has this server a Batch API? Without --completion-window 24h the same jobs "
                "run in background mode.",
                outcome="not_created",
            ) from failure

    async def _upload(self, api: Calls) -> str:
        """Send the file; nothing is created by that, and it may be done again."""
        left = self._context.deadline - self._context.clock.monotonic()
        try:
            with await in_thread(_content, self._plan.file) as content:
                return await api.upload("jobs.jsonl", content, min(left, TRANSFER_SECONDS))
        except CallFailed as failure:
            if judge_create(failure) is CreateVerdict.UNKNOWN:
                failure.note_unsent()
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
        job, context = self._job, self._context
        try:
            found = await self._search(looks)
        except OaibgError:
            if insist:
                raise
            return False
        if found is None:
            return False
        job.note_created(str(found.id), found.status)
        job.note_row(await self._row_number())
        await remember_id(job, context)
        return True

    async def _row_number(self) -> int:
        """The row of the batch in the state; a new one if the state has lost it."""
        context, plan = self._context, self._plan
        store, clock = context.store, context.clock
        rows = await patiently(lambda: store.of_run(context.base_url, plan.key), clock)
        if "" in rows:
            return rows[""].id
        intent = Intent(
            base_url=context.base_url,
            request_sha256=self._sha256,
            job_key=line_key(plan.key, ""),
            model=plan.file.lines[0].model,
            completion_window=WINDOW,
        )
        return await patiently(lambda: store.intent(intent), clock)

    async def _search(self, looks: int) -> Payload | None:
        api, clock = await self._context.connect(), self._context.clock
        for look in range(looks):
            if look:
                if clock.monotonic() + _LOOK_INTERVAL > self._context.deadline:
                    break
                await clock.sleep(_LOOK_INTERVAL)
            found = await self._marked(api)
            if found is not None:
                return found
        return None

    async def _marked(self, api: Calls) -> Payload | None:
        after: str | None = None
        for _ in range(_LOOK_PAGES):

            async def look(seconds: float, after: str | None = after) -> list[Any]:
                return await api.list_batches(after, seconds)

            try:
                page = await ask(look, self._context.clock)
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
