"""From a request to an id: one POST, unless it is certain that it created nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import CallFailed, OaibgError, OutcomeUnknown, Unavailable, UsageError
from oaibg.contract.events import Submitted
from oaibg.engine import retry as polling
from oaibg.engine.context import commit, insist, remember, remember_id, warn_of_state
from oaibg.engine.verdicts import (
    CreateVerdict,
    create_error,
    judge_create,
    passing_hint,
    refuses_stream,
)
from oaibg.state.file import StateError
from oaibg.state.store import Intent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oaibg.api.calls import Calls
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.context import Tools
    from oaibg.engine.job import Job
    from oaibg.request.body import Request
    from oaibg.state.store import Row, Store

_LOCK_INTERVAL = 0.03
_CANCEL_GRACE = 0.5

_LOOKS_SENT = " Nothing was created, but the state could not take that: the key may look used."


Create = Callable[["Calls", Callable[[], Awaitable[None]], float], Awaitable["Payload"]]
"""A create by other means than the request's body: the client, `on_sending`, and the timeout."""


class Submission(Record):
    """A job to submit."""

    request: Request
    model: str | None
    completion_window: str | None = None
    job_key: str | None = None
    resubmit_unknown: bool = False
    detach: bool = False
    custom_id: str | None = None
    create: Create | None = None


