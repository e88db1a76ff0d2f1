"""How the jobs of a run ended, and the one exit code that follows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.contract.events import (
    CancelResult,
    Detached,
    Error,
    Final,
    Interrupted,
    Summary,
    exit_code_of,
)
from oaibg.state.rows import NOT_FOUND

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context

WORST = (6, 8, 7, 1, 2, 3, 9, 5, 4, 10, 0)
"""The exit codes of single jobs, worst first. A run exits with its worst code, except that a
signal outranks them all. A job has 2 if the state can no longer store it."""

NEEDS_ACTION, REFUSED = "needs_action", "refused"
"""The counts of the completed jobs that exit with 10, and of those that the API did not create."""


class Tally:
    """Counts the jobs of a run by how they ended."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.unfinished: list[str] = []
        """The response IDs of jobs that keep running at the API, or with files to write again."""
        self.interrupted = False
        """Whether a signal ended the run."""
        self.is_unwritten = False
        """Whether a file of the whole run could not be written; a rerun may write it."""
        self._codes: set[int] = set()

    def count(self, status: str, code: int, *, jobs: int = 1) -> None:
        """Count jobs that ended with a status and an exit code."""
        self.counts[status] += jobs
        self._codes.add(code)

    def take(self, event: Event, *, jobs: int = 1) -> None:
        """Count a job by the event that ended it; the event of a batch counts for `jobs` jobs."""
        code = exit_code_of(event)
        assert code is not None  # noqa: S101 - a job's last event has one
        self.count(status_of_end(event), code, jobs=jobs)
        if event.response_id is not None and _is_unfinished(event):
            self.unfinished.append(event.response_id)

    def note_interrupt(self) -> None:
        """Note that a signal ended the run."""
        self.interrupted = True

    def note_unwritten(self) -> None:
        """Note that a file of the whole run could not be written."""
        self.is_unwritten = True

    def summary(
        self, context: Context, *, next_: list[str] | None, response_id: str | None = None
    ) -> Summary:
        """Return the event that ends the run; `response_id` is its batch, if it has one."""
        if self.interrupted:
            code = 128 + context.signum()
        else:
            code = next((code for code in WORST if code in self._codes), ExitCode.OK)
            if code == ExitCode.OK and self.is_unwritten:
                code = ExitCode.LOCAL_IO
        return Summary(
            response_id=response_id,
            counts=dict(self.counts),
            elapsed_seconds=context.elapsed(),
            exit_code=code,
            next=next_,
        )


def status_of_end(event: Event) -> str:
    """Return the status under which a run counts a job that this event ended."""
    if isinstance(event, Error):
        if event.outcome == "unknown":
            return "outcome_unknown"
        if event.exit_code == ExitCode.NOT_FOUND:
            return NOT_FOUND
        if event.outcome == "not_created":
            return REFUSED if event.exit_code == ExitCode.ERROR else "not_submitted"
        return "unknown"
    if isinstance(event, Interrupted) and event.response_id is None:
        return "outcome_unknown" if event.outcome == "unknown" else "not_submitted"
    if exit_code_of(event) == ExitCode.NEEDS_ACTION:
        return NEEDS_ACTION
    status: str | None = getattr(event, "status", None)
    return status or "unknown"


def _is_unfinished(event: Event) -> bool:
    if isinstance(event, Interrupted):
        return not event.job_cancelled
    if isinstance(event, Error | Final):
        return event.next is not None
    if isinstance(event, CancelResult) and event.exit_code == ExitCode.ERROR:
        return True  # the server refused to cancel it
    return isinstance(event, Detached) or exit_code_of(event) == ExitCode.STILL_RUNNING
