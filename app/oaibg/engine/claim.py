"""Who may submit a job key: the job that it has, or the right to create one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import OutcomeUnknown, Unavailable, UsageError
from oaibg.state.commits import patiently

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oaibg.api.calls import Calls, Hook
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.request.body import Request
    from oaibg.state.store import Row, Store

    Create = Callable[[Calls, Hook, float], Awaitable[Payload]]
    """A create by other means than the request's body: the calls, `on_sending`, the timeout."""

_LOCK_INTERVAL = 0.03


class Submission(Record):
    """A job to submit: the same however often it is tried."""

    request: Request
    model: str | None
    completion_window: str | None = None
    job_key: str | None = None
    resubmit_unknown: bool = False
    detach: bool = False
    custom_id: str | None = None
    create: Create | None = None


@asynccontextmanager
async def claim(job_key: str, context: Context) -> AsyncIterator[Row | None]:
    """Hold the key's lock, the right to submit it; yields its row in the state.

    A key that is submitted already may do without the lock. Raises `Unavailable` if another process
    is still submitting it at the deadline.
    """
    store, clock = context.store, context.clock
    while True:
        lock = store.lock(context.base_url, job_key)
        try:
            row = await patiently(lambda: store.by_key(context.base_url, job_key), clock)
            if lock is not None or (row is not None and row.step == "submitted"):
                yield row
                return
        finally:
            if lock is not None:
                store.unlock(lock)
        if clock.monotonic() >= context.deadline:
            raise Unavailable(
                f"Another process is still submitting the job key {job_key!r}.",
                code="job_key_busy",
                outcome="not_created",
            )
        await clock.sleep(_LOCK_INTERVAL)


def settle(row: Row | None, submission: Submission, store: Store) -> Row | None:
    """The job that a claimed key has; None if nothing was sent for it.

    A job without an id is one of unknown outcome that the user has decided to submit over.

    Raises:
        UsageError: the key has another request.
        OutcomeUnknown: the key's request was sent by a process that is gone: the lock is free.
    """
    if row is None or row.step == "intent":
        lost = None if submission.resubmit_unknown else store.set_aside()
        if lost is not None:
            raise _unknown(
                submission,
                "may have been submitted before: the state was damaged, and is now "
                f"{lost}. Removing that file frees all keys.",
            )
        return None
    if row.request_sha256 != submission.request.sha256:
        raise UsageError(
            f"The job key {row.job_key!r} was used for another request; a new request needs a new "
            "key.",
            code="job_key_reused",
            hint="`oaibg show --job-key KEY` shows the job that it has.",
        )
    if row.step == "sending" and not submission.resubmit_unknown:
        raise _unknown(submission, "was submitted before, and its answer was lost.")
    return row


def _unknown(submission: Submission, what: str) -> OutcomeUnknown:
    if submission.custom_id is not None:
        named = f"The job {submission.custom_id!r}"
    else:
        named = f"The job key {str(submission.job_key).partition(chr(10))[0]!r}"
    return OutcomeUnknown(
        f"{named} {what} The job may be running and may be billed.",
        hint="--resubmit-unknown decides for another submit, which may pay twice.",
        outcome="unknown",
    )