async def create_once(submission: Submission, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """Create the job, or reattach to the one that its key has; ends with `submitted`.

    `job.payload` has the API's reply, where there was one.

    Raises:
        OaibgError: nothing was created, or the outcome is unknown; `job.outcome` tells.
    """
    if submission.job_key is None:
        async for event in _create(_Draft(submission, None, job, tools), job, tools):
            yield event
        return
    row, lock = await _claim(submission, submission.job_key, job, tools)
    try:
        async for event in _create_claimed(submission, row, job, tools):
            yield event
    finally:
        if lock is not None:
            tools.store.unlock(lock)


async def create_locked(
    submission: Submission, row: Row | None, job: Job, tools: Tools
) -> AsyncIterator[Event]:
    """As `create_once`, by a caller that holds a lock over the key, and has read its job."""
    if row is None or row.step != "submitted":
        row = _unsubmitted(row, submission, tools.store)
    else:
        _same_request(row, submission)
    async for event in _create_claimed(submission, row, job, tools):
        yield event


async def _create_claimed(
    submission: Submission, row: Row | None, job: Job, tools: Tools
) -> AsyncIterator[Event]:
    if row is None or row.response_id is None:
        async for event in _create(_Draft(submission, row, job, tools), job, tools):
            yield event
        return
    job.response_id, job.status, job.outcome = row.response_id, row.status, "created"
    job.kept = True
    yield job.reattached()


async def _claim(
    submission: Submission, job_key: str, job: Job, tools: Tools
) -> tuple[Row | None, int | None]:
    """The job that the key has already, or the key's lock: the right to submit it.

    With the lock there may be a row without an id: an unknown outcome that the user has decided
    to submit over.

    Raises:
        UsageError: the key has another request.
        OutcomeUnknown: the key's request was sent by a process that is gone.
        Unavailable: another process is still submitting the key at the deadline.
    """
    store, deadline = tools.store, tools.deadline(job)
    while True:
        lock = store.lock(tools.base_url, job_key)
        try:
            row = await insist(lambda: store.by_key(tools.base_url, job_key), tools)
            if row is not None and row.step == "submitted":
                return _same_request(row, submission), lock
            if lock is not None:
                return _unsubmitted(row, submission, store), lock
        except BaseException:
            if lock is not None:
                store.unlock(lock)
            raise
        if tools.clock.monotonic() >= deadline:
            raise Unavailable(
                f"Another process is still submitting the job key {job_key!r}.",
                code="job_key_busy",
                outcome="not_created",
            )
        await tools.clock.sleep(_LOCK_INTERVAL)


def _unsubmitted(row: Row | None, submission: Submission, store: Store) -> Row | None:
    """With the key's lock taken: None where nothing was sent for the key, or the row that was.

    Nobody else holds the lock, so that whoever was sending is gone, and the outcome with it.
    """
    sent = row is not None and row.step == "sending"
    lost = store.set_aside()
    if row is not None and sent:
        _same_request(row, submission)
    if submission.resubmit_unknown:
        return row if sent else None
    if sent:
        raise _unknown(f"{_named(submission)} was submitted before, and its answer was lost.")
    if lost is not None:
        raise _unknown(
            f"{_named(submission)} may have been submitted before: the state was damaged, and is "
            f"now {lost}. Removing that file frees all keys."
        )
    return None


def _named(submission: Submission) -> str:
    if submission.custom_id is not None:
        return f"The job {submission.custom_id!r}"
    return f"The job key {str(submission.job_key).partition(chr(10))[0]!r}"


def _unknown(what: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{what} The job may be running and may be billed.",
        hint="--resubmit-unknown decides for another submit, which may pay twice.",
        outcome="unknown",
    )


def _same_request(row: Row, submission: Submission) -> Row:
    if row.request_sha256 != submission.request.sha256:
        raise UsageError(
            f"The job key {row.job_key!r} was used for another request; a new request needs a new "
            "key.",
            code="job_key_reused",
            hint="`oaibg show --job-key KEY` shows the job that it has.",
        )
    return row


async def _create(draft: _Draft, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """POST once, or again where it is certain that nothing was created; then note the id."""
    api = await tools.connect()
    await draft.begin()
    attempt = 0
    while True:
        attempt += 1
        try:
            payload = await draft.post(api)
            break
        except CallFailed as failure:
            if job.streams and refuses_stream(failure):
                await draft.unsent()
                yield _unstreamed(job, failure.message.rstrip("."))
                continue
            delay = await draft.judge(failure, attempt)
            yield job.submit_error(failure, attempt=attempt, elapsed=tools.elapsed(), delay=delay)
            await tools.clock.sleep(delay)
    yield Submitted(
        response_id=job.response_id,
        status=job.status,
        request_id=payload.request_id,
        reattached=False,
    )
    if job.streams and job.stream is None:
        yield _unstreamed(job, "it was answered without one")


def _unstreamed(job: Job, reason: str) -> Event:
    job.streams = False
    message = f"The job's stream can't be had ({reason}); polls tell its state."
    return job.warning("stream_unavailable", message)


class _Draft:
    """A job on its way to being created, and its row in the state.

    Args:
        submission: what is submitted.
        over: the job of unknown outcome whose key this one takes.
        job: what the lines tell.
        tools: what it works with.
    """

    def __init__(self, submission: Submission, over: Row | None, job: Job, tools: Tools) -> None:
        self._submission, self._over, self._job, self._tools = submission, over, job, tools
        self._row: int | None = None
        self._began: float | None = None
        self._failure: CallFailed | None = None
        """That of the last try."""

    async def begin(self) -> None:
        """Write the intent down, where that has not been possible so far."""
        if self._row is not None:
            return
        submission, tools = self._submission, self._tools
        intent = Intent(
            base_url=tools.base_url,
            request_sha256=submission.request.sha256,
            job_key=submission.job_key if self._over is None else None,
            custom_id=submission.custom_id,
            model=submission.model,
            completion_window=submission.completion_window,
        )

        try:
            self._row = await commit(lambda: tools.store.intent(intent), tools)
        except StateError as error:
            self._unwritten(error)

    async def post(self, api: Calls) -> Payload:
        """One POST, and its reply's id noted before anything else is done with it."""
        tools = self._tools
        now = tools.clock.monotonic()
        remaining = tools.deadline(self._job) - now
        if self._began is None:
            self._began = now
        if remaining <= 0:
            last = f"; the last try: {self._failure.message}" if self._failure else "."
            error = Unavailable(
                f"The wait budget was spent before anything was created{last}",
                code="wait_spent",
                hint="Give it more time with --max-wait-seconds, or run the same command again."
                if self._failure is None
                else passing_hint(self._failure),
                outcome="not_created",
            )
            await self._take_back(error)
            raise error
        # Neither a signal nor the deadline cuts off a reply that may be on its way, and with it
        # a paid id.
        task = asyncio.ensure_future(self._send(api, remaining + polling.REPLY_GRACE))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._job.outcome == "not_created":
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_GRACE)
                if self._job.outcome == "not_created":
                    await self._take_back()  # the state may have been told that it goes out
            else:
                await asyncio.wait({task}, timeout=polling.REPLY_GRACE)
                if task.done() and not task.cancelled() and task.exception() is not None:
                    await self._landed_badly(task.exception())
            raise

    async def unsent(self) -> None:
        """Take it for certain that the last POST created nothing; another follows."""
        self._job.outcome = "not_created"
        await self._step_back()

    async def judge(self, failure: CallFailed, attempt: int) -> float:
        """Seconds until the next try; raises what ends the submit where there is none."""
        tools, self._failure = self._tools, failure
        verdict = judge_create(failure)
        if verdict is CreateVerdict.UNKNOWN:
            raise create_error(failure)
        self._job.outcome = "not_created"
        if verdict in (CreateVerdict.UNREACHABLE, CreateVerdict.BUSY):
            asked = polling.retry_after(failure.retry_after, tools.clock.now())
            delay = polling.create_delay(attempt, asked, tools.clock.random())
            busy = verdict is CreateVerdict.BUSY
            patience = polling.BUSY_PATIENCE if busy else polling.BLOCKED_AFTER
            end = min((self._began or 0.0) + patience, tools.deadline(self._job))
            left = end - tools.clock.monotonic()
            if asked is None:
                delay = min(delay, left)  # one more try at the very end
            if 0 < left >= delay:
                await self._step_back()
                return delay
        error = create_error(failure)
        await self._take_back(error)
        raise error

    async def _send(self, api: Calls, seconds: float) -> Payload:
        job = self._job
        limit = min(polling.CREATE_TIMEOUT, seconds)
        create = self._submission.create
        body = self._submission.request.sent_body(stream=job.streams)
        try:
            if create is not None:
                payload = await create(api, self._sending, limit)
            elif job.streams:
                payload, job.stream = await api.create_stream(body, self._sending, timeout=limit)
            else:
                payload = await api.create(body, self._sending, timeout=limit)
        except OaibgError as error:
            # The request could not even be put into words.
            job.outcome = "not_created"
            await self._take_back(error)
            raise
        job.response_id, job.status, job.outcome = payload.id, payload.status, "created"
        job.answered, job.payload = True, payload
        job.told_number = None  # `--starting-after` is of a job that a key has already
        await self.begin()
        job.unstored_row = self._row
        await remember_id(job, self._tools)
        return payload

    async def _sending(self) -> None:
        await self.begin()
        row, over = self._row, self._over
        if row is not None:
            try:
                await self._write(lambda: self._tools.store.sending(row, over=over))
            except StateError as error:
                # It may be on the disk all the same, and would look like a request that was sent.
                await self._take_back(error)
                raise
        self._job.outcome = "unknown"

    async def _landed_badly(self, error: BaseException | None) -> None:
        if isinstance(error, CallFailed) and judge_create(error) is not CreateVerdict.UNKNOWN:
            self._job.outcome = "not_created"
            await self._take_back()

    async def _step_back(self) -> None:
        """To the intent: another try follows."""
        row, over, store = self._row, self._over, self._tools.store
        if row is not None:
            try:
                await self._write(lambda: store.unsent(row, over=over))
            except StateError as error:
                error.message += _LOOKS_SENT
                raise

    async def _take_back(self, error: OaibgError | StateError | None = None) -> None:
        """Forget the intent; where that fails, the error that ends the submit says so."""
        row, over, store = self._row, self._over, self._tools.store
        if row is None or await self._remember(lambda: store.not_created(row, over=over)):
            return
        if error is not None and self._submission.job_key is not None:
            error.message += _LOOKS_SENT

    async def _write(self, write: Callable[[], None]) -> None:
        """Write to the state; with a job key, what can't be written ends the submit."""
        try:
            await commit(write, self._tools)
        except StateError as error:
            self._unwritten(error)

    def _unwritten(self, error: StateError) -> None:
        job = self._job
        if self._submission.job_key is not None and job.outcome != "created":
            raise error
        warn_of_state(error, job)

    async def _remember(self, write: Callable[[], None]) -> bool:
        return await remember(write, self._job, self._tools)
