"""Creates a job with one POST, which is repeated only if it certainly created nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from oaibg.contract.errors import (
    ApiRefused,
    CallFailed,
    OaibgError,
    OutcomeUnknown,
    Unavailable,
)
from oaibg.engine import report, verdicts
from oaibg.engine.claim import claim, is_of_other, job_of_key, must_replace, row_of_key
from oaibg.engine.hints import passing_hint
from oaibg.engine.patience import BLOCKED_AFTER, REPLY_GRACE, Patience
from oaibg.engine.persist import commit, remember, remember_id, remember_payload, warn_of_state
from oaibg.engine.verdicts import CreateVerdict, create_error, judge_create
from oaibg.state.database import KeyTakenError, StateError
from oaibg.state.rows import user_key
from oaibg.state.store import Intent

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.api.calls import Calls, Stream
    from oaibg.api.payload import Payload
    from oaibg.engine.claim import Submission
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.state.store import Row

T = TypeVar("T")

_TIMEOUT = 120.0
_CANCEL_GRACE = 0.5

_BUSY_PATIENCE = 600.0
"""Seconds for which a submit is retried while the API replies that it is too busy."""

_LOOKS_SENT = " No job was created, but a rerun may end with exit 6: the state couldn't be updated."


class Created(NamedTuple):
    """What a submit brought. It stays in memory while the job runs; the reply does not."""

    reattached: bool = True
    """Whether the job key already had this job."""
    request_id: str | None = None
    ended: Payload | None = None
    """The reply to the create, if it says that the job has ended."""
    stream: Stream | None = None
    is_foreground: bool = False
    """Whether the reply to the create denies that the job runs in background mode."""


async def create_once(submission: Submission, job: Job, context: Context) -> Created:
    """Create the job, or reattach to the job that its key already has.

    Raises `OaibgError` if nothing was created or the outcome is unknown; `job.outcome` says which.
    """
    if submission.job_key is None:
        _note_request(submission, job)
        return await _Creation(submission, None, job, context).run()
    retry_failed = submission.retry_failed
    async with claim(submission.job_key, job, context, retry_failed=retry_failed) as row:
        return await create_locked(submission, row, job, context)


async def create_locked(
    submission: Submission, row: Row | None, job: Job, context: Context
) -> Created:
    """As `create_once`, for a caller that holds a lock for the key and has read the key's row."""
    _note_request(submission, job)
    if is_of_other(row):
        row = await row_of_key(str(submission.job_key), job, context)
    while True:
        known = job_of_key(row, submission, context.store)
        if known is not None and known.response_id and not must_replace(known, submission):
            job.note_reattached(known.response_id, known.status)
            return Created()
        try:
            return await _Creation(submission, row, job, context).run()
        except KeyTakenError:
            row = await row_of_key(str(submission.job_key), job, context)


def _note_request(submission: Submission, job: Job) -> None:
    job.note_batch(submission.create is not None)
    job.note_include(submission.request.include)
    job.note_window(submission.window)
    if submission.job_key is not None:
        job.note_key(user_key(submission.job_key))


