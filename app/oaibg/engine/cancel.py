"""Cancelling a job, and learning what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import CallFailed, ExitCode
from oaibg.engine import report
from oaibg.engine.fetch import fetch
from oaibg.engine.find import find
from oaibg.engine.patience import ask
from oaibg.engine.persist import remember_payload
from oaibg.engine.verdicts import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.api.payload import Payload
    from oaibg.contract.events import CancelResult, Event
    from oaibg.engine.context import Context
    from oaibg.engine.find import Target
    from oaibg.engine.job import Job

CONFIRMS = 5
"""Retrieves, one second apart, in which a server may confirm a cancel."""

_QUICK_SECONDS = 5.0
"""Seconds in which a cancel that a signal asks for is made and confirmed."""

_QUICK_INTERVAL, _QUICK_TIMEOUT = 0.5, 2.0


async def cancel_job(target: Target, job: Job, context: Context) -> CancelResult:
    """Cancel a job, and report its true status."""
    await find(target, job, context)
    api = await context.connect()
    refusal: CallFailed | None = None
    try:
        answer = await ask(lambda seconds: api.cancel(str(job.response_id), seconds), context.clock)
    except CallFailed as failure:
        # A refusal may mean that the job has ended already: the retrieve shows that.
        refusal, answer = failure, None
    payload = answer or (await fetch(job, context))[0]
    for _ in range(CONFIRMS if refusal is None else 0):
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
    return report.cancel_result(job, code, context)


async def cancel_quickly(job: Job, context: Context) -> bool:
    """Cancel a job because a signal ends the run; returns whether it is cancelled.

    Raises `OaibgError` if there is no connection to be had.
    """
    api, clock = await context.connect(), context.clock
    give_up = clock.monotonic() + _QUICK_SECONDS
    call: Callable[[str, float], Awaitable[Payload | None]] = api.cancel
    latest: Payload | None = None
    refusal: CallFailed | None = None
    while True:
        try:
            left = give_up - clock.monotonic()
            answer = await call(str(job.response_id), min(_QUICK_TIMEOUT, left))
            latest, call = answer or latest, api.retrieve
        except CallFailed as failure:
            if not is_transient(failure):
                # A refusal may mean that the job has ended already: the retrieve shows that.
                call, refusal = api.retrieve, failure
        if latest is not None and (latest.ended or refusal is not None):
            break
        if clock.monotonic() + _QUICK_INTERVAL >= give_up:
            break
        await clock.sleep(_QUICK_INTERVAL)
    if latest is None:
        return False
    if refusal is not None and not latest.ended:
        await context.emit(_refused(job, refusal))
    job.note_status(latest.status)
    await remember_payload(latest, job, context)
    return latest.status == "cancelled"


def _refused(job: Job, refusal: CallFailed) -> Event:
    words = refusal.message.rstrip(".")
    return report.warning(job, "cancel_refused", f"The server refuses to cancel: {words}.")
