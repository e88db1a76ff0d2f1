"""submit, monitor, cancel and show: coroutines that emit events, and return the last one.

Clock, calls and store are passed in. A command never prints, exits or reads a real clock. It always
returns the one event that has an exit code, also after an error or a signal (a cancelled task).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from oaibg.base.json_text import objects
from oaibg.contract.errors import Internal, OaibgError
from oaibg.contract.events import Detached
from oaibg.engine import report, report_end
from oaibg.engine.artifacts import EXPIRY_ADVICE, check_artifacts
from oaibg.engine.cancel import cancel_job, cancel_quickly
from oaibg.engine.create import Created, create_once, stop_streaming
from oaibg.engine.deliver import deliver
from oaibg.engine.fetch import fetch, fetch_ended
from oaibg.engine.find import Target, find
from oaibg.engine.hints import RETRY_HINT
from oaibg.engine.persist import finished, remember_payload, state_error, warn_of_state
from oaibg.engine.poll import End, PollTimes, follow
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.claim import Submission
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

T = TypeVar("T")


async def submit(submission: Submission, job: Job, context: Context) -> Event:
    """Submit a job, and follow it to its end unless `detach` is set."""
    return await closing(_submit(submission, job, context), job, context)


async def monitor(
    target: Target, job: Job, context: Context, times: PollTimes | None = None
) -> Event:
    """Follow an existing job to its end."""
    return await closing(_monitor(target, job, context, times), job, context)


async def cancel(target: Target, job: Job, context: Context) -> Event:
    """Cancel a job, and report its actual status."""
    return await closing(cancel_job(target, job, context), job, context)


async def show(job: Job, context: Context) -> Event:
    """Retrieve a job once; `show_local` is for jobs whose local copy is enough."""
    return await closing(_show(job, context), job, context)


async def closing(steps: Awaitable[T], job: Job, context: Context) -> T | Event:
    """Await the steps; return their result, or the event that reports an error or a signal."""
    try:
        return await steps
    except OaibgError as error:
        return report_end.error(job, error, context.next_command)
    except StateError as error:
        return report_end.error(job, state_error(error), context.next_command)
    except asyncio.CancelledError:
        return await _interrupted(job, context)
    except Exception as error:  # noqa: BLE001 - a bug; report what is known about the job
        return report_end.error(job, Internal.from_bug(error), context.next_command)


async def report_and_follow(
    created: Created, job: Job, context: Context, times: PollTimes, *, detach: bool = False
) -> Event:
    """Report the submit, and follow the job to its end unless `detach` is set."""
    try:
        end = await await_end(created, job, context, times, detach=detach)
    finally:
        if created.stream is not None:
            await created.stream.close()
    return await finish(end, job, context) if isinstance(end, End) else end


async def await_end(
    created: Created, job: Job, context: Context, times: PollTimes, *, detach: bool = False
) -> End | Event:
    """Report the submit, and follow the job; return its end, or the event that ends the wait."""
    reattached = created.reattached
    await context.emit(report.submitted(job, request_id=created.request_id, reattached=reattached))
    if created.is_foreground and context.shared.is_first("no_background"):
        await context.emit(report.warning(job, "no_background", _FOREGROUND))
    if not reattached and job.streams and created.stream is None:
        await stop_streaming(job, context, "the server replied without a stream")
    ended, source = await fetch_ended(job, context) if reattached else (created.ended, "api")
    if ended is not None and ended.ended:
        if reattached and job.custom_id is None and not job.is_run:  # usual in a run
            await context.emit(_already_ended(ended, job))
        return End(ended, is_local=source == "local")
    if detach:
        return report_end.detached(job, context)
    now = context.clock.monotonic()
    delay = 0.0 if reattached else times.next(now, now) - now
    followed = await follow(job, context, times, delay=delay, stream=created.stream)
    return followed or report_end.timeout(job, context)


async def finish(end: End, job: Job, context: Context) -> Event:
    """Store the result, deliver it as requested, and return the `final` event.

    In a run, a signal interrupts only what takes long, so that few jobs end without a result.
    """
    finishing = _finish(end, job, context)
    return await (finishing if context.commits is None else finished(finishing))


async def _finish(end: End, job: Job, context: Context) -> Event:
    payload = end.payload
    if not end.is_local:
        payload = await remember_payload(payload, job, context)
    written = await deliver(payload, job, context)
    return report_end.final(job, payload, context, written)


async def _submit(submission: Submission, job: Job, context: Context) -> Event:
    problem = context.state_problem
    if problem is not None:
        # A corrupt file was replaced; `claim` then decides whether the job key may be submitted.
        keyed = submission.job_key is not None and problem.code != "state_corrupt"
        if keyed or problem.code == "state_newer":
            raise state_error(problem)
        await warn_of_state(problem, job, context)
    created = await create_once(submission, job, context)
    times = PollTimes(context.wait.poll_seconds)
    event = await report_and_follow(created, job, context, times, detach=submission.detach)
    if isinstance(event, Detached) and context.output.artifacts_dir is not None:
        tools = objects(submission.request.body.get("tools"))
        if any(tool.get("type") == "code_interpreter" for tool in tools):
            await context.emit(report.warning(job, "artifacts_expire", EXPIRY_ADVICE))
    return event


_FOREGROUND = (
    "The server's reply does not say that the job runs in background mode (`background` is not "
    "true), so the server may not support it. It then replies only when a job has ended; a job "
    "that takes more than two minutes ends with exit 6."
)


def _already_ended(payload: Payload, job: Job) -> Event:
    message = (
        "The job with this key has already completed; its stored result follows."
        if payload.succeeded
        else f"The job with this key has already ended ({payload.status}). {RETRY_HINT}"
    )
    return report.warning(job, "job_key_ended", message)


async def _monitor(target: Target, job: Job, context: Context, times: PollTimes | None) -> Event:
    await find(target, job, context)
    check_artifacts(job, context.output)
    times = times or PollTimes(context.wait.poll_seconds)
    end = await follow(job, context, times, delay=times.first)
    return report_end.timeout(job, context) if end is None else await finish(end, job, context)


async def _show(job: Job, context: Context) -> Event:
    check_artifacts(job, context.output)
    payload, source = await fetch_ended(job, context)
    if payload is None or context.output.include:  # the local copy may lack what it asks for
        payload, source = await fetch(job, context)
    if source == "api":
        retrieved, payload = payload, await remember_payload(payload, job, context)
        source = "api" if payload is retrieved else "local"
    job.note_status(payload.status)
    written = await deliver(payload, job, context)
    return report_end.response(job, payload, source, context, written)


async def _interrupted(job: Job, context: Context) -> Event:
    """Handle a signal; cancel the job within a time limit if --cancel-on-interrupt is set."""
    cancelled = False
    cancels = context.wait.cancel_on_interrupt and not context.shared.abandoned
    if cancels and job.response_id is not None:
        with suppress(OaibgError):  # `job_cancelled` reports it
            cancelled = await cancel_quickly(job, context)
    return report_end.interrupted(job, context.next_command, context.signum(), cancelled=cancelled)
