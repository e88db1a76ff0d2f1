"""The statuses of jobs, and the one under which a run counts a job: a key of its `counts`."""

from __future__ import annotations

from oaibg.contract.errors import ExitCode
from oaibg.contract.events import Error, Event, Interrupted, exit_code_of

ALIVE = ("queued", "in_progress", "validating", "finalizing", "cancelling")
"""The statuses of jobs and batches that have not ended."""

ENDED = frozenset({"completed", "failed", "cancelled", "incomplete", "expired"})
"""The statuses of jobs and batches that have ended."""


def run_status(event: Event) -> str:
    """Return the status of a job from the event that ended it; see `codes.COUNTS`."""
    code = exit_code_of(event) or event.ended_with
    if isinstance(event, Error):
        if event.outcome == "unknown":
            return "outcome_unknown"
        if code == ExitCode.NOT_FOUND:
            return "not_found"
        if event.outcome == "not_created":
            return "refused" if code == ExitCode.ERROR else "not_submitted"
        return "unknown"
    if isinstance(event, Interrupted) and event.response_id is None:
        return "outcome_unknown" if event.outcome == "unknown" else "not_submitted"
    if code == ExitCode.NEEDS_ACTION:
        return "needs_action"
    status: str | None = getattr(event, "status", None)
    if isinstance(event, Interrupted) and not event.job_cancelled:
        return without_result(status)
    return status or "unknown"


def without_result(status: str | None) -> str:
    """Return the status under which a run counts a job whose result is not written.

    If the job has ended, the run still has to write its result.
    """
    return "in_progress" if status in ENDED else status or "unknown"
