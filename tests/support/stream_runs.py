"""Runs with `--stream-text`: their options, and what they reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness import response
from oaibg.sandbox import Fault
from oaibg.sandbox.job.events import timeline

if TYPE_CHECKING:
    from harness import Result
    from oaibg.sandbox import LoggedRequest, Sandbox

TEXT = "A text that arrives piece by piece, from its first word to the last one: \u00e9\U0001f600."
FAST = ("--poll-seconds", "0.1")
LONG = ("--metadata", "sandbox_seconds=600")
STREAM_TEXT = ("submit", "--prompt", "x", "--stream-text", "--metadata", f"sandbox_text={TEXT}")
"""Submits a job that takes 60 ms, the sandbox's default."""


def streamed_text(*results: Result) -> str:
    """The deltas of several runs, joined."""
    lines = [line for result in results for line in result.lines]
    return "".join(line["delta"] for line in lines if line["event"] == "output_text_delta")


def progress(*results: Result) -> list[tuple[str, str | None, int]]:
    """The `progress` events of several runs: type, item type and sequence_number."""
    return [
        (line["type"], line["item_type"], line["sequence_number"])
        for result in results
        for line in result.lines
        if line["event"] == "progress"
    ]


def warning_codes(result: Result) -> list[str]:
    """The codes of a run's warnings."""
    return [line["code"] for line in result.lines if line["event"] == "warning"]


def stream_requests(sandbox: Sandbox) -> list[LoggedRequest]:
    """The requests for the stream of an existing job."""
    return [one for one in list(sandbox.requests) if one.query.get("stream") == "true"]


def retrieves(sandbox: Sandbox) -> list[LoggedRequest]:
    """The retrieves without a stream."""
    gets = [one for one in list(sandbox.requests) if one.method == "GET"]
    return [one for one in gets if "stream" not in one.query]


def stream_events(sandbox: Sandbox) -> list[dict[str, Any]]:
    """All stream events of the sandbox's only job."""
    (job,) = sandbox.jobs.values()
    return [event for _, event in timeline(job)]


def assert_whole(sandbox: Sandbox, *results: Result) -> None:
    """Assert that the runs together reported every event of the only job exactly once."""
    assert streamed_text(*results) == TEXT
    kinds = ("response.queued", "response.in_progress", "response.output_item", "response.web_")
    wanted = [
        (event["type"], event["sequence_number"])
        for event in stream_events(sandbox)
        if event["type"].startswith(kinds)
    ]
    assert [(kind, number) for kind, _, number in progress(*results)] == wanted
    assert results[-1].last["status"] == "completed"


def sse_fault(body: str, kind: str = "raw", **more: Any) -> Fault:
    """A fault that replies to a stream request with this event stream."""
    headers = {"content-type": "text/event-stream"}
    return Fault(on="stream", kind=kind, body=body, headers=headers, **more)


def steps(result: Result) -> list[tuple[str, str | None, str | None]]:
    """The `progress` events of a run: type without `response.`, item type and text."""
    return [
        (line["type"].removeprefix("response."), line["item_type"], line["text"])
        for line in result.lines
        if line["event"] == "progress"
    ]


def sse(*events: dict[str, Any], first: int = 0) -> str:
    """These events as an event stream, numbered from `first` on."""
    numbered = ({"sequence_number": number, **event} for number, event in enumerate(events, first))
    return "".join(f"data: {json.dumps(event)}\n\n" for event in numbered)


def event(kind: str, index: int | None = 0, **more: Any) -> dict[str, Any]:
    """A stream event; with an `index`, it is about that output item."""
    place = {} if index is None else {"output_index": index, "item_id": f"item_{index}"}
    return {"type": f"response.{kind}", **place, **more}


def item_done(index: int, kind: str, **more: Any) -> dict[str, Any]:
    """The event that brings a finished output item."""
    item = {"id": f"item_{index}", "type": kind, "status": "completed", **more}
    return event("output_item.done", index, item=item)


def message(text: str, index: int = 0) -> dict[str, Any]:
    """The event that brings a finished message."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return item_done(index, "message", role="assistant", content=[part])


def delta(text: str, index: int | None = 0, **more: Any) -> dict[str, Any]:
    """The event that brings a piece of text."""
    return event("output_text.delta", index, content_index=0, delta=text, **more)


def text_done(text: str, index: int | None = 0, **more: Any) -> dict[str, Any]:
    """The event that brings the whole text of a part."""
    return event("output_text.done", index, content_index=0, text=text, **more)


def created() -> dict[str, Any]:
    """The event that brings the response ID."""
    return event("created", None, response=response("queued", output=[]))


def completed(status: str = "completed", **more: Any) -> dict[str, Any]:
    """The event that ends a job; `more` are the keys of its response."""
    return event(status, None, response=response(status, **more))


def script_stream(
    sandbox: Sandbox, *events: dict[str, Any], retrieved: dict[str, Any] | None = None
) -> None:
    """Make the sandbox reply to a streamed create with these events, after the one with the ID.

    All retrieves get `retrieved`.
    """
    headers = {"content-type": "text/event-stream"}
    body = sse(created(), *events)
    sandbox.script(Fault(on="create", kind="raw", body=body, headers=headers))
    if retrieved is not None:
        sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(retrieved), times=0))
