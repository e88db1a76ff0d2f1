"""Faults of a job's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fault_runs import FAST, LONG
from ledger import audit
from oaibg.sandbox import Fault, Personality

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

TEXT = "ok, all of it"
STREAMED = ("submit", "--prompt", "x", "--stream-text", "--metadata", f"sandbox_text={TEXT}")


def assert_streamed(result: Result, *warnings: str) -> None:
    """Check that a run emitted the whole text and each sequence number once, and the warnings."""
    lines = result.lines
    assert (result.code, result.last["output_text_bytes"]) == (0, len(TEXT))
    assert [line["code"] for line in lines if line["event"] == "warning"] == list(warnings)
    assert "".join(line.get("delta", "") for line in lines) == TEXT
    numbers = [line["sequence_number"] for line in lines if "sequence_number" in line]
    assert numbers == sorted(set(numbers))


@pytest.mark.row("Stream: cut, reset or truncated")
@pytest.mark.parametrize(
    "faults",
    [
        [Fault(on="create", kind="cut", after=2)],
        [Fault(on="stream", kind="cut", after=1, times=9)],
        [Fault(on="create", kind="cut", after=4), Fault(on="stream", kind="reset_before")],
        [Fault(on="create", kind="truncate", after=4000)],
    ],
    ids=lambda faults: faults[-1].kind,
)
def test_broken_stream(run: Callable[..., Result], sandbox: Sandbox, faults: list[Fault]) -> None:
    """A broken stream resumes after its last event."""
    sandbox.script(*faults)
    result = run(*STREAMED, "--metadata", "sandbox_seconds=0.3")
    assert_streamed(result)
    assert len(sandbox.posts) == 1


@pytest.mark.row("Stream: connections without events")
@pytest.mark.parametrize("kind", ["cut", "reset_before", "html"])
def test_fruitless_streams(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, kind: str
) -> None:
    """After three connections without an event, the monitor only polls."""
    identifier = run(*STREAMED, "--detach", *LONG).id
    sandbox.script(Fault(on="stream", kind=kind, times=0))
    waits = ("--max-wait-seconds", "60", "--poll-seconds", "9")
    result = run("monitor", identifier, "--stream", *waits)
    streams = ["stream" in one.query for one in sandbox.requests if one.method == "GET"]
    assert (result.code, streams[:7]) == (3, [False, True, False, True, False, True, False])
    assert (sum(streams), result.events.count("warning")) == (3, 1)
    assert result.events.count("poll") > 5


@pytest.mark.slow
@pytest.mark.row("Stream: silent for a while, or until the job ends")
@pytest.mark.parametrize(("silence", "seconds"), [(0.5, 2), (None, 0.8)])
def test_silent_stream(
    run: Callable[..., Result], sandbox: Sandbox, silence: float | None, seconds: float
) -> None:
    """The job is polled while its stream is silent."""
    sandbox.script(Fault(on="create", kind="silent", after=4, seconds=silence))
    duration = ("--metadata", f"sandbox_seconds={seconds}")
    result = run(*STREAMED, "--poll-seconds", "0.2", *duration)
    assert result.events.count("poll") >= 2
    if silence is not None:
        assert_streamed(result)
    lost = [line.get("code") for line in result.lines if line["event"] == "warning"]
    assert lost == ([] if silence else ["stream_lost"])
    assert (result.code, result.last["output_text_bytes"]) == (0, len(TEXT))


@pytest.mark.row("Stream: the server ignores `stream` and returns plain JSON")
@pytest.mark.parametrize("on", ["create", "stream"])
def test_ignored_stream(run: Callable[..., Result], sandbox: Sandbox, on: str) -> None:
    """A server that ignores `stream` is polled."""
    if on == "stream":
        sandbox.script(Fault(on="create", kind="cut", after=2))
    sandbox.script(Fault(on="stream", kind="plain", times=0))
    result = run(*STREAMED, *FAST)
    assert (result.code, len(sandbox.posts), len(sandbox.jobs)) == (0, 1, 1)
    assert [line.get("code") for line in result.lines if line["event"] == "warning"] == [
        "stream_unavailable"
    ]
    polls = [line["attempt"] for line in result.lines if line["event"] == "poll"]
    assert polls == list(range(1, len(polls) + 1))
    assert 0 < len(polls) < len(sandbox.requests)


@pytest.mark.row("Stream: refused on create or later")
@pytest.mark.parametrize("on", ["create", "stream"])
def test_refused_stream(run: Callable[..., Result], sandbox: Sandbox, state: Path, on: str) -> None:
    """A server that refuses `stream` gets the same job without it."""
    if on == "stream":
        sandbox.script(Fault(on="create", kind="cut", after=2))
    refusal = {"error": {"message": "Unsupported.", "param": "stream"}}
    sandbox.script(Fault(on="stream", kind="status", status=400, body=refusal, times=0))
    result = run(*STREAMED, "--job-key", "k", *FAST)
    assert (result.code, len(sandbox.jobs), result.events.count("warning")) == (0, 1, 1)
    assert [post.status for post in sandbox.posts] == ([400, 200] if on == "create" else [200])
    audit(sandbox, state)


@pytest.mark.row("Stream: events repeated or missing")
def test_gaps(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Missing stream events are requested again, or the whole result is retrieved."""
    sandbox.script(Fault(on="create", kind="gap", after=5))
    assert_streamed(run(*STREAMED))
    sandbox.become(Personality(stream="gaps"))
    sandbox.script(Fault(on="create", kind="cut", after=4))
    assert_streamed(run(*STREAMED), "stream_gap")
    assert "stream" not in sandbox.requests[-1].query


@pytest.mark.row("Stream: malformed events, `error`, `keepalive` or unknown events")
@pytest.mark.parametrize("kind", ["error_event", "keepalive", "raw"])
def test_odd_events(run: Callable[..., Result], sandbox: Sandbox, kind: str) -> None:
    """Malformed and unknown stream events are skipped."""
    sandbox.script(Fault(on="create", kind="cut", after=2))
    body = 'data: {\n\ndata: []\n\nevent: new\ndata: {"type":"new","sequence_number":7}\n\n'
    headers = {"content-type": "text/event-stream"} if kind == "raw" else {}
    sandbox.script(Fault(on="stream", kind=kind, body=body, headers=headers, after=3))
    result = run(*STREAMED, "--metadata", "sandbox_seconds=0.3")
    assert_streamed(result)
    assert result.events.count("poll") == (kind == "error_event")


@pytest.mark.row("Stream: the create's stream fails before its first event")
@pytest.mark.parametrize("kind", ["reset_after", "cut", "error_event", "html"])
def test_stream_without_an_id(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, kind: str
) -> None:
    """A create whose stream fails before its first event has an unknown outcome."""
    sandbox.script(Fault(on="create", kind=kind))
    for _ in range(2):
        result = run(*STREAMED, "--job-key", "k")
        assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert len(sandbox.posts) == 1
    audit(sandbox, state)
