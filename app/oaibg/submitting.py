"""From a request to an id: one POST, unless it is certain that it created nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from oaibg import polling
from oaibg.errors import CallFailed, OutcomeUnknown, Unavailable, UsageError
from oaibg.events import Submitted
from oaibg.polling import CreateVerdict, judge_create
from oaibg.record import Record
from oaibg.store import Intent
from oaibg.tools import insist, remember

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from oaibg.events import Event
    from oaibg.events import Warning as WarningEvent
    from oaibg.job import Job
    from oaibg.payload import Payload
    from oaibg.request import Request
    from oaibg.store import Row
    from oaibg.tools import Client, Tools

REPLY_GRACE = 5.0
"""Seconds that a create's reply is waited for after a signal or a deadline, so that a paid id is
not thrown away."""

_LOCK_INTERVAL = 0.03


class Submission(Record):
    """A job to submit."""

    request: Request
    model: str | None
    completion_window: str | None = None
    job_key: str | None = None
    resubmit_unknown: bool = False
    detach: bool = False


async def create_once(submission: Submission, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """Create the job, or reattach to the one that its key has; ends with `submitted`.

    Raises:
        OaibgError: nothing was created, or the outcome is unknown; `job.outcome` tells.
    """
    lock: int | None = None
    row: Row | None = None
    try:
        if submission.job_key is not None:
            row, lock = await _claim(submission, submission.job_key, job, tools)
        if row is None:
            async for event in _create(submission, job, tools):
                yield event
    finally:
        if lock is not None:
            tools.store.unlock(lock)
    if row is not None:
        job.response_id, job.status, job.outcome = row.response_id, row.status, "created"
        yield Submitted(
            response_id=job.response_id, status=job.status, request_id=None, reattached=True
        )


async def _claim(
    submission: Submission, job_key: str, job: Job, tools: Tools
) -> tuple[Row | None, int | None]:
    """The job that the key has already, or the key's lock: the right to submit it.

    Raises:
        UsageError: the key has another request.
        OutcomeUnknown: the key's request was sent by a process that is gone.
        Unavailable: another process is still submitting the key at the deadline.
    """
    store, deadline = tools.store, tools.deadline(job)
    while True:
        row = await insist(lambda: store.by_key(tools.base_url, job_key), tools)
        if row is not None and row.step == "submitted":
            return _same_request(row, submission), None
        lock = store.lock(tools.base_url, job_key)
        if lock is not None:
            try:
                row = await insist(lambda: store.by_key(tools.base_url, job_key), tools)
                return await _won(row, submission, tools), lock
            except BaseException:
                store.unlock(lock)
                raise
        if tools.clock.monotonic() >= deadline:
            raise Unavailable(
                f"Another process is still submitting the job key {job_key!r}.",
                code="job_key_busy",
                outcome="not_created",
            )
        await tools.clock.sleep(_LOCK_INTERVAL)


async def _won(row: Row | None, submission: Submission, tools: Tools) -> Row | None:
    """With the key's lock taken: the job to reattach to, or None where a new one is to be made."""
    if row is None or row.step == "intent":
        return None
    if row.step == "submitted":
        return _same_request(row, submission)
    # Nobody holds the lock, so that whoever was sending is gone, and its outcome with it.
    _same_request(row, submission)
    if not submission.resubmit_unknown:
        raise OutcomeUnknown(
            f"The job key {row.job_key!r} was submitted before, and what became of it is unknown: "
            "the job may be running and may be billed.",
            hint="--resubmit-unknown decides for another submit, which may pay twice.",
            outcome="unknown",
        )
    number = row.id
    await insist(lambda: tools.store.supersede(number), tools)
    return None


def _same_request(row: Row, submission: Submission) -> Row:
    if row.request_sha256 != submission.request.sha256:
        raise UsageError(
            f"The job key {row.job_key!r} was used for another request; a new request needs a new "
            "key.",
            code="job_key_reused",
        )
    return row


