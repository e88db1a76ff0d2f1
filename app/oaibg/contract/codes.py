"""The codes of warnings, errors and failed calls, and the keys of a run's counts.

The JSON Schema lists the codes as examples, and the guide with their meanings. Codes may be added.
"""

from __future__ import annotations

from oaibg.contract.errors import ExitCode

_ENDS = ("final", "response")
_SIGNAL = ("interrupted", "summary"), "`outcome`; `job_cancelled`: whether the job was cancelled"

LAST_LINES: dict[ExitCode, tuple[tuple[str, ...], str]] = {
    ExitCode.OK: (
        (*_ENDS, "detached", "cancel_result", "dry_run", "summary"),
        "`files`: what was written; `results_file`; after `--detach` also `next`",
    ),
    ExitCode.ERROR: (
        ("error", "cancel_result", "summary"),
        "`code`, `message`; `outcome`: whether a job exists; `unsuccessful`",
    ),
    ExitCode.USAGE: (("error", "summary"), "`code`, `message`"),
    ExitCode.STILL_RUNNING: (
        ("timeout", "response", "cancel_result", "summary"),
        "`status` or `counts`; `next`",
    ),
    ExitCode.UNSUCCESSFUL: (
        (*_ENDS, "cancel_result", "summary"),
        "`status`, `error`, `incomplete_details`; `files`: a partial answer; `unsuccessful`",
    ),
    ExitCode.NOT_FOUND: (("error", "summary"), "`message`: what was looked for, and where"),
    ExitCode.OUTCOME_UNKNOWN: (("error", "summary"), "`job_key`; `unsuccessful`"),
    ExitCode.UNAVAILABLE: (
        ("error", "summary"),
        "`message`; `outcome`: whether a job exists; `unsuccessful`; `next`",
    ),
    ExitCode.AUTH: (("error", "summary"), "`message`; `unsuccessful`; `next`"),
    ExitCode.LOCAL_IO: ((*_ENDS, "summary"), "`files`: what could be written; `next`"),
    ExitCode.NEEDS_ACTION: ((*_ENDS, "summary"), "`calls`, `refusal`, `output_types`"),
    ExitCode.SIGHUP: _SIGNAL,
    ExitCode.SIGINT: _SIGNAL,
    ExitCode.SIGTERM: _SIGNAL,
    ExitCode.STDOUT_CLOSED: ((), "no last line"),
}
"""The events that can be the last line, by exit code, and what they say besides `hint`."""

WARNINGS = {
    "state_unwritable": "The local state can't be written, so the response ID is only on stdout.",
    "state_corrupt": "The database of the local state was damaged. It was renamed and replaced.",
    "state_newer": "A newer version of oaibg wrote the local state.",
    "state_busy": "Another process is writing the local state.",
    "state_empty": "The local state has no jobs to list. The message names the state's directory.",
    "write_failed": "An output file could not be written. The exit code becomes 9 instead of 0.",
    "written_in_place": "An output file can't be replaced, for example because it is mounted. Its "
    "content was overwritten.",
    "artifacts_expire": "Files of code interpreter containers expire soon; run `next` before that.",
    "text_replaced": "The answer has parts that UTF-8 can't encode. The text has U+FFFD instead.",
    "job_key_busy": "Another process has been submitting a job with this key for a while.",
    "job_key_ended": "The job with this key had already ended; its stored result follows.",
    "local_copy": "The API does not return the response, or not all of it; the result is the local "
    "copy.",
    "other_base_url": "The response ID was submitted to another base URL.",
    "unknown_status": "The API returned no status, or one that oaibg does not know. Polling "
    "continues.",
    "no_answer": "No request succeeded within the wait limit; the message says what to check.",
    "may_be_lost": "The server was down, and now reports the job as still running. If the server "
    "was restarted, the job may never end.",
    "no_background": "The server did not run the job in background mode.",
    "cancel_refused": "The server refused to cancel the job. The message is the server's.",
    "cancel_unconfirmed": "The API has not confirmed every cancel; `next` cancels the other jobs.",
    "results_missing": "The results file lacks results; the message says how to get them.",
    "results_changed": "The results file was removed, replaced or changed during the run. Lost "
    "results were written again, as far as they were available.",
    "several_runs": "The path is that of several runs' file; the newest run was chosen.",
    "run_active": "Another process is running the run, and may submit more of its jobs.",
    "strange_results": "Some lines of a batch's file can't be read, or don't belong to the run. A "
    "file with unreadable lines is saved beside the results file.",
    "file_unavailable": "A file of the batch could not be downloaded; its results are missing.",
    "files_left_out": "A pattern of `--attach` also matches files that are not attached.",
    "no_room": "The directory for temporary files has no room for the batch's results.",
    "cost_limit": "The run stopped submitting jobs, because another job could exceed "
    "`--max-cost-usd`.",
    "price_unknown": "The run stopped submitting jobs, because the cost of a job is unknown.",
    "stream_unavailable": "The server does not stream this job. It is polled instead.",
    "stream_lost": "The stream broke off or delivers nothing new. The job is polled instead.",
    "stream_error": "The job's stream reported an error that its result lacks.",
    "stream_gap": "The server left out stream events or text. The saved result is complete.",
    "output_from_stream": "The server's result lacks output that it streamed. The streamed output "
    "is used.",
}
"""The `code` of a `warning` event, and what it means."""

