"""Runs with `--stream-text`: their options, and what they reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
