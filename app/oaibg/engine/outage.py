"""Warnings and errors about a server that does not answer for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import Unavailable
from oaibg.engine import report
from oaibg.engine.hints import passing_hint
from oaibg.engine.patience import BLOCKED_AFTER
from oaibg.engine.verdicts import CERTIFICATE, is_missing

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.contract.errors import CallFailed
    from oaibg.contract.events import Event
    from oaibg.engine.job import Job


_MISSING = (
    "A new job may take a moment to appear. Check OPENAI_BASE_URL and the project of the API key."
)


def may_be_lost(job: Job, payload: Payload, seconds: float) -> Event:
    """The warning about a job that still runs after its server was down for some seconds."""
    message = (
        f"The server was not reachable for about {seconds:.0f} s. If it was restarted, the job may "
        f"be lost although its status is still {payload.status}. If the job does not end, run "
        f"`oaibg cancel {job.response_id}` and submit it again (with --retry-failed, or with "
        "another --job-key); you pay again."
    )
    return report.problem(job, "may_be_lost", message)


def no_answer(job: Job, failure: CallFailed) -> Event:
    """The warning that no request succeeded before the wait limit."""
    reason = failure.message.rstrip(".")
    if is_missing(failure):
        message = f"The job was not found so far ({reason}). {_MISSING}"
    else:
        message = f"No request succeeded within the wait limit ({reason}). {passing_hint(failure)}"
    return report.problem(job, "no_answer", message)


def blocked(failure: CallFailed | None) -> Unavailable:
    """The error for a job about which no request succeeded in the first minute."""
    reason = f" ({failure.message.rstrip('.')})" if failure else ""
    what = f"No request succeeded in the first {BLOCKED_AFTER:.0f} s{reason}"
    if failure is not None and failure.code == CERTIFICATE:
        what = f"No request can succeed{reason}"
    message = f"{what}. The job is not affected; run `next` to resume."
    hint = passing_hint(failure)
    if failure is None:
        return Unavailable(message, hint=hint, resumable=True)
    return Unavailable.of(failure, message, hint=hint, resumable=True)
