"""Who may submit a job key: the job that it has, or the right to create one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import OutcomeUnknown, Unavailable, UsageError
from oaibg.state.commits import patiently

if TYPE_CHECKING:
    from oaibg.engine.context import Context
    from oaibg.engine.submission import Submission
    from oaibg.state.store import Row, Store

_LOCK_INTERVAL = 0.03


async def claim(
    submission: Submission, job_key: str, context: Context
) -> tuple[Row | None, int | None]:
    """The job that the key has already, or the key's lock: the right to submit it.

    With the lock there may be a row without an id: an unknown outcome that the user has decided
    to submit over.

    Raises:
        UsageError: the key has another request.
        OutcomeUnknown: the key's request was sent by a process that is gone.
        Unavailable: another process is still submitting the key at the deadline.
    """
    store, clock = context.store, context.clock
    while True:
        lock = store.lock(context.base_url, job_key)
        try:
            row = await patiently(lambda: store.by_key(context.base_url, job_key), clock)
            if row is not None and row.step == "submitted":
                return same_request(row, submission), lock
            if lock is not None:
                return unsubmitted(row, submission, store), lock
        except BaseException:
            if lock is not None:
                store.unlock(lock)
            raise
        if clock.monotonic() >= context.deadline:
            raise Unavailable(
                f"Another process is still submitting the job key {job_key!r}.",
                code="job_key_busy",
                outcome="not_created",
            )
        await clock.sleep(_LOCK_INTERVAL)


def unsubmitted(row: Row | None, submission: Submission, store: Store) -> Row | None:
    """With the key's lock taken: None if nothing was sent for the key, or the row that was.

    Nobody else holds the lock, so that the process that was sending is gone, and the outcome with
    it.

    Raises:
        UsageError, OutcomeUnknown: as `claim`.
    """
    sent = row is not None and row.step == "sending"
    lost = store.set_aside()
    if row is not None and sent:
        same_request(row, submission)
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


def same_request(row: Row, submission: Submission) -> Row:
    """The row; raises `UsageError` if it is of another request."""
    if row.request_sha256 != submission.request.sha256:
        raise UsageError(
            f"The job key {row.job_key!r} was used for another request; a new request needs a new "
            "key.",
            code="job_key_reused",
            hint="`oaibg show --job-key KEY` shows the job that it has.",
        )
    return row


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