class _Creation:
    """A job that is being created, and its row in the local state.

    `claimed` is the row that the job key has: an intent that was not sent, or the job from which
    this one takes the key.
    """

    def __init__(
        self, submission: Submission, claimed: Row | None, job: Job, context: Context
    ) -> None:
        self._submission, self._claimed, self._job = submission, claimed, job
        self._context = context
        self._was_intended = claimed is not None and claimed.step == "intent"
        self._replaced = None if self._was_intended else claimed
        self._patience = Patience(context.clock, deadline=context.deadline)
        self._row: int | None = None
        self._began = 0.0

    async def run(self) -> Created:
        """Send the POST; repeat it only if it is certain that nothing was created."""
        job, context = self._job, self._context
        api = await context.connect()
        await self._note_intent()
        self._began = context.clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._post(api)
            except CallFailed as failure:
                if job.streams and verdicts.refuses_stream(failure):
                    job.note_outcome("not_created")
                    await self._note_unsent()
                    await stop_streaming(job, context, failure.message.rstrip("."))
                    continue
                delay = await self._retry_delay(failure, attempt)
                event = report.submit_error(failure, context, attempt=attempt, delay=delay)
                await context.emit(event)
                await context.clock.sleep(delay)

    async def _post(self, api: Calls) -> Created:
        """Send one POST, and store the ID from its reply before anything else."""
        remaining = self._context.deadline - self._context.clock.monotonic()
        if remaining <= 0:
            error = self._wait_limit_reached()
            await self._delete_intent(error)
            raise error
        # Neither a signal nor the wait limit interrupts the POST: the reply may bring a paid ID.
        task = asyncio.ensure_future(self._send(api, remaining + REPLY_GRACE))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._await_reply(task)
            raise

    async def _await_reply(self, task: asyncio.Task[Created]) -> None:
        """Handle a signal: send nothing more, or wait briefly for the reply."""
        job = self._job
        if job.outcome == "not_created":
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_GRACE)
            if job.outcome == "not_created":
                await self._delete_intent()  # the row may say "sending" already
            return
        await asyncio.wait({task}, timeout=REPLY_GRACE)
        if not task.done() or task.cancelled():
            return
        failure = task.exception()
        if failure is None and (stream := task.result().stream) is not None:
            await stream.close()
        if isinstance(failure, CallFailed) and judge_create(failure) is not CreateVerdict.UNKNOWN:
            job.note_outcome("not_created")
            await self._delete_intent()

    async def _send(self, api: Calls, seconds: float) -> Created:
        job, create = self._job, self._submission.create
        limit = min(_TIMEOUT, seconds)
        body = self._submission.request.sent_body(stream=job.streams)
        stream: Stream | None = None
        try:
            if create is not None:
                payload = await create(api, self._note_sending, limit)
            elif job.streams:
                payload, stream = await api.create_stream(body, self._note_sending, timeout=limit)
            else:
                payload = await api.create(body, self._note_sending, timeout=limit)
        except OaibgError as error:
            # Nothing was created: no request could be sent, or it was refused.
            job.note_outcome("not_created")
            await self._delete_intent(error)
            raise
        self._context.note_answer(job)
        job.note_created(str(payload.id), payload.status)
        await self._note_intent()
        job.note_row(self._row)
        try:
            await remember_id(job, self._context)
        except OutcomeUnknown:
            if stream is not None:
                await stream.close()
            raise
        if payload.is_pieced:
            await remember_payload(payload, job, self._context)
        # A retrieve may have more. The response in a first stream event may be incomplete, too.
        is_end = payload.ended and not (payload.is_empty or payload.is_pieced)
        is_end = is_end and (stream is None or payload.is_whole)
        return Created(
            False,
            payload.request_id,
            payload if is_end else None,
            stream,
            payload.data.get("background", True) is not True,
        )

    async def _retry_delay(self, failure: CallFailed, attempt: int) -> float:
        """Return the seconds until the next attempt; without one, raise the error to report."""
        patience = self._patience
        patience.failed(failure)
        verdict = judge_create(failure)
        if verdict is CreateVerdict.UNKNOWN:
            raise create_error(failure)
        self._job.note_outcome("not_created")
        if verdict in (CreateVerdict.UNREACHABLE, CreateVerdict.BUSY):
            seconds = _BUSY_PATIENCE if verdict is CreateVerdict.BUSY else BLOCKED_AFTER
            patience.give_up_at(self._began + seconds)
            # An attempt that was refused because of its stream counts as well.
            delay = patience.delay(first=2.0 ** (attempt - patience.failures))
            remaining = patience.remaining()
            if patience.retry_after() is None:
                delay = min(delay, remaining)  # a last attempt when patience ends
            if 0 < remaining >= delay:
                await self._note_unsent()
                return delay
        of = self._submission
        in_run = of.custom_id is not None or of.create is not None
        error = create_error(failure, in_run=in_run)
        await self._delete_intent(error)
        raise error

    def _wait_limit_reached(self) -> Unavailable:
        failure = self._patience.last
        last = f" Last attempt: {failure.message.rstrip('.')}." if failure else ""
        return Unavailable(
            f"The wait limit was reached before a job was created.{last}",
            code=None if failure and failure.code.startswith("connect") else "wait_spent",
            hint=passing_hint(failure)
            if failure
            else "If the limit was too short, raise --max-wait-seconds.",
            outcome="not_created",
        )

    # The row in the local state:

    async def _note_intent(self) -> None:
        if self._row is not None:
            return
        submission, context = self._submission, self._context
        intent = Intent(
            base_url=context.base_url,
            request_sha256=submission.request.sha256,
            job_key=submission.job_key if self._replaced is None else None,
            custom_id=submission.custom_id,
            label=submission.label,
            model=submission.model,
            completion_window=submission.window,
            include="\n".join(submission.request.include) or None,
            replaced=None if self._claimed is None else self._claimed.replaced,
        )
        self._row = await self._write(lambda: context.store.intent(intent))

    async def _note_sending(self) -> None:
        await self._note_intent()
        row, replaced = self._row, self._replaced
        if row is not None:
            try:
                await self._write(lambda: self._context.store.sending(row, over=replaced))
            except StateError as error:
                # The write may have reached the disk; the request would then look sent.
                await self._delete_intent(error)
                raise
        self._job.note_outcome("unknown")

    async def _note_unsent(self) -> None:
        """Turn the row back into an intent, because another attempt follows."""
        row, replaced, store = self._row, self._replaced, self._context.store
        if row is not None:
            try:
                await self._write(lambda: store.unsent(row, over=replaced))
            except StateError as error:
                error.extend(_LOOKS_SENT)
                raise

    async def _delete_intent(self, error: OaibgError | StateError | None = None) -> None:
        """Restore what the state had before; if that fails, extend the error.

        An intent of a jobs file is a job to submit. It ends with a refusal, which is its result.
        """
        row, replaced, store = self._row, self._replaced, self._context.store
        is_result = isinstance(error, ApiRefused) and not error.is_general
        if self._was_intended and not (is_result and self._submission.custom_id is not None):
            restore = store.unsent
        else:
            restore = store.not_created
        if row is None or await remember(
            lambda: restore(row, over=replaced), self._job, self._context
        ):
            return
        if error is not None and self._submission.job_key is not None:
            error.extend(_LOOKS_SENT)

    async def _write(self, write: Callable[[], T]) -> T | None:
        """Write to the local state; with a job key, a failure before the create ends the submit."""
        try:
            return await commit(write, self._context)
        except StateError as error:
            if self._submission.job_key is not None and self._job.outcome != "created":
                raise
            await warn_of_state(error, self._job, self._context)
            return None


async def stop_streaming(job: Job, context: Context, reason: str) -> None:
    """Stop streaming the job, so that it is only polled, and emit a warning with the reason."""
    job.stop_streaming()
    message = f"The job can't be streamed ({reason}); it is polled instead."
    await context.emit(report.warning(job, "stream_unavailable", message))
