"""The events: the keys of each line on stdout. Imports only the standard library.

A new event is one class here. While `V` is 1, keys are only added: none is renamed, retyped or
removed. Durations are in seconds. Each line of an event has all of its keys; unknown values are
null. The docstrings of the classes describe the events in the JSON Schema and in the guide.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from oaibg.base.record import Record

V = 1

EVENTS: dict[str, type[Event]] = {}


class Event(Record):
    """One line on stdout. Its writer adds `ts` and `v`."""

    event: ClassVar[str]
    by: ClassVar[str]
    """The commands or options that emit the event, in Markdown."""
    of: ClassVar[str | None] = None
    """The job's `custom_id`, which is a common key in a run over several jobs."""
    response_id: str | None

    def __init_subclass__(cls, *, name: str, by: str) -> None:
        super().__init_subclass__()
        cls.event, cls.by = name, by
        EVENTS[name] = cls

    def of_many(self, custom_id: str | None) -> Self:
        """Return the event of one job in a run over several: with its name, without exit code."""
        event = self.but() if exit_code_of(self) is None else self.but(exit_code=None)
        event.__dict__["of"] = custom_id
        return event

    def to_dict(self, ts: str, *, several: bool = False) -> dict[str, Any]:
        """Return the line's object, written at `ts`: common keys first, then the event's own."""
        common = {"ts": ts, "v": V, "event": self.event, "response_id": self.response_id}
        if several:
            common["custom_id"] = self.of
        return common | self.values()


class CallError(Record):
    """The `error` inside `submit_error` and `poll_error`."""

    code: str
    message: str
    http_status: int | None
    request_id: str | None


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
    """The job reached another status, output item or step of a tool call.

    `type` is the type of the API's stream event.
    """

    type: str
    item_type: str | None
    sequence_number: int | None


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
    """The text was requested, and the response has none."""

    status: str | None


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
    """An image or a file that the job made was saved, or is there already.

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
    """The job reached a terminal status. No other event reports this."""

    status: str
    ok: bool
    elapsed_seconds: float
    model: str | None
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    output_text_bytes: int
    exit_code: int | None
    next: list[str] | None


class Timeout(Event, name="timeout", by="submit, monitor"):
    """The wait limit was reached. The job keeps running."""

    status: str | None
    elapsed_seconds: float
    exit_code: Literal[3] | None
    next: list[str] | None


class Interrupted(Event, name="interrupted", by="any command"):
    """A signal ended the wait. The job keeps running unless `job_cancelled` is true."""

    signal: str
    status: str | None
    job_cancelled: bool
    outcome: Literal["not_created", "unknown", "created"] | None
    exit_code: int | None
    next: list[str] | None


class Error(Event, name="error", by="any command"):
    """An error ended the process.

    `outcome` says what a submit created: `not_created`, `unknown` or `created`.
    """

    code: str
    message: str
    http_status: int | None
    request_id: str | None
    retryable: bool
    outcome: Literal["not_created", "unknown", "created"] | None
    hint: str | None
    exit_code: int | None
    next: list[str] | None


class Detached(Event, name="detached", by="`submit --detach`"):
    """The job was submitted and keeps running."""

    status: str | None
    exit_code: Literal[0] | None
    next: list[str] | None


class CancelResult(Event, name="cancel_result", by="cancel"):
    """The job's status after the cancel request."""

    status: str | None
    cancelled: bool
    exit_code: int | None
    next: list[str] | None


class Response(Event, name="response", by="show"):
    """The response object, from the API or the local copy.

    `response` is null with `--output-text`, and if a file is written.
    """

    status: str | None
    source: Literal["api", "local"]
    response: dict[str, Any] | None
    exit_code: int | None
    next: list[str] | None


class ListedJob(Event, name="job", by="`show --list`"):
    """A job in the local state, submitted to any base URL.

    Its status is `outcome_unknown` if the reply to its request was lost.
    """

    custom_id: str | None
    job_key: str | None
    model: str | None
    status: str | None
    created_at: str
    updated_at: str
    base_url: str


class Summary(Event, name="summary", by="several jobs, `show --list`"):
    """The end of a run over several jobs. `counts` has the number of jobs per status."""

    counts: dict[str, int]
    elapsed_seconds: float
    exit_code: int
    next: list[str] | None


class AttachedFile(Record):
    """A file in the request of a dry run: its part's `type`, and the file's size in bytes."""

    path: str
    type: str
    bytes: int


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
    exit_code: Literal[0] | None


def exit_code_of(event: Event) -> int | None:
    """Return the exit code that the event ends the process with; None if it continues."""
    return getattr(event, "exit_code", None)
