"""Decides who may submit a job key, and finds the job that the key already has."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import OutcomeUnknown, Unavailable, UsageError
from oaibg.engine.cost import BATCH
from oaibg.engine.hints import RETRY_HINT
from oaibg.engine.recap import had_completed
from oaibg.state.commits import patiently
from oaibg.state.rows import UNSUCCESSFUL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oaibg.api.calls import Calls, Hook
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.request.body import Request
    from oaibg.state.store import Row, Store

    Create = Callable[[Calls, Hook, float], Awaitable[Payload]]
    """Sends another kind of create (a batch); takes the client, `on_sending` and a timeout."""

_LOCK_INTERVAL = 0.03


class Submission(Record):
    """A job to submit; every attempt uses the same one."""

    request: Request
    model: str | None
    job_key: str | None = None
    resubmit_unknown: bool = False
    retry_failed: bool = False
    detach: bool = False
    custom_id: str | None = None
    create: Create | None = None

    @property
    def window(self) -> str | None:
        """The job's completion window."""
        return self.request.completion_window if self.create is None else BATCH


@asynccontextmanager
async def claim(
    job_key: str, context: Context, *, retry_failed: bool = False
) -> AsyncIterator[Row | None]:
    """Hold the lock of a job key, which is the right to submit it, and yield the key's row.

    A key that is already submitted needs no lock, unless `retry_failed` submits it again. Raises
    `Unavailable` if another process is still submitting the key when the wait limit is reached.
    """
    store, clock = context.store, context.clock
    while True:
        lock = store.lock(context.base_url, job_key)
        try:
            row = await patiently(lambda: store.by_key(context.base_url, job_key), clock)
            is_submitted = row is not None and row.step == "submitted"
            if lock is not None or (is_submitted and not (retry_failed and is_unsuccessful(row))):
                yield row
                return
        finally:
            if lock is not None:
                store.unlock(lock)
        if clock.monotonic() >= context.deadline:
            raise Unavailable(
                f"Another process is still submitting a job with the key {job_key!r}. This process "
                "sent nothing; run the same command again.",
                code="job_key_busy",
                outcome="not_created",
            )
        await clock.sleep(_LOCK_INTERVAL)


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
        raise UsageError(
            f"The job key {row.job_key!r} belongs to another request. Use a new key for a new "
            "request.",
            code="job_key_reused",
            hint=RETRY_HINT
            if is_unsuccessful(row)
            else "To see the key's job, run `oaibg show --job-key KEY`.",
        )
    if row.step == "sending" and not submission.resubmit_unknown:
        raise _unknown(submission, "was submitted before, but the reply was lost.")
    return row


def is_unsuccessful(row: Row | None) -> bool:
    """Return whether a job has ended without success, as far as the local state knows."""
    if row is None or row.step != "submitted" or row.status not in UNSUCCESSFUL:
        return False
    return not had_completed(row)


def must_replace(row: Row, submission: Submission) -> bool:
    """Return whether the user chose to submit another job in place of this one."""
    if row.step == "sending":
        same = row.request_sha256 == submission.request.sha256
        return same and submission.resubmit_unknown
    return submission.retry_failed and is_unsuccessful(row)


def _unknown(submission: Submission, what: str) -> OutcomeUnknown:
    if submission.custom_id is not None:
        subject = f"The job {submission.custom_id!r}"
    else:
        subject = f"The job with the key {str(submission.job_key).partition(chr(10))[0]!r}"
    return OutcomeUnknown(
        f"{subject} {what} The job may be running and may be billed.",
        hint="To submit it again, add --resubmit-unknown. You may then pay twice.",
        outcome="unknown",
    )
