"""Builds the events that end a command or a job of a run: those with an exit code and `next`."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.base.text import utf8
from oaibg.contract import events
from oaibg.contract.errors import ExitCode
from oaibg.engine import end_hints
from oaibg.engine.recap import Recap
from oaibg.engine.written import Written

if TYPE_CHECKING:
    from typing import Any, Literal

    from oaibg.api.answer import Call
    from oaibg.api.payload import Payload
    from oaibg.contract.errors import OaibgError, Outcome
    from oaibg.engine.context import Context, NextCommand
    from oaibg.engine.job import Job
    from oaibg.engine.run_options import Output

FILES_MAX = 20
"""Maximum number of paths in `files`."""


ARGUMENTS_MAX = 500
"""Maximum number of characters in the `arguments` of a call."""


def final(job: Job, payload: Payload, context: Context, written: Written) -> events.Final:
    """The job has ended, and its files were written or not."""
    code = end_code(payload, context.output, written)
    next_ = _save_again(code, written, job, context)
    return events.Final(
        response_id=job.response_id,
        status=str(payload.status),
        ok=code in (ExitCode.OK, ExitCode.LOCAL_IO),
        elapsed_seconds=context.elapsed(),
        model=payload.model,
        service_tier=payload.service_tier,
        exit_code=code,
        next=next_,
        hint=_hint(code, payload, job, context, next_),
        cost_usd=_cost(payload, job),
        **_result(payload, job),
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
    if ended:
        next_ = _save_again(code, written, job, context)
        hint = _hint(code, payload, job, context, next_)
    else:
        next_ = _resume(job, context.next_command)
        hint = end_hints.to_wait(job, next_)
    return events.Response(
        response_id=job.response_id,
        status=payload.status,
        source=source,
        response=None if output.is_asked_for else payload.data,
        exit_code=code,
        next=next_,
        hint=hint,
        # With --output-text nobody sees it, and the price list takes long to import.
        cost_usd=None if output.show_output_text else _cost(payload, job),
        **_result(payload, job),
    )


def timeout(job: Job, context: Context) -> events.Timeout:
    """The wait limit was reached; the job keeps running."""
    next_ = _resume(job, context.next_command)
    return events.Timeout(
        response_id=job.response_id,
        status=job.status,
        elapsed_seconds=context.elapsed(),
        job_key=job.job_key,
        hint=end_hints.to_wait(job, next_),
        exit_code=3,
        next=next_,
    )


def detached(job: Job, context: Context) -> events.Detached:
    """The command ends without waiting; the job keeps running."""
    next_ = _resume(job, context.next_command)
    return events.Detached(
        response_id=job.response_id,
        status=job.status,
        job_key=job.job_key,
        hint=end_hints.to_wait(job, next_),
        exit_code=0,
        next=next_,
    )


def cancel_result(job: Job, code: ExitCode, context: Context) -> events.CancelResult:
    """The result of a cancel."""
    is_running = code in (ExitCode.STILL_RUNNING, ExitCode.ERROR)
    return events.CancelResult(
        response_id=job.response_id,
        status=job.status,
        cancelled=code == ExitCode.OK,
        job_key=job.job_key,
        hint=end_hints.after_cancel(code, job),
        exit_code=code,
        next=_resume(job, context.next_command) if is_running else None,
    )


def interrupted(
    job: Job, next_command: NextCommand, signum: int, *, cancelled: bool = False
) -> events.Interrupted:
    """A signal ended the run; `cancelled` is whether it also cancelled the job."""
    has_ended = cancelled and not (job.is_run and next_command.rerun())
    next_ = None if has_ended else _resume(job, next_command)
    return events.Interrupted(
        response_id=job.response_id,
        signal=signal.Signals(signum).name,
        status=job.status,
        job_cancelled=cancelled,
        outcome=job.outcome,
        job_key=job.job_key,
        hint=end_hints.after_signal(job, job.outcome, next_, cancelled=cancelled),
        exit_code=128 + signum,
        next=next_,
    )


def cut_short(
    job: Job, next_command: NextCommand, signum: int, jobs: list[Job]
) -> events.Interrupted:
    """A signal ended the process at once; `jobs` are those of a run that had not ended."""
    event = interrupted(job, next_command, signum)
    if not jobs:
        return event
    lost = sum(one.outcome == "unknown" for one in jobs)
    running = sum(one.response_id is not None for one in jobs)
    hint = end_hints.after_cut_short(running, lost, event.next)
    return event.but(outcome="unknown" if lost else event.outcome, hint=hint)


def error(job: Job, failed: OaibgError, next_command: NextCommand) -> events.Error:
    """An error ended the run."""
    outcome = job.outcome
    is_submit = outcome in ("not_created", "unknown")
    if failed.outcome is not None and (is_submit or failed.outcome == "unknown"):
        outcome = failed.outcome
    unasked = failed.exit_code in (ExitCode.AUTH, ExitCode.UNAVAILABLE) and not job.answered
    doubt = f"{job.doubt} {job.suggestion}".strip() if unasked and job.doubt else ""
    next_ = _after(failed, outcome, job, next_command)
    return events.Error(
        response_id=job.response_id,
        code=failed.code,
        message=f"{doubt} {failed.message}".lstrip(),
        http_status=failed.http_status,
        request_id=failed.request_id,
        retryable=failed.retryable,
        outcome=outcome,
        job_key=job.job_key,
        hint=end_hints.after_error(failed, outcome, job, next_),
        exit_code=failed.exit_code,
        next=next_,
    )


def _after(
    failed: OaibgError, outcome: Outcome | None, job: Job, next_command: NextCommand
) -> list[str] | None:
    if job.is_run and (rerun := next_command.rerun()) is not None:
        return rerun if failed.exit_code == ExitCode.UNAVAILABLE else None
    still_running = failed.resumable or outcome == "created"
    return _resume(job, next_command) if still_running and failed.can_follow else None


def _result(payload: Payload, job: Job) -> dict[str, Any]:
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
        "calls": [_call(one) for one in calls],
        "job_seconds": payload.seconds,
        "files": job.files[:FILES_MAX],
        "job_key": job.job_key,
    }


def _call(call: Call) -> events.Call:
    arguments = call.details
    if len(arguments) > ARGUMENTS_MAX:
        arguments = f"{arguments[: ARGUMENTS_MAX - 1]}…"
    return events.Call(
        type=call.type, id=call.id, name=call.name, arguments=arguments or None
    ).with_details(call.details)


def _cost(payload: Payload, job: Job) -> float | None:
    if job.cost_usd is not None:
        return job.cost_usd
    return Recap.of(payload, ExitCode.OK).cost_usd(job.completion_window)


def _hint(
    code: ExitCode, payload: Payload, job: Job, context: Context, next_: list[str] | None
) -> str:
    """The hint for a job that has ended."""
    if code == ExitCode.UNSUCCESSFUL:
        before = _unsuccessful_before(job, context)
        return end_hints.after_failure(payload, job, context.output, attempts=before + 1)
    return end_hints.after_end(code, payload, job, context.output, next_)


def _unsuccessful_before(job: Job, context: Context) -> int:
    """The number of a job's earlier attempts; 0 for a job of a run, whose line has no hint."""
    from oaibg.state.database import StateError

    if job.custom_id is None:
        with suppress(StateError):
            return context.store.unsuccessful_before(context.base_url, str(job.response_id))
    return 0


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