async def _create(submission: Submission, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """POST once, or again where it is certain that nothing was created; then note the id."""
    api = tools.connect()
    draft = _Draft(submission, job, tools)
    if (warning := await draft.begin()) is not None:
        yield warning
    attempt = 0
    while True:
        attempt += 1
        try:
            payload = await draft.post(api)
            break
        except CallFailed as failure:
            delay = await draft.judge(failure, attempt)
            yield job.submit_error(failure, attempt=attempt, elapsed=tools.elapsed(), delay=delay)
            await tools.clock.sleep(delay)
    if draft.warning is not None:
        yield draft.warning
    yield Submitted(
        response_id=job.response_id,
        status=job.status,
        request_id=payload.request_id,
        reattached=False,
    )


class _Draft:
    """A job on its way to being created, and its row in the state."""

    def __init__(self, submission: Submission, job: Job, tools: Tools) -> None:
        self._submission, self._job, self._tools = submission, job, tools
        self._row: int | None = None
        self.warning: WarningEvent | None = None

    async def begin(self) -> WarningEvent | None:
        """Write the intent down."""
        submission, tools = self._submission, self._tools
        intent = Intent(
            base_url=tools.base_url,
            request_sha256=submission.request.sha256,
            job_key=submission.job_key,
            model=submission.model,
            completion_window=submission.completion_window,
        )

        def write() -> None:
            self._row = tools.store.intent(intent)

        return await self._write(write)

    async def post(self, api: Client) -> Payload:
        """One POST; its reply's id is noted before anything else is done with it."""
        tools = self._tools
        remaining = tools.deadline(self._job) - tools.clock.monotonic()
        if remaining <= 0:
            await self._not_created()
            raise Unavailable(
                "The wait budget was spent before anything was created.",
                code="wait_spent",
                outcome="not_created",
            )
        limit = min(polling.CREATE_TIMEOUT, max(remaining, REPLY_GRACE))
        call = api.create(self._submission.request.body, self._sending, timeout=limit)
        task = asyncio.ensure_future(call)
        try:
            payload = await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._let_land(task)
            raise
        await self._created(payload)
        return payload

    async def judge(self, failure: CallFailed, attempt: int) -> float:
        """Seconds until the next try; raises what ends the submit where there is none."""
        tools, verdict = self._tools, judge_create(failure)
        if verdict is CreateVerdict.UNKNOWN:
            raise polling.create_error(failure)
        self._job.outcome = "not_created"
        if verdict in (CreateVerdict.UNREACHABLE, CreateVerdict.BUSY):
            now = tools.clock.monotonic()
            asked = polling.retry_after(failure.retry_after, tools.clock.now())
            delay = polling.create_delay(attempt, asked, tools.clock.random())
            patience = (
                polling.BUSY_PATIENCE if verdict is CreateVerdict.BUSY else polling.BLOCKED_AFTER
            )
            if now + delay < min(tools.started + patience, tools.deadline(self._job)):
                row = self._row
                if row is not None:
                    await self._write(lambda: tools.store.unsent(row))
                return delay
        await self._not_created()
        raise polling.create_error(failure)

    async def _sending(self) -> None:
        row = self._row
        if row is not None:
            self.warning = await self._write(lambda: self._tools.store.sending(row))
        self._job.outcome = "unknown"

    async def _created(self, payload: Payload) -> None:
        job, row, response_id = self._job, self._row, payload.id
        job.response_id, job.status, job.outcome = response_id, payload.status, "created"
        job.answered = True
        if row is not None and response_id is not None:
            store = self._tools.store
            warning = await remember(
                lambda: store.submitted(row, response_id, payload.status), job, self._tools
            )
            self.warning = warning or self.warning

    async def _let_land(self, task: asyncio.Future[Payload]) -> None:
        """After a signal: the reply may be on its way, and with it a paid id."""
        if self._job.outcome == "not_created":
            task.cancel()
            return
        await asyncio.wait({task}, timeout=REPLY_GRACE)
        if not task.done() or task.cancelled():
            return
        failure = task.exception()
        if failure is None:
            await self._created(task.result())
        elif isinstance(failure, CallFailed) and judge_create(failure) is not CreateVerdict.UNKNOWN:
            self._job.outcome = "not_created"
            await self._not_created()

    async def _not_created(self) -> None:
        row = self._row
        if row is not None:
            await remember(lambda: self._tools.store.not_created(row), self._job, self._tools)

    async def _write(self, write: Callable[[], None]) -> WarningEvent | None:
        """Write to the state; with a job key, what can't be written ends the submit."""
        if self._submission.job_key is None:
            return await remember(write, self._job, self._tools)
        await insist(write, self._tools)
        return None
