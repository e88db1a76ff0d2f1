"""The events: the keys of each line on stdout. Imports only the standard library.

A new event is one class here. While `V` is 1, keys are only added: none is renamed, retyped or
removed. Durations are in seconds. Each line of an event has all of its keys; unknown values are
null. The docstrings of the classes describe the events in the JSON Schema and in the guide.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from oaibg.contract.event import EVENTS, AttachedFile, Call, CallError, Event, V, exit_code_of


class SubmitStart(Event, name="submit_start", by="submit"):
    """The options and input files are valid. Nothing is sent yet."""

    model: str | None
    reasoning_effort: str | None
    verbosity: str | None
    poll_seconds: float
    job_key: str | None
    request_sha256: str


class SubmitError(Event, name="submit_error", by="submit"):
    """An attempt failed and certainly created nothing. Another attempt follows."""

    attempt: int
    elapsed_seconds: float
    error: CallError
    retry_in_seconds: float


class Submitted(Event, name="submitted", by="submit"):
    """The job has a response ID, and the local state has stored it.

    `reattached` is true if an earlier run with the same job key submitted the job.
    """

    status: str | None
    request_id: str | None
    reattached: bool


class Poll(Event, name="poll", by="submit, monitor"):
    """The job's status was retrieved."""

    attempt: int
    status: str | None
    elapsed_seconds: float
    next_poll_seconds: float | None


class PollError(Event, name="poll_error", by="submit, monitor"):
    """The job's status could not be retrieved. The job keeps running, and polling continues."""

    attempt: int
    elapsed_seconds: float
    consecutive: int
    error: CallError
    retry_in_seconds: float


class Progress(Event, name="progress", by="`--stream`"):
    """The job reached another status, output item or step.

    `type` is the type of the API's stream event. `text` has at most 2,000 characters of what the
    step is about: a reasoning summary, a search's query, the name of a tool, commentary before the
    answer, or a refusal.
    """

    type: str
    item_type: str | None
    sequence_number: int | None
    text: str | None


class OutputTextDelta(Event, name="output_text_delta", by="`--stream-text`"):
    """The next part of the answer's text, emitted at most about three times a second.

    `sequence_number` is that of the last stream event in this part.
    """

    delta: str
    sequence_number: int | None


class OutputText(Event, name="output_text", by="`--show-output-text`"):
    """The answer's text."""

    text: str
    bytes: int


class OutputTextMissing(
    Event, name="output_text_missing", by="`--show-output-text`, `--output-text-file`"
):
    """The text was requested, and the response has none.

    `path` is the text file, which was not written.
    """

    status: str | None
    reason: Literal["tool_calls", "refusal", "not_text", "empty"]
    path: str | None


class WroteJson(Event, name="wrote_json", by="`--output-json-file`"):
    """The API's response object was saved, byte for byte."""

    path: str
    bytes: int
    sha256: str


class WroteText(Event, name="wrote_text", by="`--output-text-file`"):
    """The answer's text was saved, or the partial text of an `incomplete` job."""

    path: str
    bytes: int
    sha256: str


class WroteArtifact(Event, name="wrote_artifact", by="`--artifacts-dir`"):
    """An image or a file that the job made was saved, or was already there.

    `source` is the ID of the output item that contains the image or cites the file.
    """

    path: str
    bytes: int
    sha256: str
    source: str | None


class Warning(Event, name="warning", by="any command"):  # noqa: A001 - the event's name; the built-in is not used here
    """Something went wrong, but the process continues."""

    code: str
    message: str


class Final(Event, name="final", by="submit, monitor"):
    """The job reached a terminal status. No other event reports this.

    `ok` is true if the job completed with an answer. `output_types` has the number of output items
    by type, `calls` has the items that wait for tool results or an approval, and `job_seconds` is
    the time from the job's creation to its completion, as the API reports it. `cost_usd` is an
    estimate; it is null without the extra `cost`, and if the model's price is unknown. `files` has
    the paths of the files that were written.
    """

    status: str
    ok: bool
    elapsed_seconds: float
    model: str | None
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    output_text_bytes: int
    output_types: dict[str, int]
    refusal: str | None
    calls: list[Call]
    service_tier: str | None
    job_seconds: float | None
    cost_usd: float | None
    files: list[str] = []  # noqa: RUF012 - records are frozen
    job_key: str | None = None
    hint: str | None = None
    exit_code: int | None
    next: list[str] | None


class Timeout(Event, name="timeout", by="submit, monitor"):
    """The wait limit was reached. The job keeps running."""

    status: str | None
    elapsed_seconds: float
    job_key: str | None = None
    hint: str | None = None
    exit_code: Literal[3] | None
    next: list[str] | None


class Interrupted(Event, name="interrupted", by="any command"):
    """A signal ended the wait. The job keeps running unless `job_cancelled` is true."""

    signal: str
    status: str | None
    job_cancelled: bool
    outcome: Literal["not_created", "unknown", "created"] | None
    job_key: str | None = None
    hint: str | None = None
    exit_code: int | None
    next: list[str] | None


class Error(Event, name="error", by="any command"):
    """An error ended the process.

    `outcome` says what a submit created: `not_created`, `unknown` or `created`.
    """

    keeps_hint: ClassVar[bool] = True
    code: str
    message: str
    http_status: int | None
    request_id: str | None
    retryable: bool
    outcome: Literal["not_created", "unknown", "created"] | None
    job_key: str | None = None
    hint: str | None
    exit_code: int | None
    next: list[str] | None


class Detached(Event, name="detached", by="`submit --detach`"):
    """The job was submitted and keeps running."""

    status: str | None
    job_key: str | None = None
    hint: str | None = None
    exit_code: Literal[0] | None
    next: list[str] | None


class CancelResult(Event, name="cancel_result", by="cancel"):
    """The job's status after the cancel request."""

    status: str | None
    cancelled: bool
    job_key: str | None = None
    hint: str | None = None
    exit_code: int | None
    next: list[str] | None


class Response(Event, name="response", by="show"):
    """The response object, from the API or the local copy.

    `response` is null with `--output-text`, and if a file is written.
    """

    response: dict[str, Any] | None
    status: str | None
    source: Literal["api", "local"]
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    output_text_bytes: int
    output_types: dict[str, int]
    refusal: str | None
    calls: list[Call]
    job_seconds: float | None
    cost_usd: float | None
    files: list[str] = []  # noqa: RUF012 - records are frozen
    job_key: str | None = None
    hint: str | None = None
    exit_code: int | None
    next: list[str] | None


class DryRun(Event, name="dry_run", by="`submit --dry-run`"):
    """The request that a submit would send.

    `attachments` lists each file as `{path, type, bytes}`.
    """

    method: Literal["POST"]
    url: str
    body: dict[str, Any]
    body_bytes: int
    attachments: list[AttachedFile]
    request_sha256: str
    job_key: str | None = None
    hint: str | None = None
    exit_code: Literal[0] | None
    next: None


from oaibg.contract.run_events import (  # noqa: E402 - in the order of the guide
    ListedJob,
    Run,
    RunProgress,
    Summary,
    Unsuccessful,
)

__all__ = [
    "EVENTS",
    "AttachedFile",
    "Call",
    "CallError",
    "Event",
    "ListedJob",
    "Run",
    "RunProgress",
    "Summary",
    "Unsuccessful",
    "V",
    "exit_code_of",
]
