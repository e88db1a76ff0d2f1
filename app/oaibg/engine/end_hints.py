"""The hints of the last lines: where the answer is, and what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from oaibg.api.answer import APPROVAL
from oaibg.api.payload import TERMINAL
from oaibg.contract.advice import ASK_FIRST, ASK_FOR_NETWORK, FIX_AND_RERUN
from oaibg.contract.errors import ExitCode

if TYPE_CHECKING:
    from oaibg.api.answer import Call
    from oaibg.api.payload import Payload
    from oaibg.contract.errors import OaibgError, Outcome
    from oaibg.engine.job import Job
    from oaibg.engine.run_options import Output

_MAY_PASS = frozenset({"server_error", "rate_limit_exceeded", "vector_store_timeout"})
"""Codes of failed jobs for which the same request may succeed later."""

_IMAGES = (".png", ".jpg", ".webp", ".gif", ".bin")
"""How the names of saved images end."""

_SEND = {
    frozenset({False}): "Send the results",
    frozenset({True}): "Then send the decision",
    frozenset({False, True}): "Then send the results and the decision",
}
"""What to do, by which of the calls are approval requests."""

_NAMED = 3
"""Maximum number of tools that the request for a decision names."""

_CLOSING = {ExitCode.AUTH: "Then", ExitCode.UNAVAILABLE: "After a minute,"}

_BY_CODE = {
    ExitCode.ERROR: "Don't repeat the command unchanged: first change what the message names.",
    ExitCode.USAGE: FIX_AND_RERUN,
}
"""The hints of errors that have none of their own."""

SAVE_AGAIN = "Fix the cause, and run `next`: it submits no job twice."
LOST = "A new job is billed again."


def after_end(
    code: ExitCode, payload: Payload, job: Job, output: Output, command: list[str] | None
) -> str:
    """Return the hint for a job that has completed; `command` is `next`."""
    match code:
        case ExitCode.OK:
            return f"{_place(payload, job, output)}{_unkept(job)}"
        case ExitCode.LOCAL_IO:
            return f"{job.problem} {LOST if command is None else SAVE_AGAIN}"
        case _:
            return _action(payload, job)


def after_dry_run(jobs: int = 1, missing: str | None = None) -> str:
    """Return the hint for a dry run; `missing` is an option that the submit needs as well."""
    them = "it" if jobs == 1 else "them"
    more = "" if missing is None else f", and with {missing}"
    return f"Nothing was sent. To submit {them}, run the same command without --dry-run{more}."


def after_failure(payload: Payload, job: Job, output: Output, *, attempts: int) -> str:
    """Return the hint for a job that ended without success, as the last of so many attempts."""
    if job.is_batch:
        return f"Not all of its jobs succeeded. {_fetching(job)}"
    partial = ""
    if payload.text and output.output_text_file in job.files:
        partial = f"The partial answer is in {output.output_text_file}. "
    elif payload.text:
        partial = f"{_printing(job, 'partial answer')} "
    again = submit_again(job.job_key, "--retry-failed")
    asked = f"Only if the user asks for another attempt, {again}; each attempt is billed."
    if payload.status == "cancelled":
        return f"{partial}The job was cancelled. {asked}"
    if attempts > 1:
        ended = f"All {attempts} attempts ended without success: report this to the user."
        return f"{partial}{ended} {asked}"
    overwrites = "; a new answer replaces the file" if partial.startswith("The partial") else ""
    return (
        f"{partial}{_advice(payload)}To submit the request again, {again}; you pay again"
        f"{overwrites}."
    )


def to_wait(job: Job, command: list[str] | None) -> str:
    """Return the hint for a job that keeps running; `command` is `next`."""
    begin = job.problem or "The job keeps running at the API."
    return f"{begin} {to_continue(command, 'wait for it')}{_unkept(job)}"


def _unkept(job: Job) -> str:
    """Return what to do if the local state does not know the job; empty if it does."""
    return "" if job.is_kept else " The local state can't be written, so keep the response ID."


def to_continue(command: list[str] | None, what: str) -> str:
    """Return the words for running `next`."""
    if command is None:
        return f"Run the same command again to {what}."
    limit = "" if "--max-wait-seconds" in command else "; add --max-wait-seconds to limit the wait"
    return f"Run `next` to {what}{limit}."


def after_cancel(code: ExitCode, job: Job) -> str:
    """Return the hint for a job after a cancel."""
    match code:
        case ExitCode.OK:
            return "The job is cancelled."
        case ExitCode.UNSUCCESSFUL if job.status == "completed":
            return f"It had already completed. {_fetching(job) if job.is_batch else _printing(job)}"
        case ExitCode.UNSUCCESSFUL:
            return f"It had already ended ({job.status})."
        case ExitCode.ERROR:
            return f"{job.problem} Run `next` to wait for its end."
        case _:
            return (
                "The API has not confirmed the cancel. Run the same command again, or `next` to "
                "wait for the job's end."
            )


def after_signal(
    job: Job, outcome: Outcome | None, command: list[str] | None, *, cancelled: bool
) -> str:
    """Return the hint for a job whose run was ended by a signal; `command` is `next`."""
    if outcome == "unknown":
        return f"The job may be running and may be billed. {_ask(job)}"
    if cancelled:
        return "The job is cancelled."
    if job.response_id is None:
        return to_continue(command, "continue")
    if job.status in TERMINAL:
        return f"The job has ended ({job.status}). {to_continue(command, 'get its result')}"
    return to_wait(job, command)


def after_cut_short(running: int, lost: int, command: list[str] | None) -> str:
    """Return the hint for a run that a second signal ended; `command` is `next`.

    `running` is the number of jobs that keep running, and `lost` the number of requests that were
    sent and had no reply yet.
    """
    parts = []
    if running:
        parts.append("1 job keeps running." if running == 1 else f"{running:,} jobs keep running.")
    if lost:
        those = "1 request" if lost == 1 else f"{lost:,} requests"
        parts.append(f"{those} had no reply yet: the API may have created the job, and bill it.")
    return " ".join([*parts, to_continue(command, "continue")])


def after_error(
    error: OaibgError, outcome: Outcome | None, job: Job, command: list[str] | None
) -> str | None:
    """Return the hint of an error: its own, and what to do about the job."""
    own = " ".join(filter(None, (job.problem, error.hint)))
    if error.exit_code == ExitCode.OUTCOME_UNKNOWN or outcome == "unknown":
        return f"{own} {_ask(job)}".lstrip()
    if job.custom_id is not None:
        return own or None  # the summary says what to do about the run
    if (begin := _CLOSING.get(error.exit_code)) is not None:
        begin = "Then" if ASK_FOR_NETWORK in own else begin
        what = "run the same command again" if command is None else "run `next`"
        return f"{own} {begin} {what}.".lstrip()
    return own or _BY_CODE.get(error.exit_code)


def submit_again(job_key: str | None, option: str) -> str:
    """Return the words for another submit, which needs the option if there is a job key."""
    if job_key is None:
        return "repeat the submit command"
    if job_key.startswith("/"):  # the path of a jobs file, which is the run's default key
        return f"repeat the submit command, and add {option}"
    return f"repeat the submit command with --job-key {shlex.quote(job_key)}, and add {option}"


def _ask(job: Job) -> str:
    """Return what to do about a submit whose outcome is unknown."""
    again = submit_again(job.job_key, "--resubmit-unknown")
    return f"{ASK_FIRST} To submit again, {again}."


def _place(payload: Payload, job: Job, output: Output) -> str:
    """Return where the answer is."""
    if output.output_text_file in job.files:
        return f"The answer is in {output.output_text_file}."
    if payload.text:
        return _printing(job)
    if job.is_batch:
        return _fetching(job)
    return _saving(payload, job) or _showing(job)


def _advice(payload: Payload) -> str:
    code = (payload.object("error") or {}).get("code")
    reason = (payload.object("incomplete_details") or {}).get("reason")
    match payload.status:
        case "failed" if code in _MAY_PASS:
            return "The error may be temporary: try once more. "
        case "failed":
            return "The same request may fail again: report the error. "
        case "incomplete" if reason == "max_output_tokens":
            if payload.data.get("max_output_tokens") is None:
                return "The answer reached the model's limit: ask for a shorter one. "
            return "The answer was cut off: raise --max-output-tokens. "
        case "incomplete":
            return "Report why the answer is incomplete. "
        case status:
            return f"The job ended with the status `{status}`. "


def _action(payload: Payload, job: Job) -> str:
    """Return what to do about a completed job without the requested answer."""
    if calls := payload.answer.calls:
        what = _SEND[frozenset(call.type == APPROVAL for call in calls)]
        argv = ["oaibg", "submit", "--continue", str(job.response_id)]
        argv += ["--job-key", "KEY", "--input-json-file", "PATH"]
        how = f"{what} under a new key, with the same tools: {shlex.join(argv)}"
        return f"{_asking(calls)}{how}"
    if payload.answer.refusal is not None:
        begin = "Report the refusal: the same request would probably be refused again."
        return f"{begin} {_change(job)}"
    return _saving(payload, job) or f"There is no text: report that. {_change(job)}"


def _asking(calls: list[Call]) -> str:
    """Return the question that the user has to answer about approval requests; empty without."""
    requests = [call for call in calls if call.type == APPROVAL]
    names = [f"`{call.name}`" if call.name else "the tool" for call in requests]
    if not names:
        return ""
    tools = ", ".join(dict.fromkeys(names[:_NAMED]))
    more = " and other tools" if len(names) > _NAMED else ""
    return f"Ask the user whether {tools}{more} may run. "


def _saving(payload: Payload, job: Job) -> str | None:
    """Return how to get the images and files of a job; None if it has none."""
    if "image_generation_call" not in payload.answer.types:
        return None
    if any(path.endswith(_IMAGES) for path in job.files):
        return "Its images and files were saved. There is no text, so nothing is left to do."
    argv = ["oaibg", "show", str(job.response_id), "--artifacts-dir", "DIR"]
    return f"To save its images and files: {shlex.join(argv)}"


def _showing(job: Job) -> str:
    return f"There is no text. To print the whole response, run `oaibg show {job.response_id}`."


def _change(job: Job) -> str:
    key = "" if job.job_key is None else " under a new --job-key"
    return f"Only if the user asks, submit a changed request{key}."


def _fetching(batch: Job) -> str:
    command = f"oaibg monitor {batch.response_id} --results-file PATH"
    return f"To save its results and the reasons of failures, run `{command}`."


def _printing(job: Job, what: str = "answer") -> str:
    return f"To print the {what}, run `oaibg show {job.response_id} --output-text`."