ERRORS = {
    "usage": (ExitCode.USAGE, "An option, its value or an input file is invalid."),
    "job_key_reused": (ExitCode.USAGE, "The job key belongs to another request, job or run."),
    "jobs_file_changed": (ExitCode.ERROR, "The jobs file changed while it was in use."),
    "cost_limit": (
        ExitCode.USAGE,
        "Another job could exceed `--max-cost-usd`, so none was submitted.",
    ),
    "price_unknown": (ExitCode.USAGE, "`--max-cost-usd` needs the price of every model."),
    "too_few_files": (ExitCode.USAGE, "The limit of open files (`ulimit -n`) is too low."),
    "state_unwritable": (ExitCode.USAGE, "The command needs a writable local state."),
    "state_corrupt": (ExitCode.USAGE, "The command needs the local state, which is damaged."),
    "state_newer": (ExitCode.USAGE, "A newer version of oaibg wrote the local state."),
    "state_busy": (ExitCode.UNAVAILABLE, "Another process is writing the local state."),
    "no_api_key": (ExitCode.AUTH, "`OPENAI_API_KEY` is not set."),
    "invalid_api_key": (ExitCode.AUTH, "The API key is invalid, or the API refused it."),
    "auth": (ExitCode.AUTH, "The API refused the request's credentials."),
    "client": (ExitCode.AUTH, "The OpenAI SDK rejected its configuration."),
    "not_found": (ExitCode.NOT_FOUND, "There is no such response and no local copy."),
    "no_retrieve": (ExitCode.ERROR, "The server can't return background jobs."),
    "outcome_unknown": (ExitCode.OUTCOME_UNKNOWN, "The API may have accepted the request."),
    "unavailable": (ExitCode.UNAVAILABLE, "The network or the API is unavailable."),
    "wait_spent": (ExitCode.UNAVAILABLE, "The wait limit was reached before a job was created."),
    "job_key_busy": (
        ExitCode.UNAVAILABLE,
        "Another process is using this job key or results file.",
    ),
    "internal": (ExitCode.ERROR, "oaibg has a bug. Please report the message."),
}
"""The `code` of an `error` event if it isn't the API's own: the exit code and the meaning."""

FAILURES = {
    "connect_error": "The connection was refused, or the DNS lookup or the TLS handshake failed.",
    "connect_timeout": "The connection could not be opened in time.",
    "certificate_error": "The server's certificate could not be verified.",
    "connection_error": "The connection broke after the request was sent.",
    "timeout": "The reply did not arrive in time.",
    "bad_reply": "The reply is not what the API sends, for example HTML or truncated JSON.",
    "reply_too_large": "The reply is larger than 1 GiB.",
    "client_error": "The SDK could not send the request.",
    "busy": "The API is too busy for this run, so the request was not sent yet.",
    "http_502": "An HTTP error whose body has no code. The number is its status.",
}
"""The `code` of a failed call if the API gave none, and what it means."""

COUNTS = {
    "completed": "The job completed. The API's other statuses are keys of their own.",
    "needs_action": "The job completed with exit 10: it waits for tool results or an approval, the "
    "model refused, or there is no text.",
    "refused": "The API refused the request.",
    "not_submitted": "The request was not sent; the same command submits it.",
    "outcome_unknown": "The API may have accepted the request.",
    "not_found": "The server has no such response, or no longer has it.",
    "unknown": "The job's status could not be retrieved.",
    "missing": "The batch has no result for the job.",
    "valid": "With `--dry-run`: the line or row is a valid request.",
}
"""The keys of `counts` in a `summary` event, and what they mean."""
