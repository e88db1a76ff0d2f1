"""From a request to an id: one POST, repeated only if it certainly created nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from oaibg.contract.errors import CallFailed, OaibgError, Unavailable
from oaibg.engine import report, verdicts
from oaibg.engine.claim import claim, settle
from oaibg.engine.patience import BLOCKED_AFTER, REPLY_GRACE, Patience
from oaibg.engine.persist import commit, remember, remember_id, warn_of_state
from oaibg.engine.verdicts import CreateVerdict, create_error, judge_create
from oaibg.state.database import StateError
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
"""Seconds that a submit goes on trying while the API says that it is too busy to accept it."""

_LOOKS_SENT = " Nothing was created, but the state could not take that: the key may look used."


class Created(NamedTuple):
    """What a submit has come to. It is kept for as long as the job runs, the reply is not."""

    reattached: bool = True
    """Whether the job was found to be submitted already."""
    request_id: str | None = None
    ended: Payload | None = None
    """The reply to the create, if the job had ended by then."""
    stream: Stream | None = None


async def create_once(submission: Submission, job: Job, context: Context) -> Created:
    """Create the job, or reattach to the one that its key has.

    Raises `OaibgError` if nothing was created, or the outcome is unknown; `job.outcome` says which.
    """
    if submission.job_key is None:
        return await _Creation(submission, None, job, context).run()
    async with claim(submission.job_key, context) as row:
        return await create_locked(submission, row, job, context)


async def create_locked(
    submission: Submission, row: Row | None, job: Job, context: Context
) -> Created:
    """As `create_once`, by a caller that holds a lock over the key, and has read its row."""
    row = settle(row, submission, context.store)
    if row is None or row.response_id is None:
        return await _Creation(submission, row, job, context).run()
    job.note_reattached(row.response_id, row.status)
    return Created()


class _Creation:
    """A job on its way to being created, and its row in the state.

    `over` is the job of unknown outcome whose key this one takes.
    """

    def __init__(
        self, submission: Submission, over: Row | None, job: Job, context: Context
    ) -> None:
        self._submission, self._over, self._job = submission, over, job
        self._context = context
        self._patience = Patience(context.clock, deadline=context.deadline)
        self._row: int | None = None
        self._began = 0.0

    async def run(self) -> Created:
        """POST once, or again if it is certain that nothing was created."""
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
                    await self._step_back()
                    await stop_streaming(job, context, failure.message.rstrip("."))
                    continue
                delay = await self._until_next_try(failure, attempt)
                event = report.submit_error(failure, context, attempt=attempt, delay=delay)
                await context.emit(event)
                await context.clock.sleep(delay)

    async def _post(self, api: Calls) -> Created:
        """One POST, and its reply's id noted before anything else is done with it."""
        remaining = self._context.deadline - self._context.clock.monotonic()
        if remaining <= 0:
            error = self._wait_spent()
            await self._take_back(error)
            raise error
        # Neither a signal nor the deadline cuts off a reply that may be on its way, and with it
        # a paid id.
        task = asyncio.ensure_future(self._send(api, remaining + REPLY_GRACE))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._await_reply(task)
            raise

    async def _await_reply(self, task: asyncio.Task[Created]) -> None:
        """After a signal: send nothing more, or give the reply a moment to arrive."""
        job = self._job
        if job.outcome == "not_created":
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_GRACE)
            if job.outcome == "not_created":
                await self._take_back()  # the state may have noted that it goes out
            return
        await asyncio.wait({task}, timeout=REPLY_GRACE)
        if not task.done() or task.cancelled():
            return
        failure = task.exception()
        if failure is None and (stream := task.result().stream) is not None:
            await stream.close()
        if isinstance(failure, CallFailed) and judge_create(failure) is not CreateVerdict.UNKNOWN:
            job.note_outcome("not_created")
            await self._take_back()

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
            # Nothing was created: no request could be made, or it was refused.
            job.note_outcome("not_created")
            await self._take_back(error)
            raise
        self._context.note_answer(job)
        job.note_created(str(payload.id), payload.status)
        await self._note_intent()
        job.note_row(self._row)
        await remember_id(job, self._context)
        # What a stream begins with may be less than the whole of a job that has ended.
        is_end = payload.ended and (stream is None or payload.is_whole)
        return Created(False, payload.request_id, payload if is_end else None, stream)

    async def _until_next_try(self, failure: CallFailed, attempt: int) -> float:
        """Seconds until the next try; raises what ends the submit if there is none."""
        patience = self._patience
        patience.failed(failure)
        verdict = judge_create(failure)
        if verdict is CreateVerdict.UNKNOWN:
            raise create_error(failure)
        self._job.note_outcome("not_created")
        if verdict in (CreateVerdict.UNREACHABLE, CreateVerdict.BUSY):
            seconds = _BUSY_PATIENCE if verdict is CreateVerdict.BUSY else BLOCKED_AFTER
            patience.give_up_at(self._began + seconds)
            # A try that was refused for its stream counts, too.
            delay = patience.delay(first=2.0 ** (attempt - patience.failures))
            left = patience.left()
            if patience.retry_after() is None:
                delay = min(delay, left)  # one more try at the very end
            if 0 < left >= delay:
                await self._step_back()
                return delay
        error = create_error(failure)
        await self._take_back(error)
        raise error

    def _wait_spent(self) -> Unavailable:
        failure = self._patience.last
        last = f"; the last try: {failure.message}" if failure else "."
        return Unavailable(
            f"The wait budget was spent before anything was created{last}",
            code="wait_spent",
            hint=verdicts.passing_hint(failure)
            if failure
            else "Give it more time with --max-wait-seconds, or run the same command again.",
            outcome="not_created",
        )

    # Below: the row in the state.

    async def _note_intent(self) -> None:
        """Write the intent down, if that has not been possible so far."""
        if self._row is not None:
            return
        submission, context = self._submission, self._context
        intent = Intent(
            base_url=context.base_url,
            request_sha256=submission.request.sha256,
            job_key=submission.job_key if self._over is None else None,
            custom_id=submission.custom_id,
            model=submission.model,
            completion_window=submission.completion_window,
        )
        self._row = await self._write(lambda: context.store.intent(intent))

    async def _note_sending(self) -> None:
        await self._note_intent()
        row, over = self._row, self._over
        if row is not None:
            try:
                await self._write(lambda: self._context.store.sending(row, over=over))
            except StateError as error:
                # It may be on the disk all the same, and would look like a request that was sent.
                await self._take_back(error)
                raise
        self._job.note_outcome("unknown")

    async def _step_back(self) -> None:
        """Back to the intent: another try follows."""
        row, over, store = self._row, self._over, self._context.store
        if row is not None:
            try:
                await self._write(lambda: store.unsent(row, over=over))
            except StateError as error:
                error.extend(_LOOKS_SENT)
                raise

    async def _take_back(self, error: OaibgError | StateError | None = None) -> None:
        """Forget the intent; if that fails, the error that ends the submit says so."""
        row, over, store = self._row, self._over, self._context.store
        if row is None or await remember(
            lambda: store.not_created(row, over=over), self._job, self._context
        ):
            return
        if error is not None and self._submission.job_key is not None:
            error.extend(_LOOKS_SENT)

    async def _write(self, write: Callable[[], T]) -> T | None:
        """Write to the state; with a job key, what can't be written ends the submit."""
        try:
            return await commit(write, self._context)
        except StateError as error:
            if self._submission.job_key is not None and self._job.outcome != "created":
                raise
            await warn_of_state(error, self._job, self._context)
            return None


async def stop_streaming(job: Job, context: Context, reason: str) -> None:
    """Stop streaming, so that the job is only polled, and warn why."""
    job.stop_streaming()
    message = f"The job's stream can't be had ({reason}); polls tell its state."
    await context.emit(report.warning(job, "stream_unavailable", message))
