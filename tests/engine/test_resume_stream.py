"""Streams that break off are resumed without loss or repetition."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from harness import await_line
from oaibg.api.client import Client
from oaibg.contract.errors import CallFailed
from oaibg.sandbox import Fault, Personality
from stream_runs import (
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


def test_cut_at_every_event(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A stream that is cut after any event resumes there, without a poll or a warning."""
    run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
    for after in range(1, len(stream_events(sandbox))):
        sandbox.clear()
        sandbox.script(Fault(on="create", kind="cut", after=after))
        result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
        assert (result.code, warning_codes(result)) == (0, [])
        assert_whole(sandbox, result)
        assert [one.query["starting_after"] for one in stream_requests(sandbox)] == [str(after - 1)]
        assert retrieves(sandbox) == []


@pytest.mark.parametrize("after", [1, 2])
def test_cut_again_and_again(run: Callable[..., Result], sandbox: Sandbox, after: int) -> None:
    """A stream that is cut again and again is resumed while each connection brings new events."""
    sandbox.script(Fault(on="stream", kind="cut", after=after, times=0))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
    assert (result.code, warning_codes(result)) == (0, [])
    assert_whole(sandbox, result)
    assert retrieves(sandbox) == []


def test_malformed_delta(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A malformed delta is requested again, as a missing event is."""
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.3").id
    events = [
        {"type": "response.created", "sequence_number": 0},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": {}},
        {"type": "response.in_progress", "sequence_number": 2},
    ]
    sandbox.script(sse_fault("".join(f"data: {json.dumps(event)}\n\n" for event in events)))
    result = run("monitor", identifier, "--stream-text")
    assert_whole(sandbox, result)
    assert [one.query.get("starting_after") for one in stream_requests(sandbox)] == [None, "0"]


@pytest.mark.parametrize("size", [2500, 3000, 5001, 7000])
def test_truncated_in_an_event(run: Callable[..., Result], sandbox: Sandbox, size: int) -> None:
    """An event that is cut off is not mistaken for a whole one."""
    sandbox.script(Fault(on="create", kind="truncate", after=size))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
    assert (result.code, warning_codes(result), len(stream_requests(sandbox))) == (0, [], 1)
    assert_whole(sandbox, result)


@pytest.mark.parametrize("kind", ["truncate", "cut"])
def test_truncated_stream_is_a_connection_error(sandbox: Sandbox, kind: str) -> None:
    """A truncated stream raises `connection_error`; one cut between two events just ends."""
    sandbox.script(Fault(on="create", kind=kind, after=1500 if kind == "truncate" else 1))

    async def ended() -> CallFailed | None:
        api = Client(sandbox.base_url, "key")
        body = {"model": "m", "input": "x", "background": True, "stream": True}
        _, stream = await api.create_stream(body, _allow_sending, timeout=5)
        assert stream is not None
        try:
            while await stream.next() is not None:
                pass
        except CallFailed as failure:
            return failure
        else:
            return None
        finally:
            await stream.close()
            await api.close()

    failure = asyncio.run(ended())
    assert (failure and failure.code) == ("connection_error" if kind == "truncate" else None)


async def _allow_sending() -> None:
    """Allow the request to be sent."""


@pytest.mark.slow
def test_connections_without_new_events(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """After three connections without new events, the job is only polled, with one warning."""
    sandbox.script(Fault(on="stream", kind="cut", after=3))
    sandbox.script(Fault(on="stream", kind="cut", times=0))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=1.5", "--poll-seconds", "9")
    assert (result.code, warning_codes(result)) == (0, ["stream_lost"])
    assert len(stream_requests(sandbox)) == 3
    assert result.events[-2:] == ["poll", "final"]
    assert result.events.count("poll") > 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_stream_that_fails_once(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int
) -> None:
    """If a stream request fails with 429 or 5xx, the job is polled and the request is repeated."""
    sandbox.script(Fault(on="create", kind="cut", after=3))
    sandbox.script(Fault(on="stream", kind="status", status=status))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0.5")
    assert (result.code, warning_codes(result)) == (0, [])
    assert_whole(sandbox, result)
    assert len(stream_requests(sandbox)) == 2


def test_reset_in_the_middle(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A stream whose connection is reset is resumed."""
    sandbox.script(Fault(on="create", kind="cut", after=5))
    sandbox.script(Fault(on="stream", kind="reset_before"))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0.6")
    assert (result.code, warning_codes(result)) == (0, [])
    assert_whole(sandbox, result)


def test_gap_that_is_filled(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Missing events are requested again from the last received one."""
    for after in (1, 5, 13, 20):
        sandbox.clear()
        sandbox.script(Fault(on="create", kind="gap", after=after))
        result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
        assert (result.code, warning_codes(result)) == (0, [])
        assert_whole(sandbox, result)
        assert [one.query["starting_after"] for one in stream_requests(sandbox)] == [str(after - 1)]


def test_gap_that_stays(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """If events stay missing, a warning says so once, and the whole result is retrieved."""
    sandbox.become(Personality(stream="gaps"))
    sandbox.script(Fault(on="create", kind="cut", after=15))
    out = tmp_path / "o.md"
    result = run(*STREAM_TEXT, "--output-text-file", str(out))
    assert (result.code, warning_codes(result), out.read_text()) == (0, ["stream_gap"], TEXT)
    assert [one.query["starting_after"] for one in stream_requests(sandbox)] == ["14", "14"]
    assert len(retrieves(sandbox)) == 1
    pieces = [event for event in stream_events(sandbox) if "delta" in event]
    kept = [piece["delta"] for piece in pieces if piece["sequence_number"] not in (15, 16)]
    assert streamed_text(result) == "".join(kept)


@pytest.mark.parametrize("after", [1, 3, 20])
def test_error_event(run: Callable[..., Result], sandbox: Sandbox, after: int) -> None:
    """After an error event in the stream, the job is polled and its stream is resumed."""
    sandbox.script(Fault(on="create", kind="error_event", after=after))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0.6")
    assert (result.code, warning_codes(result), len(stream_requests(sandbox))) == (0, [], 1)
    assert_whole(sandbox, result)
    assert len(retrieves(sandbox)) == 1


def test_interrupted_again_and_again(command: Command, sandbox: Sandbox) -> None:
    """Interrupted runs that continue with `next` together report everything exactly once."""
    process = command.start(*STREAM_TEXT, "--metadata", "sandbox_seconds=3")
    results = []
    for event in ("submitted", "progress", "output_text_delta", "output_text_delta"):
        _, read = await_line(process, event)
        time.sleep(0.15)  # some text has arrived since, but has not been emitted
        process.send_signal(signal.SIGINT)
        ended = command.end(process)
        ended.out = read + ended.out
        assert (ended.code, ended.last["event"]) == (130, "interrupted")
        results.append(ended)
        argv = ended.last["next"]
        process = command.start(*argv[argv.index("monitor") :])
    results.append(command.end(process))
    assert results[-1].code == 0
    assert "--stream-text" in argv
    assert "--starting-after" in argv
    assert_whole(sandbox, *results)


@pytest.mark.slow
def test_wait_limit_in_mid_stream(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A wait limit in mid-stream ends in time with exit 3; `next` resumes without loss."""
    setting = ("--metadata", "sandbox_seconds=1.5", "--max-wait-seconds", "0.5")
    results = [run(*STREAM_TEXT, *setting)]
    while results[-1].code == 3:
        assert 0.5 <= results[-1].last["elapsed_seconds"] < 0.8
        argv = results[-1].last["next"]
        results.append(run(*argv[argv.index("monitor") :]))
    assert len(results) > 2
    assert_whole(sandbox, *results)


def test_next_of_a_detached_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If the job was submitted with --stream-text and --detach, `next` streams it."""
    detached = run(*STREAM_TEXT, "--detach")
    argv = detached.last["next"]
    assert argv[1:] == ["monitor", "--stream-text", detached.id]
    result = run(*argv[1:])
    assert result.code == 0
    assert_whole(sandbox, result)


def test_starting_after_and_a_new_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """--starting-after is ignored for a job that is created now."""
    result = run(*STREAM_TEXT, "--starting-after", "12")
    assert_whole(sandbox, result)


ANY = ("cut", "gap", "silent", "keepalive", "error_event", "truncate", "reset_before", "html")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_any_faults(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, seed: int
) -> None:
    """With random stream faults, nothing is reported twice, and a loss causes a warning."""
    chance = random.Random(seed)
    for _ in range(4):
        sandbox.clear()
        run(*STREAM_TEXT, "--detach", "--metadata", f"sandbox_seconds={chance.choice([0, 0.3])}")
        for _ in range(chance.randint(1, 5)):
            after, skip, times = (chance.randint(0, most) for most in (26, 2, 1))
            kind = chance.choice(ANY)
            after *= 200 if kind == "truncate" else 1
            sandbox.script(Fault(on="stream", kind=kind, after=after, skip=skip, times=times + 1))
        result = run("monitor", next(iter(sandbox.jobs)), "--stream-text", "--poll-seconds", "2")
        numbers = [number for _, _, number in progress(result)]
        assert (result.code, numbers) == (0, sorted(set(numbers)))
        if not warning_codes(result):
            assert_whole(sandbox, result)
