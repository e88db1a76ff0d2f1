"""`--stream` and `--stream-text` with a stream that has no faults."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness import FakeClient, FakeClock, await_line, failed, fake_context, monitor, wait_until
from oaibg.contract.events import Error
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault, Personality
from oaibg.sandbox.encoding import to_json
from stream_runs import (
    FAST,
    LONG,
    STREAM_TEXT,
    TEXT,
    assert_whole,
    progress,
    retrieves,
    sse_fault,
    stream_events,
    stream_requests,
    streamed_text,
    warning_codes,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox


def test_whole_streamed_submit(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A streamed submit sends one POST and nothing else, and reports every step and the text."""
    result = run(*STREAM_TEXT, "--metadata", "sandbox_tools=1", "--show-output-text")
    identifier = result.id
    assert result.code == 0
    assert [line["event"] for line in result.lines[:2]] == ["submit_start", "submitted"]
    assert result.lines[1]["status"] == "queued"
    call = "web_search_call"
    assert progress(result) == [
        ("response.queued", None, 1),
        ("response.in_progress", None, 2),
        ("response.output_item.added", "reasoning", 3),
        ("response.output_item.done", "reasoning", 4),
        ("response.output_item.added", call, 5),
        ("response.web_search_call.in_progress", call, 6),
        ("response.web_search_call.searching", call, 7),
        ("response.web_search_call.completed", call, 8),
        ("response.output_item.done", call, 9),
        ("response.output_item.added", "message", 10),
        ("response.output_item.done", "message", len(stream_events(sandbox)) - 2),
    ]
    assert streamed_text(result) == TEXT
    assert result.events[-2:] == ["output_text", "final"]
    assert result.lines[-2]["text"] == TEXT
    assert {line["response_id"] for line in result.lines[1:]} == {identifier}
    assert [one.method for one in sandbox.requests] == ["POST"]


