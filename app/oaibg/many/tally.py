"""How the jobs of a run ended, and the one exit code that follows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from oaibg.api.payload import TERMINAL
from oaibg.contract.errors import ExitCode
from oaibg.contract.events import (
    CancelResult,
    Detached,
    Error,
    Final,
    Interrupted,
    Summary,
    Unsuccessful,
    exit_code_of,
)
from oaibg.contract.run_status import run_status
from oaibg.engine.end_hints import SAVE_AGAIN
from oaibg.engine.recap import reason_of
from oaibg.engine.totals import Totals
from oaibg.many.run_hint import hint_of
from oaibg.state.rows import UNSUCCESSFUL

if TYPE_CHECKING:
    from collections.abc import Container

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context

WORST = (8, 7, 3, 6, 1, 2, 9, 5, 4, 10, 0)
"""The exit codes of single jobs, worst first. A run exits with its worst code, except that a
signal outranks them all. While a job is running or waits to be submitted, the code is 3 unless the
run can't continue at all. A job has 2 if the state can no longer store it."""

UNSUCCESSFUL_MAX = 20
"""Maximum number of jobs in the `unsuccessful` of a summary."""


class Tally:
    """Counts the jobs of a run by how they ended."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.left = 0
        """The number of these jobs that are running, or wait to be submitted."""
        self.unfinished: list[str] = []
        """The response IDs of jobs that keep running at the API, or with files to write again."""
        self.uncancelled: list[str] = []
        """The response IDs of jobs that a signal should have cancelled, and that may still run."""
        self.interrupted = False
        """Whether a signal ended the run."""
        self.totals = Totals()
        """The usage and the cost of the jobs that ended."""
        self._unsuccessful: list[Unsuccessful] = []
        self.is_unwritten = False
        """Whether a file of the whole run could not be written; a rerun may write it."""
        self.is_cancelled = False
        """Whether the run was cancelled, so that its other jobs are not to be submitted."""
        self._retried: Container[str | None] = ()
        self._repeated = 0
        """The number of unsuccessful jobs that were submitted more than once."""
        self._codes: set[int] = set()
        self._problem = ""
        """The last warning that says what to do, in words."""

    def count(self, status: str, code: int, *, jobs: int = 1, custom_id: str | None = None) -> None:
        """Count jobs that ended with a status and an exit code; `custom_id` names a single one."""
        self.counts[status] += jobs
        if status in UNSUCCESSFUL and custom_id in self._retried:
            self._repeated += 1
        if code == ExitCode.STILL_RUNNING or status == "not_submitted":
            self.left += jobs
        self._codes.add(code)

    def take(self, event: Event, custom_id: str | None = None, *, jobs: int = 1) -> None:
        """Count a job by the event that ended it; the event of a batch counts for `jobs` jobs."""
        code = exit_code_of(event)
        assert code is not None  # noqa: S101 - a job's last event has one
        self.count(run_status(event), code, jobs=jobs, custom_id=custom_id)
        self._note_end(event, custom_id)
        if code == ExitCode.LOCAL_IO:
            self.note_problem(str(getattr(event, "hint", "")))
        if event.response_id is not None and _is_unfinished(event):
            self.unfinished.append(event.response_id)
            if isinstance(event, Interrupted) and event.status not in TERMINAL:
                self.uncancelled.append(event.response_id)

    def note_unsuccessful(self, job: Unsuccessful) -> None:
        """Note a job for the summary's `unsuccessful`, which keeps a job of each reason."""
        noted = self._unsuccessful
        if len(noted) == UNSUCCESSFUL_MAX:
            reasons = Counter((one.status, one.code) for one in noted)
            spare = [one for one in noted if reasons[one.status, one.code] > 1]
            if (job.status, job.code) in reasons or not spare:
                return
            noted.remove(spare[-1])
        noted.append(job)

    def note_why(self, final: Final, custom_id: str | None = None) -> None:
        """Note why a job, or a batch without results, did not succeed."""
        self._note_unsuccessful(final, custom_id, *reason_of(final))

    def note_problem(self, message: str) -> None:
        """Note a warning that the summary's hint repeats."""
        self._problem = message

    def note_unsaved(self, message: str) -> None:
        """Note a warning that a file of the run could not be written, for the summary's hint."""
        self.note_problem(f"{message} {SAVE_AGAIN}")

    def note_cancelled(self) -> None:
        """Note that the run was cancelled."""
        self.is_cancelled = True

    def note_retried(self, custom_ids: Container[str | None]) -> None:
        """Note which jobs were submitted again after they had ended without success."""
        self._retried = custom_ids

    def note_interrupt(self) -> None:
        """Note that a signal ended the run."""
        self.interrupted = True

    def note_unwritten(self) -> None:
        """Note that a file of the whole run lacks results; a rerun may write them."""
        self.is_unwritten = True

    def summary(
        self,
        context: Context,
        *,
        next_: list[str] | None,
        response_id: str | None = None,
        results_file: str | None = None,
        job_key: str | None = None,
    ) -> Summary:
        """Return the event that ends the run; `response_id` is its batch, if it has one."""
        if self.uncancelled and context.wait.cancel_on_interrupt:
            next_ = context.next_command.cancel(self.uncancelled) or next_
        if self.interrupted:
            code = 128 + context.signum()
        else:
            codes = self._codes
            if self.is_cancelled and self.left == self.counts["not_submitted"]:
                unsuccessful = {ExitCode.STILL_RUNNING: ExitCode.UNSUCCESSFUL}
                codes = {unsuccessful.get(ExitCode(code), code) for code in codes}
            code = next((code for code in WORST if code in codes), ExitCode.OK)
            if code == ExitCode.OK and self.is_unwritten:
                code = ExitCode.LOCAL_IO
        summary = Summary(
            response_id=response_id,
            counts=dict(self.counts),
            elapsed_seconds=context.elapsed(),
            usage=self.totals.usage,
            cost_usd=self.totals.cost_usd,
            results_file=results_file,
            unsuccessful=self._unsuccessful,
            job_key=job_key,
            exit_code=code,
            next=next_,
        )
        hint = hint_of(
            summary,
            self._problem,
            left=self.left,
            repeated=self._repeated,
            is_cancelled=self.is_cancelled,
        )
        return summary.but(hint=hint)

    def _note_end(self, event: Event, custom_id: str | None) -> None:
        """Add the usage of a job, and why it did not succeed."""
        if isinstance(event, Final):
            self.totals.add(event.usage, event.cost_usd)
            if not event.ok:
                self.note_why(event, custom_id)
        elif isinstance(event, Error) and not self._knows_why_not_submitted(event):
            self._note_unsuccessful(event, custom_id, event.code, event.message)

    def _knows_why_not_submitted(self, event: Error) -> bool:
        """Whether a job was not submitted for a reason that is noted: it is the same for many."""
        reasons = {(one.status, one.code) for one in self._unsuccessful}
        return run_status(event) == "not_submitted" and ("not_submitted", event.code) in reasons

    def _note_unsuccessful(
        self, event: Event, custom_id: str | None, code: str | None, message: str | None
    ) -> None:
        self.note_unsuccessful(
            Unsuccessful(
                custom_id=custom_id,
                response_id=event.response_id,
                status=run_status(event),
                code=code,
                message=message,
            )
        )


def _is_unfinished(event: Event) -> bool:
    if isinstance(event, Interrupted):
        return not event.job_cancelled
    if isinstance(event, Error | Final):
        return event.next is not None
    if isinstance(event, CancelResult) and event.exit_code == ExitCode.ERROR:
        return True  # the server refused to cancel it
    return isinstance(event, Detached) or exit_code_of(event) == ExitCode.STILL_RUNNING
