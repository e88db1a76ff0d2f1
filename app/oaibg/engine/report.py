"""Builds the events about a job, except those that end it; see `report_end`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.base.text import timestamp, utf8
from oaibg.contract import events
from oaibg.engine.recap import Recap
from oaibg.state.rows import user_key

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.contract.errors import CallFailed
    from oaibg.engine.context import Context
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


def problem(job: Job, code: str, message: str) -> events.Warning:
    """As `warning`; the hint of the last line repeats the message."""
    job.note_problem(message)
    return warning(job, code, message)


def not_written(job: Job, path: str, error: OSError) -> events.Warning:
    """A file could not be written; the run continues, and ends with exit 9 if the job completed."""
    return problem(job, "write_failed", f"Could not write {path}: {error.strerror}.")


def written_in_place(job: Job, path: str) -> events.Warning:
    """A file was written, but not at once: an interruption could have left a part of it."""
    message = f"{path} can't be replaced (is it mounted?), so its content was overwritten in place."
    return warning(job, "written_in_place", message)


def not_saved(job: Job, name: str, reason: str) -> events.Warning:
    """An image or a file of the job could not be obtained; otherwise like `not_written`."""
    return problem(job, "write_failed", f"Could not save {name}: {reason}")


def listed(row: Row) -> events.ListedJob:
    """A job in the local state."""
    recap = Recap.of_row(row) or Recap(status=str(row.status))
    status = recap.status if row.status == "completed" else row.status
    return events.ListedJob(
        response_id=row.response_id,
        custom_id=row.custom_id,
        job_key=row.job_key and user_key(row.job_key),
        label=row.label,
        model=row.model,
        status=status if row.response_id is not None else "outcome_unknown",
        replaced=row.is_replaced,
        usage=recap.usage,
        cost_usd=recap.cost_usd(row.completion_window),
        job_seconds=recap.job_seconds,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        base_url=row.base_url,
    )


def _call_error(failure: CallFailed) -> events.CallError:
    return events.CallError(
        code=failure.code,
        message=failure.message,
        http_status=failure.http_status,
        request_id=failure.request_id,
    )
