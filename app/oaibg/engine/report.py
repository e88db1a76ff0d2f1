"""Builds the events about a job; no other module does."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from oaibg.base.text import timestamp, utf8
from oaibg.contract import events
from oaibg.contract.errors import ExitCode

if TYPE_CHECKING:
    from typing import Literal

    from oaibg.api.payload import Payload
    from oaibg.contract.errors import CallFailed, OaibgError, Outcome
    from oaibg.engine.context import Context, NextCommand
    from oaibg.engine.job import Job
    from oaibg.request.body import Request
    from oaibg.state.store import Row


def submit_start(request: Request, job_key: str | None, poll_seconds: float) -> events.SubmitStart:
    """The command was accepted; nothing has been sent yet."""
    return events.SubmitStart(
        response_id=None,
        model=request.text_of("model"),
        reasoning_effort=request.text_of("reasoning", "effort"),
        verbosity=request.text_of("text", "verbosity"),
        poll_seconds=poll_seconds,
        job_key=job_key,
        request_sha256=request.sha256,
    )


def submit_error(
    failure: CallFailed, context: Context, *, attempt: int, delay: float
) -> events.SubmitError:
    """An attempt certainly created nothing; the next one follows in `delay` seconds."""
    return events.SubmitError(
        response_id=None,
        attempt=attempt,
        elapsed_seconds=context.elapsed(),
        error=_call_error(failure),
        retry_in_seconds=round(delay, 3),
    )


def submitted(job: Job, *, request_id: str | None, reattached: bool) -> events.Submitted:
    """The API returned an ID, or the job key already had a job."""
    return events.Submitted(
        response_id=job.response_id,
        status=job.status,
        request_id=request_id,
        reattached=reattached,
    )


def poll(job: Job, context: Context, *, attempt: int, next_poll: float | None) -> events.Poll:
    """The job was retrieved; the next poll follows in `next_poll` seconds."""
    return events.Poll(
        response_id=job.response_id,
        attempt=attempt,
        status=job.status,
        elapsed_seconds=context.elapsed(),
        next_poll_seconds=None if next_poll is None else round(next_poll, 3),
    )


def poll_error(
    failure: CallFailed, job: Job, context: Context, *, attempt: int, consecutive: int, delay: float
) -> events.PollError:
    """A retrieve failed; the next one follows in `delay` seconds."""
    return events.PollError(
        response_id=job.response_id,
        attempt=attempt,
        elapsed_seconds=context.elapsed(),
        consecutive=consecutive,
        error=_call_error(failure),
        retry_in_seconds=round(max(delay, 0.0), 3),
    )


def progress(job: Job, kind: str, item_type: str | None, number: int | None) -> events.Progress:
    """The stream reported another state, item or tool call."""
    return events.Progress(
        response_id=job.response_id, type=kind, item_type=item_type, sequence_number=number
    )


def text_delta(job: Job, delta: str, number: int | None) -> events.OutputTextDelta:
    """More of the answer; `number` is the sequence_number of its last delta."""
    return events.OutputTextDelta(response_id=job.response_id, delta=delta, sequence_number=number)


def output_text(job: Job, text: str) -> events.OutputText:
    """The whole answer."""
    return events.OutputText(response_id=job.response_id, text=text, bytes=len(utf8(text)))


def output_text_missing(job: Job, payload: Payload) -> events.OutputTextMissing:
    """The response has no text."""
    return events.OutputTextMissing(response_id=job.response_id, status=payload.status)


def wrote(
    job: Job, kind: type[events.WroteJson | events.WroteText], path: str, data: bytes
) -> events.WroteJson | events.WroteText:
    """A file was written."""
    import hashlib

    sha256 = hashlib.sha256(data).hexdigest()
    return kind(response_id=job.response_id, path=path, bytes=len(data), sha256=sha256)


def warning(job: Job, code: str, message: str) -> events.Warning:
    """Something that the user should know; the run continues."""
    return events.Warning(response_id=job.response_id, code=code, message=message)


def not_written(job: Job, path: str, error: OSError) -> events.Warning:
    """A file could not be written; the run continues, and ends with exit 9 if the job completed."""
    return warning(job, "write_failed", f"Could not write {path}: {error.strerror}.")


def final(job: Job, payload: Payload, context: Context, *, written: bool = True) -> events.Final:
    """The job has ended; `written` is whether all files could be written."""
    code = end_code(payload, written=written)
    return events.Final(
        response_id=job.response_id,
        status=str(payload.status),
        ok=payload.succeeded,
        elapsed_seconds=context.elapsed(),
        model=payload.model,
        usage=payload.object("usage"),
        error=payload.object("error"),
        incomplete_details=payload.object("incomplete_details"),
        output_text_bytes=len(utf8(payload.text)),
        exit_code=code,
        next=None if code == ExitCode.OK else context.next_command.show(str(job.response_id)),
    )


def end_code(payload: Payload, *, written: bool) -> ExitCode:
    """The exit code of a job that has ended; `written` is whether all files could be written."""
    if not payload.succeeded:
        return ExitCode.UNSUCCESSFUL
    return ExitCode.OK if written else ExitCode.LOCAL_IO


def response(
    job: Job, payload: Payload, source: Literal["api", "local"], context: Context, *, written: bool
) -> events.Response:
    """The result of one retrieve; it has the payload unless the user requested another output."""
    ended = payload.ended
    return events.Response(
        response_id=job.response_id,
        status=payload.status,
        source=source,
        response=None if context.output.is_asked_for else payload.data,
        exit_code=end_code(payload, written=written) if ended else ExitCode.STILL_RUNNING,
        next=None if ended else _resume(job, context.next_command),
    )


def timeout(job: Job, context: Context) -> events.Timeout:
    """The wait limit was reached; the job keeps running."""
    return events.Timeout(
        response_id=job.response_id,
        status=job.status,
        elapsed_seconds=context.elapsed(),
        exit_code=3,
        next=_resume(job, context.next_command),
    )


def detached(job: Job, context: Context) -> events.Detached:
    """The command ends without waiting; the job keeps running."""
    return events.Detached(
        response_id=job.response_id,
        status=job.status,
        exit_code=0,
        next=_resume(job, context.next_command),
    )


def cancel_result(job: Job, code: ExitCode, context: Context) -> events.CancelResult:
    """The result of a cancel."""
    following = None
    if code in (ExitCode.STILL_RUNNING, ExitCode.ERROR):
        following = _resume(job, context.next_command)
    elif code == ExitCode.UNSUCCESSFUL:
        following = context.next_command.show(str(job.response_id))
    return events.CancelResult(
        response_id=job.response_id,
        status=job.status,
        cancelled=code == ExitCode.OK,
        exit_code=code,
        next=following,
    )


def interrupted(
    job: Job, next_command: NextCommand, signum: int, *, cancelled: bool = False
) -> events.Interrupted:
    """A signal ended the run; `cancelled` is whether it also cancelled the job."""
    following = _resume(job, next_command)
    if cancelled and not (job.is_run and next_command.rerun()):
        following = next_command.show(str(job.response_id))
    return events.Interrupted(
        response_id=job.response_id,
        signal=signal.Signals(signum).name,
        status=job.status,
        job_cancelled=cancelled,
        outcome=job.outcome,
        exit_code=128 + signum,
        next=following,
    )


def error(job: Job, failed: OaibgError, next_command: NextCommand) -> events.Error:
    """An error ended the run."""
    outcome = job.outcome
    if outcome is not None and outcome != "created" and failed.outcome is not None:
        outcome = failed.outcome
    return events.Error(
        response_id=job.response_id,
        code=failed.code,
        message=failed.message,
        http_status=failed.http_status,
        request_id=failed.request_id,
        retryable=failed.retryable,
        outcome=outcome,
        hint=failed.hint,
        exit_code=failed.exit_code,
        next=_after(failed, outcome, job, next_command),
    )


def listed(row: Row) -> events.ListedJob:
    """A job in the local state."""
    return events.ListedJob(
        response_id=row.response_id,
        custom_id=row.custom_id,
        job_key=row.job_key and row.job_key.partition("\n")[0],
        model=row.model,
        status=row.status if row.response_id is not None else "outcome_unknown",
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        base_url=row.base_url,
    )


def _after(
    failed: OaibgError, outcome: Outcome | None, job: Job, next_command: NextCommand
) -> list[str] | None:
    if job.is_run and (rerun := next_command.rerun()) is not None:
        return rerun if failed.exit_code == ExitCode.UNAVAILABLE else None
    still_running = failed.resumable or outcome == "created"
    return _resume(job, next_command) if still_running and failed.can_follow else None


def _resume(job: Job, next_command: NextCommand) -> list[str] | None:
    """The argv that resumes a job, or the run that it represents."""
    rerun = next_command.rerun() if job.is_run else None
    ids = [] if job.response_id is None else [job.response_id]
    return rerun or next_command.monitor(ids, job.last_number)


def _call_error(failure: CallFailed) -> events.CallError:
    return events.CallError(
        code=failure.code,
        message=failure.message,
        http_status=failure.http_status,
        request_id=failure.request_id,
    )
