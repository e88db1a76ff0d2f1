"""The events of the contract: the keys of each line on stdout. Standard library only.

A new event is one class here. Keys are added, never renamed, retyped or removed while `V` is 1.
Times are seconds. Every key of an event is on each of its lines, and null if it is unknown. The
JSON Schema takes its descriptions from the docstrings of the classes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from oaibg.base.record import Record

V = 1

EVENTS: dict[str, type[Event]] = {}


class Event(Record):
    """One line on stdout. Its writer adds `ts` and `v`."""

    event: ClassVar[str]
    of: ClassVar[str | None] = None
    """The job's name in a run over several jobs, in which `custom_id` is a common key."""
    response_id: str | None

    def __init_subclass__(cls, *, name: str) -> None:
        super().__init_subclass__()
        cls.event = name
        EVENTS[name] = cls

    def of_many(self, custom_id: str | None) -> Self:
        """The event as one of a run over several jobs: with the job's name, and no exit code."""
        event = self.but() if exit_code_of(self) is None else self.but(exit_code=None)
        event.__dict__["of"] = custom_id
        return event

    def to_dict(self, ts: str, *, several: bool = False) -> dict[str, Any]:
        """The line's object, written at `ts`: the common keys first, then the event's own."""
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


class SubmitStart(Event, name="submit_start"):
    """A submit was understood; nothing is sent yet."""

    model: str | None
    reasoning_effort: str | None
    verbosity: str | None
    poll_seconds: float
    job_key: str | None
    request_sha256: str


class SubmitError(Event, name="submit_error"):
    """A try that certainly created nothing, and will be made again."""

    attempt: int
    elapsed_seconds: float
    error: CallError
    retry_in_seconds: float


class Submitted(Event, name="submitted"):
    """The API gave an id, and it is in the local state."""

    status: str | None
    request_id: str | None
    reattached: bool


class Poll(Event, name="poll"):
    """The job's state was read."""

    attempt: int
    status: str | None
    elapsed_seconds: float
    next_poll_seconds: float | None


class PollError(Event, name="poll_error"):
    """The job's state could not be read this time; the job goes on, and so does the monitor."""

    attempt: int
    elapsed_seconds: float
    consecutive: int
    error: CallError
    retry_in_seconds: float


class Progress(Event, name="progress"):
    """An event of the job's stream: it has come to another state, item or tool call."""

    type: str
    item_type: str | None
    sequence_number: int | None


class OutputTextDelta(Event, name="output_text_delta"):
    """More of the answer's text; `sequence_number` is that of the last delta in it."""

    delta: str
    sequence_number: int | None


class OutputText(Event, name="output_text"):
    """The answer's text."""

    text: str
    bytes: int


class OutputTextMissing(Event, name="output_text_missing"):
    """The text was asked for, and the response has none."""

    status: str | None


class WroteJson(Event, name="wrote_json"):
    """The API's object was saved."""

    path: str
    bytes: int
    sha256: str


class WroteText(Event, name="wrote_text"):
    """The answer's text was saved."""

    path: str
    bytes: int
    sha256: str


class Warning(Event, name="warning"):  # noqa: A001 - the contract's name; the built-in is not used here
    """Something to know that does not end the run."""

    code: str
    message: str


class Final(Event, name="final"):
    """The job reached a terminal status."""

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


class Timeout(Event, name="timeout"):
    """The wait budget is spent; the job goes on."""

    status: str | None
    elapsed_seconds: float
    exit_code: Literal[3] | None
    next: list[str] | None


class Interrupted(Event, name="interrupted"):
    """A signal ended the wait; the job goes on unless `job_cancelled`."""

    signal: str
    status: str | None
    job_cancelled: bool
    outcome: Literal["not_created", "unknown", "created"] | None
    exit_code: int | None
    next: list[str] | None


class Error(Event, name="error"):
    """The run ended with an error."""

    code: str
    message: str
    http_status: int | None
    request_id: str | None
    retryable: bool
    outcome: Literal["not_created", "unknown", "created"] | None
    hint: str | None
    exit_code: int | None
    next: list[str] | None


class Detached(Event, name="detached"):
    """The job was submitted, and is left to run."""

    status: str | None
    exit_code: Literal[0] | None
    next: list[str] | None


class CancelResult(Event, name="cancel_result"):
    """What became of a cancel."""

    status: str | None
    cancelled: bool
    exit_code: int | None
    next: list[str] | None


class Response(Event, name="response"):
    """One look at a response; `response` is the API's object as it came."""

    status: str | None
    source: Literal["api", "local"]
    response: dict[str, Any] | None
    exit_code: int | None
    next: list[str] | None


class ListedJob(Event, name="job"):
    """A job in the local state."""

    custom_id: str | None
    job_key: str | None
    model: str | None
    status: str | None
    created_at: str
    updated_at: str
    base_url: str


class Summary(Event, name="summary"):
    """The end of a run over several jobs."""

    counts: dict[str, int]
    elapsed_seconds: float
    exit_code: int
    next: list[str] | None


class AttachedFile(Record):
    """A file in the request of a dry run: `type` is that of its part, `bytes` the file's size."""

    path: str
    type: str
    bytes: int


class DryRun(Event, name="dry_run"):
    """The request that a submit would send; `body_bytes` is how long its body would be."""

    method: Literal["POST"]
    url: str
    body: dict[str, Any]
    body_bytes: int
    attachments: list[AttachedFile]
    request_sha256: str
    exit_code: Literal[0] | None


def exit_code_of(event: Event) -> int | None:
    """The exit code that the event ends the run with, or None if the run continues."""
    return getattr(event, "exit_code", None)
