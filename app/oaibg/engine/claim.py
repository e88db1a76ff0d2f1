"""Decides who may submit a job key, and finds the job that the key already has."""

from __future__ import annotations

from contextlib import asynccontextmanager
from shlex import quote
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import OutcomeUnknown, Unavailable, UsageError
from oaibg.engine import report
from oaibg.engine.recap import had_completed
from oaibg.state.commits import patiently
from oaibg.state.rows import BATCH_WINDOW, UNSUCCESSFUL, user_key
from oaibg.state.senders import pid_of_other

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oaibg.api.calls import Calls, Hook
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.request.body import Request
    from oaibg.state.store import Row, Store

    Create = Callable[[Calls, Hook, float], Awaitable[Payload]]
    """Sends another kind of create (a batch); takes the client, `on_sending` and a timeout."""

BUSY_SECONDS = 150.0
"""How long to wait for another process that submits the same key: longer than its POST may take."""

_REPLY_LOST = "was submitted before, but the reply was lost."
_MAY_RUN = "The job may be running and may be billed."

LOST_JOB = f"The job {_REPLY_LOST} {_MAY_RUN}"
"""What is known of a job of a run whose outcome is unknown."""

_REPLACE_HINT = (
    "Use a new key for other work. To submit this request in place of the one that did not "
    "succeed, add --retry-failed. You pay for either."
)

_WARN_SECONDS = 5.0
_LOCK_INTERVAL = 0.03


class Submission(Record):
    """A job to submit; every attempt uses the same one."""

    request: Request
    model: str | None
    job_key: str | None = None
    label: str | None = None
    resubmit_unknown: bool = False
    retry_failed: bool = False
    detach: bool = False
    custom_id: str | None = None
    create: Create | None = None

    @property
    def window(self) -> str | None:
        """The job's completion window."""
        return self.request.completion_window if self.create is None else BATCH_WINDOW


@asynccontextmanager
async def claim(
    job_key: str, job: Job, context: Context, *, retry_failed: bool = False
) -> AsyncIterator[Row | None]:
    """Hold the lock of a job key, and yield the key's row; raises `Unavailable` as `row_of_key`.

    A key that is already submitted needs no lock, unless `retry_failed` submits it again. The lock
    only spares other processes that attempt: `sending` in the state decides which process sends.
    """
    store, turn = context.store, _Turn(job_key, job, context)
    while True:
        lock = store.lock(context.base_url, job_key)
        try:
            row = await patiently(lambda: store.by_key(context.base_url, job_key), context.clock)
            has_id = row is not None and row.step == "submitted" and not row.is_unknown
            is_free = lock is not None and not is_of_other(row)
            if is_free or (has_id and not (retry_failed and is_unsuccessful(row))):
                yield row
                return
        finally:
            if lock is not None:
                store.unlock(lock)
        await turn.wait(row)


async def row_of_key(job_key: str, job: Job, context: Context) -> Row | None:
    """Return the row of a job key once no other process is submitting it.

    Raises `Unavailable` if another process still is at the wait limit, or after `BUSY_SECONDS`.
    """
    store, turn = context.store, _Turn(job_key, job, context)
    while True:
        row = await patiently(lambda: store.by_key(context.base_url, job_key), context.clock)
        if not is_of_other(row):
            return row
        await turn.wait(row)


def is_of_other(row: Row | None) -> bool:
    """Return whether another process, which still runs, is submitting a row's job."""
    is_open = row is not None and (row.step == "intent" or row.is_unknown)
    return row is not None and is_open and pid_of_other(row.sender) is not None


class _Turn:
    """The wait until another process has submitted a job key."""

    def __init__(self, job_key: str, job: Job, context: Context) -> None:
        self._name, self._job, self._context = user_key(job_key), job, context
        self._began = context.clock.monotonic()
        self._warned = False

    async def wait(self, row: Row | None) -> None:
        """Wait a moment; warn once if that has taken long, and raise `Unavailable` at the limit."""
        now, pid = self._context.clock.monotonic(), pid_of_other(row.sender if row else None)
        who = "Another process" if pid is None else f"Another process (PID {pid})"
        busy = f"{who} is still submitting a job with the key {self._name!r}."
        if now >= min(self._context.deadline, self._began + BUSY_SECONDS):
            raise Unavailable(
                f"{busy} This process sent nothing; run the same command again.",
                code="job_key_busy",
                hint="If that process is suspended, resume it or end it."
                if now >= self._began + _WARN_SECONDS
                else None,
                outcome="not_created",
            )
        if now >= self._began + _WARN_SECONDS and not self._warned:
            self._warned = True
            message = f"{busy} It may be suspended. This process waits for it, and sends nothing."
            await self._context.emit(report.warning(self._job, "job_key_busy", message))
        await self._context.clock.sleep(_LOCK_INTERVAL)


def job_of_key(row: Row | None, submission: Submission, store: Store) -> Row | None:
    """Return the job that a claimed key already has; None if nothing was sent for the key.

    `must_replace` says whether the user chose to submit another job in place of a returned one.

    Raises:
        UsageError: the key belongs to another request.
        OutcomeUnknown: the request was sent, or may have been, and no reply was stored.
    """
    if row is None or row.step == "intent":
        lost = None if submission.resubmit_unknown else store.set_aside()
        if lost is not None:
            raise _unknown(
                submission,
                "may have been submitted before: the local state was damaged and renamed to "
                f"{lost}. To make all keys usable again, remove that file.",
            )
        return None
    if row.request_sha256 != submission.request.sha256 and not must_replace(row, submission):
        reused, key = f"The job key {row.job_key!r} belongs to another request", row.job_key
        if is_unsuccessful(row):
            message, hint = f"{reused}, whose job did not succeed.", _REPLACE_HINT
        else:
            message = f"{reused}. Use a new key for a new request."
            hint = f"To see the key's job, run `oaibg show --job-key {quote(str(key))}`."
        raise UsageError(message, code="job_key_reused", hint=hint)
    if row.is_unknown and not submission.resubmit_unknown:
        raise _unknown(submission, _REPLY_LOST)
    return row


def is_unsuccessful(row: Row | None) -> bool:
    """Return whether a job has ended without success, as far as the local state knows."""
    if row is None or row.step != "submitted" or row.status not in UNSUCCESSFUL:
        return False
    return not had_completed(row)


def must_replace(row: Row, submission: Submission) -> bool:
    """Return whether the user chose to submit another job in place of this one."""
    if row.is_unknown:
        same = row.request_sha256 == submission.request.sha256
        return same and submission.resubmit_unknown
    return submission.retry_failed and is_unsuccessful(row)


def _unknown(submission: Submission, what: str) -> OutcomeUnknown:
    if submission.custom_id is not None:
        subject = "The job"  # the event has its custom_id, and many jobs have the same reason
    else:
        subject = f"The job with the key {user_key(str(submission.job_key))!r}"
    return OutcomeUnknown(
        f"{subject} {what} {_MAY_RUN}",
        outcome="unknown",
    )
