"""Builds the events about a job; no other module does."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from oaibg.base.text import timestamp, utf8
from oaibg.contract import events
from oaibg.contract.errors import ExitCode
from oaibg.engine.written import Written

if TYPE_CHECKING:
    from typing import Any, Literal

    from oaibg.api.payload import Payload
    from oaibg.contract.errors import CallFailed, OaibgError, Outcome
    from oaibg.engine.context import Context, NextCommand
    from oaibg.engine.job import Job
    from oaibg.engine.run_options import Output
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


def progress(
    job: Job, kind: str, number: int | None, item_type: str | None, text: str | None
) -> events.Progress:
    """The stream reported another state, item or step."""
    return events.Progress(
        response_id=job.response_id,
        type=kind,
        item_type=item_type,
        sequence_number=number,
        text=text,
    )


def text_delta(job: Job, delta: str, number: int | None) -> events.OutputTextDelta:
    """More of the answer; `number` is the sequence_number of its last delta."""
    return events.OutputTextDelta(response_id=job.response_id, delta=delta, sequence_number=number)


def output_text(job: Job, text: str) -> events.OutputText:
    """The whole answer."""
    return events.OutputText(response_id=job.response_id, text=text, bytes=len(utf8(text)))


def output_text_missing(
    job: Job, payload: Payload, path: str | None = None
) -> events.OutputTextMissing:
    """The response has no text; `path` is the file for it, which stays as it was."""
    reason = payload.answer.missing or "empty"
    return events.OutputTextMissing(
        response_id=job.response_id, status=payload.status, reason=reason, path=path
    )


def wrote(
    job: Job, kind: type[events.WroteJson | events.WroteText], path: str, data: bytes
) -> events.WroteJson | events.WroteText:
    """A file was written."""
    import hashlib

    sha256 = hashlib.sha256(data).hexdigest()
    return kind(response_id=job.response_id, path=path, bytes=len(data), sha256=sha256)


def wrote_artifact(
    job: Job, path: str, size: int, sha256: str, source: str | None
) -> events.WroteArtifact:
    """An image or a file of the job was saved."""
    return events.WroteArtifact(
        response_id=job.response_id, path=path, bytes=size, sha256=sha256, source=source
    )


def warning(job: Job, code: str, message: str) -> events.Warning:
    """Something that the user should know; the run continues."""
    return events.Warning(response_id=job.response_id, code=code, message=message)


def not_written(job: Job, path: str, error: OSError) -> events.Warning:
    """A file could not be written; the run continues, and ends with exit 9 if the job completed."""
    return warning(job, "write_failed", f"Could not write {path}: {error.strerror}.")


def not_saved(job: Job, name: str, reason: str) -> events.Warning:
    """An image or a file of the job could not be obtained; otherwise like `not_written`."""
    return warning(job, "write_failed", f"Could not save {name}: {reason}")


def final(job: Job, payload: Payload, context: Context, written: Written) -> events.Final:
    """The job has ended, and its files were written or not."""
    code = end_code(payload, context.output, written)
    return events.Final(
        response_id=job.response_id,
        status=str(payload.status),
        ok=code in (ExitCode.OK, ExitCode.LOCAL_IO),
        elapsed_seconds=context.elapsed(),
        model=payload.model,
        service_tier=payload.service_tier,
        exit_code=code,
        next=_save_again(code, written, job, context),
        **_result(payload),
    )


def end_code(
    payload: Payload, output: Output | None = None, written: Written = Written.ALL
) -> ExitCode:
    """The exit code of a job that has ended, and whose output goes there."""
    if not payload.succeeded:
        return ExitCode.UNSUCCESSFUL
    missing = payload.answer.missing
    needs_text = payload.needs_text or (output is not None and output.needs_text)
    if missing in ("tool_calls", "refusal") or (missing is not None and needs_text):
        return ExitCode.NEEDS_ACTION
    return ExitCode.OK if written is Written.ALL else ExitCode.LOCAL_IO


def response(
    job: Job, payload: Payload, source: Literal["api", "local"], context: Context, written: Written
) -> events.Response:
    """The result of one retrieve; it has the payload unless the user requested another output."""
    output, ended = context.output, payload.ended
    code = end_code(payload, output, written) if ended else ExitCode.STILL_RUNNING
    save_again = _save_again(code, written, job, context)
    return events.Response(
        response_id=job.response_id,
        status=payload.status,
        source=source,
        response=None if output.is_asked_for else payload.data,
        exit_code=code,
        next=save_again if ended else _resume(job, context.next_command),
        **_result(payload),
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
    is_running = code in (ExitCode.STILL_RUNNING, ExitCode.ERROR)
    return events.CancelResult(
        response_id=job.response_id,
        status=job.status,
        cancelled=code == ExitCode.OK,
        exit_code=code,
        next=_resume(job, context.next_command) if is_running else None,
    )


def interrupted(
    job: Job, next_command: NextCommand, signum: int, *, cancelled: bool = False
) -> events.Interrupted:
    """A signal ended the run; `cancelled` is whether it also cancelled the job."""
    has_ended = cancelled and not (job.is_run and next_command.rerun())
    return events.Interrupted(
        response_id=job.response_id,
        signal=signal.Signals(signum).name,
        status=job.status,
        job_cancelled=cancelled,
        outcome=job.outcome,
        exit_code=128 + signum,
        next=None if has_ended else _resume(job, next_command),
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


def _result(payload: Payload) -> dict[str, Any]:
    """The fields that `final` and `response` have in common."""
    answer = payload.answer
    calls = answer.calls if payload.succeeded else []
    return {
        "usage": payload.object("usage"),
        "error": payload.object("error"),
        "incomplete_details": payload.object("incomplete_details"),
        "output_text_bytes": len(utf8(answer.text)),
        "output_types": answer.types,
        "refusal": answer.refusal,
        "calls": [
            events.Call(type=one.type, id=one.id, name=one.name).with_details(one.details)
            for one in calls
        ],
        "job_seconds": payload.seconds,
    }


def _save_again(code: ExitCode, written: Written, job: Job, context: Context) -> list[str] | None:
    """The argv that writes the files of an ended job again, if that may help."""
    if code != ExitCode.LOCAL_IO or written is not Written.RETRY:
        return None
    return context.next_command.show(str(job.response_id), context.folder_of(job))


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
