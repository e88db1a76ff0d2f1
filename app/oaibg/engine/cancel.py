"""Cancels a job, and reports its resulting status."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oaibg.contract.errors import CallFailed, ExitCode
from oaibg.engine import report, report_end
from oaibg.engine.fetch import fetch, retrieve
from oaibg.engine.find import find
from oaibg.engine.patience import with_retries
from oaibg.engine.persist import remember_payload
from oaibg.engine.verdicts import is_error_in_200, is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.api.calls import Calls
    from oaibg.api.payload import Payload
    from oaibg.contract.events import CancelResult, Event
    from oaibg.engine.context import Context
    from oaibg.engine.find import Target
    from oaibg.engine.job import Job

_CONFIRM_RETRIEVES = 5
"""Retrieves, one second apart, that wait for the server to confirm a cancel."""

_QUICK_SECONDS, _QUICK_SECONDS_MORE = 5.0, 0.1
"""Seconds for sending and confirming a cancel that a signal triggers, and for each further job."""

_QUICK_INTERVAL, _QUICK_TIMEOUT = 0.5, 2.0


async def cancel_job(target: Target, job: Job, context: Context) -> CancelResult:
    """Cancel a job, and report its actual status."""
    await find(target, job, context)
    api = await context.connect()
    refusal: CallFailed | None = None
    try:
        reply = await with_retries(
            lambda seconds: _cancel(job, api, seconds), context.clock, may_pass=_may_pass
        )
    except CallFailed as failure:
        # A server may refuse because the job has already ended; a retrieve shows its status.
        refusal, reply = failure, None
    payload = reply or (await fetch(job, context))[0]
    for _ in range(_CONFIRM_RETRIEVES if refusal is None else 0):
        if payload.ended:
            break
        await context.clock.sleep(1.0)
        payload, _ = await fetch(job, context)
    job.note_status(payload.status)
    await remember_payload(payload, job, context)
    if payload.status == "cancelled":
        code = ExitCode.OK
    elif payload.ended:
        code = ExitCode.UNSUCCESSFUL
    elif refusal is not None:
        code = ExitCode.ERROR
        await context.emit(_refused(job, refusal))
    else:
        code = ExitCode.STILL_RUNNING
    return report_end.cancel_result(job, code, context)


async def cancel_quickly(job: Job, context: Context) -> bool:
    """Cancel a job because a signal ends the run; return whether it was cancelled.

    Raises `OaibgError` if the API client can't be created.
    """
    api, clock = await context.connect(), context.clock
    api.hurry()
    seconds = _QUICK_SECONDS + _QUICK_SECONDS_MORE * (context.shared.running - 1)
    limit = max(_QUICK_TIMEOUT, seconds / 3)
    deadline = clock.monotonic() + seconds
    look = partial(retrieve, job, context)
    call: Callable[[float], Awaitable[Payload | None]] = partial(_cancel, job, api)
    latest: Payload | None = None
    refusal: CallFailed | None = None
    while True:
        try:
            remaining = deadline - clock.monotonic()
            reply = await call(min(limit, remaining))
            latest, call = reply or latest, look
        except CallFailed as failure:
            if not _may_pass(failure):
                # As above: the job may have already ended.
                call, refusal = look, failure
        if latest is not None and (latest.ended or refusal is not None):
            break
        if clock.monotonic() + _QUICK_INTERVAL >= deadline:
            break
        await clock.sleep(_QUICK_INTERVAL)
    if latest is None:
        return False
    if refusal is not None and not latest.ended:
        await context.emit(_refused(job, refusal))
    job.note_status(latest.status)
    await remember_payload(latest, job, context)
    return latest.status == "cancelled"


def _cancel(job: Job, api: Calls, seconds: float) -> Awaitable[Payload | None]:
    return api.cancel(str(job.response_id), seconds, is_batch=job.is_batch)


def _may_pass(failure: CallFailed) -> bool:
    """Whether a repeated cancel may succeed; an error in a 200 is a refusal, too."""
    return is_transient(failure) and not is_error_in_200(failure)


def _refused(job: Job, refusal: CallFailed) -> Event:
    words = refusal.message.rstrip(".")
    message = f"The server refused to cancel the job, which keeps running: {words}."
    return report.problem(job, "cancel_refused", message)