def test_stream_without_text(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """With --stream and without --stream-text, no text is emitted before the end."""
    argv = [part.replace("--stream-text", "--stream") for part in STREAM_TEXT]
    result = run(*argv)
    assert set(result.events) == {"submit_start", "submitted", "progress", "final"}
    assert len(sandbox.requests) == 1


@pytest.mark.slow
def test_deltas_are_combined(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The first delta is emitted at once, later ones combined about three times a second."""
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=1.8", "--poll-seconds", "1.2")
    lines = [line for line in result.lines if line["event"] == "output_text_delta"]
    pieces = [event for event in stream_events(sandbox) if event["type"].endswith("text.delta")]
    assert lines[0]["delta"] == pieces[0]["delta"]
    assert 3 <= len(lines) <= 5 < len(pieces)
    numbers = {event["sequence_number"]: event for event in pieces}
    for line in lines:
        assert line["delta"].endswith(numbers[line["sequence_number"]]["delta"])
    times = [datetime.fromisoformat(line["ts"]).timestamp() for line in lines]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps[:-1]) >= 0.34
    assert streamed_text(result) == TEXT
    assert len(sandbox.requests) == 1, "no poll is needed while events arrive"


def test_request_has_stream(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """--stream sets `stream` in the request, but does not change the request's hash."""
    shown, plain = (
        run("submit", "--prompt", "x", "--dry-run", *options).last for options in (["--stream"], [])
    )
    assert shown["body"] == {**plain["body"], "stream": True}
    assert shown["request_sha256"] == plain["request_sha256"]
    assert run("submit", "--prompt", "x", "--stream", *FAST).code == 0
    assert sandbox.posts[0].body == shown["body"]


def test_job_key_with_and_without_stream(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A job key finds the same job with and without --stream, with one POST."""
    keyed = ("submit", "--prompt", "x", "--job-key", "k", *FAST)
    assert run(*keyed, "--detach", "--stream").code == 0
    for options in ([], ["--stream"], ["--starting-after", "3"]):
        result = run(*keyed, *options)
        assert (result.code, result.lines[1]["reattached"]) == (0, True)
    assert len(sandbox.posts) == 1


def test_saved_file_has_the_bytes_of_the_last_event(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """The saved file and the local copy have the bytes of the response in the last event."""
    out = tmp_path / "o.json"
    result = run(*STREAM_TEXT, "--output-json-file", str(out))
    assert out.read_bytes() == to_json(stream_events(sandbox)[-1]["response"])
    shown = run("show", result.id)
    assert (shown.last["source"], shown.last["response"]) == ("local", json.loads(out.read_text()))
    assert len(sandbox.requests) == 1


def test_unknown_keys_of_the_last_event(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """The saved response has the unknown keys and spellings of the one in the last event."""
    identifier = run(*STREAM_TEXT, *LONG, "--detach").id
    odd = '{ "id":"x",  "status" : "completed", "zzz": [1.0, 1e3, "\\ud83d"], "output":[ {} ] }'
    event = f'{{ "sequence_number" : 1 , "response" : {odd} , "type":"response.completed"}}'
    sandbox.script(sse_fault(f"data:{event}\r\n\r\n"))
    out = tmp_path / "o.json"
    result = run("monitor", identifier, "--stream", "--output-json-file", str(out))
    assert (result.code, result.id, out.read_text()) == (0, identifier, odd)


@pytest.mark.parametrize("outcome", ["failed", "incomplete", "cancelled", "expired"])
def test_unsuccessful_ends(run: Callable[..., Result], sandbox: Sandbox, outcome: str) -> None:
    """A streamed job that ends without success gives exit 4, without a poll."""
    result = run(*STREAM_TEXT, "--metadata", f"sandbox_outcome={outcome}")
    assert (result.code, result.last["status"]) == (4, outcome)
    assert len(sandbox.requests) == 1


def test_status_comes_from_the_stream(run: Callable[..., Result], state: Path) -> None:
    """The last line and the local state have the status that the stream reported."""
    result = run(*STREAM_TEXT, *LONG, "--max-wait-seconds", "0.4")
    assert (result.code, result.last["status"]) == (3, "queued")
    longer = ("--metadata", "sandbox_seconds=1.5", "--max-wait-seconds", "0.8")
    result = run(*STREAM_TEXT, *longer)
    assert (result.code, result.last["status"]) == (3, "in_progress")
    assert run("show", "--list", "--limit", "1").last["counts"] == {"in_progress": 1}


def test_monitor_polls_before_it_streams(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A streaming monitor polls once, and then reads the stream from its first event."""
    run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.5")
    result = run("monitor", next(iter(sandbox.jobs)), "--stream-text")
    assert (result.code, result.events[0]) == (0, "poll")
    assert_whole(sandbox, result)
    assert (len(retrieves(sandbox)), len(stream_requests(sandbox))) == (1, 1)
    assert "starting_after" not in stream_requests(sandbox)[0].query


def test_rest_of_an_ended_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If a poll finds the job ended, the rest of its stream is reported before `final`."""
    run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0")
    result = run("monitor", next(iter(sandbox.jobs)), "--stream-text", "--starting-after", "9")
    text = [event.get("delta", "") for event in stream_events(sandbox)[10:] if "delta" in event]
    assert (result.code, streamed_text(result)) == (0, "".join(text))
    assert stream_requests(sandbox)[0].query["starting_after"] == "9"
    assert warning_codes(result) == []


def test_rest_is_requested_again(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """The rest of an ended job's stream is requested again after a failure."""
    run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0")
    sandbox.script(Fault(on="stream", kind="cut"), Fault(on="stream", kind="status", status=503))
    result = run("monitor", next(iter(sandbox.jobs)), "--stream-text")
    assert (warning_codes(result), len(stream_requests(sandbox)), len(retrieves(sandbox))) == (
        [],
        3,
        1,
    )
    assert_whole(sandbox, result)


def test_human_has_the_text_once(run: Callable[..., Result]) -> None:
    """With --human, progress goes to stderr, and stdout has only the answer."""
    result = run(*STREAM_TEXT, "--human")
    assert result.out.decode() == f"{TEXT}\n"
    steps = ["queued", "in progress", "thinking", "writing the answer"]
    assert [line for line in result.err.splitlines() if line in steps] == steps


@pytest.mark.parametrize(
    "argv",
    [
        ("submit", "--prompt", "x", "--stream", "--completion-window", "2h"),
        ("submit", "--prompt", "x", "--starting-after", "-1"),
        ("monitor", "resp_1", "--starting-after", "x"),
        ("monitor", "resp_1", "--starting-after", "-1"),
    ],
)
def test_invalid_stream_options(
    run: Callable[..., Result], sandbox: Sandbox, argv: tuple[str, ...]
) -> None:
    """Invalid streaming options end with exit 2, and nothing is sent."""
    result = run(*argv)
    assert (result.code, result.last["code"], sandbox.requests) == (2, "usage", [])


@pytest.mark.parametrize("stream", ["usual", "mute"])
def test_cancel_by_another_process(command: Command, sandbox: Sandbox, stream: str) -> None:
    """If the job is cancelled elsewhere, the stream or a poll reports it, with exit 4."""
    sandbox.become(Personality(stream=stream))
    process = command.start(*STREAM_TEXT, *LONG, "--poll-seconds", "0.5")
    submitted, _ = await_line(process, "submitted")
    assert command.run("cancel", submitted["response_id"]).code == 0
    result = command.end(process)
    assert result.code == 4
    last = json.loads(result.out.splitlines()[-1])
    assert (last["event"], last["status"]) == ("final", "cancelled")


def test_cancel_on_interrupt_while_streaming(command: Command, sandbox: Sandbox) -> None:
    """With --cancel-on-interrupt, a signal in mid-stream cancels the job."""
    process = command.start(*STREAM_TEXT, *LONG, "--cancel-on-interrupt")
    await_line(process, "progress")
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    last = json.loads(result.out.splitlines()[-1])
    assert (result.code, last["job_cancelled"], last["status"]) == (143, True, "cancelled")
    assert time.monotonic() - started < 2
    wait_until(lambda: next(iter(sandbox.jobs.values())).cancelled is not None)


def test_network_that_is_blocked() -> None:
    """A streaming monitor without a successful request in a minute ends with exit 7."""
    client = FakeClient(FakeClock(), retrieves=[failed(503)])
    events = monitor(fake_context(client, wait=Wait(stream=True)))
    assert isinstance(events[-1], Error)
    assert events[-1].exit_code == 7
    assert client.clock.time - FakeClock().time == 60
