"""What has become of the jobs of a run, and the one exit code that this comes to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.contract.events import CancelResult, Detached, Error, Interrupted, Summary, exit_code_of

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context

WORST = (6, 8, 7, 1, 2, 3, 9, 5, 4, 0)
"""Exit codes of single jobs, worst first: the worst is the run's. A signal outranks them
all. A job has 2 if the state can't store it any more."""


class Tally:
    """What has become of the jobs of a run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.still_running: list[str] = []
        """The ids of jobs that continue at the API."""
        self.interrupted = False
        """Whether a signal ended the run."""
        self._codes: set[int] = set()

    def count(self, status: str, code: int, *, jobs: int = 1) -> None:
        """Count jobs that have come to their end in this run."""
        self.counts[status] += jobs
        self._codes.add(code)

    def take(self, event: Event, *, jobs: int = 1) -> None:
        """Take the event that ended a job's part of the run; a batch's stands for many jobs."""
        code = exit_code_of(event)
        assert code is not None  # noqa: S101 - it is the last event of its job
        self.count(_status(event), code, jobs=jobs)
        if event.response_id is not None and _is_still_running(event):
            self.still_running.append(event.response_id)

    def note_interrupt(self) -> None:
        """Note that a signal ends the run."""
        self.interrupted = True

    def summary(
        self, context: Context, *, next_: list[str] | None, response_id: str | None = None
    ) -> Summary:
        """The event that ends the run; `response_id` is the one batch of all its jobs."""
        if self.interrupted:
            code = 128 + context.signum()
        else:
            code = next((code for code in WORST if code in self._codes), ExitCode.OK)
        return Summary(
            response_id=response_id,
            counts=dict(self.counts),
            elapsed_seconds=context.elapsed(),
            exit_code=code,
            next=next_,
        )


def _status(event: Event) -> str:
    """What a job counts as."""
    if isinstance(event, Error):
        if event.outcome == "unknown":
            return "outcome_unknown"
        if event.exit_code == ExitCode.NOT_FOUND:
            return "not_found"
        if event.outcome == "not_created":
            return "refused" if event.exit_code == ExitCode.ERROR else "not_submitted"
        return "unknown"
    if isinstance(event, Interrupted) and event.response_id is None:
        return "outcome_unknown" if event.outcome == "unknown" else "not_submitted"
    status: str | None = getattr(event, "status", None)
    return status or "unknown"


def _is_still_running(event: Event) -> bool:
    """Whether the job is still alive at the API, as far as is known."""
    if isinstance(event, Interrupted):
        return not event.job_cancelled
    if isinstance(event, Error):
        return event.next is not None
    if isinstance(event, CancelResult) and event.exit_code == ExitCode.ERROR:
        return True  # the server refuses to cancel it
    return isinstance(event, Detached) or exit_code_of(event) == ExitCode.STILL_RUNNING
