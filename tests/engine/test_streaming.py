"""`--stream`, `--stream-text` and `--starting-after`, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
import time
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import (
    BASE_URL,
    FakeClient,
    FakeClock,
    await_line,
    failed,
    fake_context,
    job_of,
    monitor,
    names,
    submit,
    wait_until,
    with_text,
)
from ledger import audit
from oaibg.api.client import Client
from oaibg.api.stream import StreamEvent
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Error
from oaibg.engine.claim import Submission
from oaibg.engine.run_options import Wait
from oaibg.request.body import Request
from oaibg.sandbox import PERSONALITIES, Fault, Personality
from oaibg.sandbox.encoding import to_json
from oaibg.sandbox.job.events import timeline
from oaibg.sandbox.personality import CHOICES
from oaibg.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.api.payload import Payload
    from oaibg.sandbox import LoggedRequest, Sandbox

TEXT = "A text that is told piece by piece, from its first word to the last one: \u00e9\U0001f600."
FAST = ("--poll-seconds", "0.1")
STREAM_TEXT = ("submit", "--prompt", "x", "--stream-text", "--metadata", f"sandbox_text={TEXT}")
"""Of a job that takes 60 ms, as the sandbox has it."""
LONG = ("--metadata", "sandbox_seconds=600")


def told(*results: Result) -> str:
    """The deltas of runs, joined."""
    lines = [line for result in results for line in result.lines]
    return "".join(line["delta"] for line in lines if line["event"] == "output_text_delta")


def steps(*results: Result) -> list[tuple[str, str | None, int]]:
    """The progress lines of runs: type, item type and number."""
    return [
        (line["type"], line["item_type"], line["sequence_number"])
        for result in results
        for line in result.lines
        if line["event"] == "progress"
    ]


def warned(result: Result) -> list[str]:
    """The codes of a run's warnings."""
    return [line["code"] for line in result.lines if line["event"] == "warning"]


def streams(sandbox: Sandbox) -> list[LoggedRequest]:
    """The requests for a stream of a job that is there already."""
    return [one for one in list(sandbox.requests) if one.query.get("stream") == "true"]


def looks(sandbox: Sandbox) -> list[LoggedRequest]:
    """The requests for a job's state."""
    gets = [one for one in list(sandbox.requests) if one.method == "GET"]
    return [one for one in gets if "stream" not in one.query]


def events_of(sandbox: Sandbox) -> list[dict[str, Any]]:
    """All events of the one job, as the server has them."""
    (job,) = sandbox.jobs.values()
    return [event for _, event in timeline(job)]


def assert_whole(sandbox: Sandbox, *results: Result) -> None:
    """Between them the runs have told everything of the one job, and nothing twice."""
    assert told(*results) == TEXT
    kinds = ("response.queued", "response.in_progress", "response.output_item", "response.web_")
    wanted = [
        (event["type"], event["sequence_number"])
        for event in events_of(sandbox)
        if event["type"].startswith(kinds)
    ]
    assert [(kind, number) for kind, _, number in steps(*results)] == wanted
    assert results[-1].last["status"] == "completed"


# --- as it should be -----------------------------------------------------------------------


def test_whole_run(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """One POST and no other request: every step and the text come as they happen."""
    result = run(*STREAM_TEXT, "--metadata", "sandbox_tools=1", "--show-output-text")
    identifier = result.id
    assert result.code == 0
    assert [line["event"] for line in result.lines[:2]] == ["submit_start", "submitted"]
    assert result.lines[1]["status"] == "queued"
    call = "web_search_call"
    assert steps(result) == [
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
        ("response.output_item.done", "message", len(events_of(sandbox)) - 2),
    ]
    assert told(result) == TEXT
    assert result.events[-2:] == ["output_text", "final"]
    assert result.lines[-2]["text"] == TEXT
    assert {line["response_id"] for line in result.lines[1:]} == {identifier}
    assert [one.method for one in sandbox.requests] == ["POST"]


def test_progress_alone(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Without `--stream-text` no text is told before the end."""
    argv = [part.replace("--stream-text", "--stream") for part in STREAM_TEXT]
    result = run(*argv)
    assert set(result.events) == {"submit_start", "submitted", "progress", "final"}
    assert len(sandbox.requests) == 1


@pytest.mark.slow
def test_deltas_are_put_together(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The first comes at once, then some three lines a second, with the last one's number."""
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=1.8", "--poll-seconds", "1.2")
    lines = [line for line in result.lines if line["event"] == "output_text_delta"]
    pieces = [event for event in events_of(sandbox) if event["type"].endswith("text.delta")]
    assert lines[0]["delta"] == pieces[0]["delta"]
    assert 3 <= len(lines) <= 5 < len(pieces)
    numbers = {event["sequence_number"]: event for event in pieces}
    for line in lines:
        assert line["delta"].endswith(numbers[line["sequence_number"]]["delta"])
    times = [datetime.fromisoformat(line["ts"]).timestamp() for line in lines]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps[:-1]) >= 0.34
    assert told(result) == TEXT
    assert len(sandbox.requests) == 1, "while something comes, there is no need to poll"


def test_request_asks_for_a_stream(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`--dry-run` shows it; the hash is that of the request without it."""
    shown, plain = (
        run("submit", "--prompt", "x", "--dry-run", *options).last for options in (["--stream"], [])
    )
    assert shown["body"] == {**plain["body"], "stream": True}
    assert shown["request_sha256"] == plain["request_sha256"]
    assert run("submit", "--prompt", "x", "--stream", *FAST).code == 0
    assert sandbox.posts[0].body == shown["body"]


def test_job_key_finds_the_job_either_way(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """With `--stream` and without; there is one POST."""
    keyed = ("submit", "--prompt", "x", "--job-key", "k", *FAST)
    assert run(*keyed, "--detach", "--stream").code == 0
    for options in ([], ["--stream"], ["--starting-after", "3"]):
        result = run(*keyed, *options)
        assert (result.code, result.lines[1]["reattached"]) == (0, True)
    assert len(sandbox.posts) == 1


def test_saved_file_has_the_bytes_of_the_last_event(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """And so has the local copy."""
    out = tmp_path / "o.json"
    result = run(*STREAM_TEXT, "--output-json-file", str(out))
    assert out.read_bytes() == to_json(events_of(sandbox)[-1]["response"])
    shown = run("show", result.id)
    assert (shown.last["source"], shown.last["response"]) == ("local", json.loads(out.read_text()))
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("outcome", ["failed", "incomplete", "cancelled", "expired"])
def test_unsuccessful_ends(run: Callable[..., Result], sandbox: Sandbox, outcome: str) -> None:
    """Exit 4 with the status of the last event's response, without a poll."""
    result = run(*STREAM_TEXT, "--metadata", f"sandbox_outcome={outcome}")
    assert (result.code, result.last["status"]) == (4, outcome)
    assert len(sandbox.requests) == 1


def test_status_follows_the_events(run: Callable[..., Result], state: Path) -> None:
    """The last line and the state have the status that an event told."""
    result = run(*STREAM_TEXT, *LONG, "--max-wait-seconds", "0.4")
    assert (result.code, result.last["status"]) == (3, "queued")
    longer = ("--metadata", "sandbox_seconds=1.5", "--max-wait-seconds", "0.8")
    result = run(*STREAM_TEXT, *longer)
    assert (result.code, result.last["status"]) == (3, "in_progress")
    assert run("show", "--list", "--limit", "1").last["counts"] == {"in_progress": 1}


def test_monitor_looks_first_and_then_listens(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """One retrieve, one stream from the first event on."""
    run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.5")
    result = run("monitor", next(iter(sandbox.jobs)), "--stream-text")
    assert (result.code, result.events[0]) == (0, "poll")
    assert_whole(sandbox, result)
    assert (len(looks(sandbox)), len(streams(sandbox))) == (1, 1)
    assert "starting_after" not in streams(sandbox)[0].query


def test_job_that_has_ended_meanwhile(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """What the stream still has of it is told before the end."""
    run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0")
    result = run("monitor", next(iter(sandbox.jobs)), "--stream-text", "--starting-after", "9")
    text = [event.get("delta", "") for event in events_of(sandbox)[10:] if "delta" in event]
    assert (result.code, told(result)) == (0, "".join(text))
    assert streams(sandbox)[0].query["starting_after"] == "9"
    assert warned(result) == []


def test_rest_that_does_not_come_at_first(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """It is asked for again, though the job has ended."""
    run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0")
    sandbox.script(Fault(on="stream", kind="cut"), Fault(on="stream", kind="status", status=503))
    result = run("monitor", next(iter(sandbox.jobs)), "--stream-text")
    assert (warned(result), len(streams(sandbox)), len(looks(sandbox))) == ([], 3, 1)
    assert_whole(sandbox, result)


def test_human_has_the_text_once(run: Callable[..., Result]) -> None:
    """Progress on stderr, the answer alone on stdout."""
    result = run(*STREAM_TEXT, "--human")
    assert result.out.decode() == f"{TEXT}\n"
    assert "output item added (message)" in result.err


@pytest.mark.parametrize(
    "argv",
    [
        ("submit", "--prompt", "x", "--stream", "--completion-window", "2h"),
        ("submit", "--prompt", "x", "--starting-after", "-1"),
        ("monitor", "resp_1", "--starting-after", "x"),
        ("monitor", "resp_1", "--starting-after", "-1"),
    ],
)
def test_usage_errors(run: Callable[..., Result], sandbox: Sandbox, argv: tuple[str, ...]) -> None:
    """Exit 2, and no request."""
    result = run(*argv)
    assert (result.code, result.last["code"], sandbox.requests) == (2, "usage", [])


# --- streams that break off ----------------------------------------------------------------


def test_cut_at_every_event(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """It is taken up where it ended, without a poll; nothing is lost and nothing told twice."""
    run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
    for after in range(1, len(events_of(sandbox))):
        sandbox.clear()
        sandbox.script(Fault(on="create", kind="cut", after=after))
        result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
        assert (result.code, warned(result)) == (0, [])
        assert_whole(sandbox, result)
        assert [one.query["starting_after"] for one in streams(sandbox)] == [str(after - 1)]
        assert looks(sandbox) == []


@pytest.mark.parametrize("after", [1, 2])
def test_cut_again_and_again(run: Callable[..., Result], sandbox: Sandbox, after: int) -> None:
    """A connection that brings anything new is worth another one."""
    sandbox.script(Fault(on="stream", kind="cut", after=after, times=0))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
    assert (result.code, warned(result)) == (0, [])
    assert_whole(sandbox, result)
    assert looks(sandbox) == []


def test_unreadable_delta(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """It is asked for again, as what was left out is."""
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.3").id
    events = [
        {"type": "response.created", "sequence_number": 0},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": {}},
        {"type": "response.in_progress", "sequence_number": 2},
    ]
    sandbox.script(_sse("".join(f"data: {json.dumps(event)}\n\n" for event in events)))
    result = run("monitor", identifier, "--stream-text")
    assert_whole(sandbox, result)
    assert [one.query.get("starting_after") for one in streams(sandbox)] == [None, "0"]


@pytest.mark.parametrize("size", [2500, 3000, 5001, 7000])
def test_truncated_in_an_event(run: Callable[..., Result], sandbox: Sandbox, size: int) -> None:
    """The part is not taken for the whole."""
    sandbox.script(Fault(on="create", kind="truncate", after=size))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
    assert (result.code, warned(result), len(streams(sandbox))) == (0, [], 1)
    assert_whole(sandbox, result)


@pytest.mark.parametrize("kind", ["truncate", "cut"])
def test_what_an_end_tells(sandbox: Sandbox, kind: str) -> None:
    """One that is none is a fault of the connection; else there is nothing to say of it."""
    sandbox.script(Fault(on="create", kind=kind, after=1500 if kind == "truncate" else 1))

    async def ended() -> CallFailed | None:
        api = Client(sandbox.base_url, "key")
        body = {"model": "m", "input": "x", "background": True, "stream": True}
        _, stream = await api.create_stream(body, _nothing, timeout=5)
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


@pytest.mark.slow
def test_connections_that_bring_nothing(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A look after each; after three the job is polled alone, which is told once."""
    sandbox.script(Fault(on="stream", kind="cut", after=3))
    sandbox.script(Fault(on="stream", kind="cut", times=0))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=1.5", "--poll-seconds", "9")
    assert (result.code, warned(result)) == (0, ["stream_lost"])
    assert len(streams(sandbox)) == 3
    assert result.events[-2:] == ["poll", "final"]
    assert result.events.count("poll") > 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_stream_that_is_refused_for_a_moment(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int
) -> None:
    """Another try follows after a look."""
    sandbox.script(Fault(on="create", kind="cut", after=3))
    sandbox.script(Fault(on="stream", kind="status", status=status))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0.5")
    assert (result.code, warned(result)) == (0, [])
    assert_whole(sandbox, result)
    assert len(streams(sandbox)) == 2


def test_reset_in_the_middle(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """As any end that is none."""
    sandbox.script(Fault(on="create", kind="cut", after=5))
    sandbox.script(Fault(on="stream", kind="reset_before"))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0.6")
    assert (result.code, warned(result)) == (0, [])
    assert_whole(sandbox, result)


# --- streams that are none, or not what they should be --------------------------------------


def test_silent_stream(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The job's end is found by a poll after one interval, and what was not told is said."""
    sandbox.script(Fault(on="stream", kind="silent", after=4))
    result = run(*STREAM_TEXT, "--poll-seconds", "0.3")
    assert (result.code, result.events[-3:]) == (0, ["poll", "warning", "final"])
    assert (len(looks(sandbox)), warned(result)) == (1, ["stream_lost"])


def test_silence_that_ends(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The stream is listened to while the job is polled: nothing of it is lost."""
    result = run(*STREAM_TEXT, *FAST, "--metadata", "sandbox_seconds=1")
    assert (result.code, streams(sandbox)) == (0, [])
    assert result.events.count("poll") >= 2
    assert_whole(sandbox, result)


@pytest.mark.parametrize("after", [1, 9, 20])
def test_keepalive(run: Callable[..., Result], sandbox: Sandbox, after: int) -> None:
    """An event of an unknown type and a comment are passed over."""
    sandbox.script(Fault(on="create", kind="keepalive", after=after))
    result = run(*STREAM_TEXT)
    assert_whole(sandbox, result)
    assert len(sandbox.requests) == 1


class _Alive(BaseHTTPRequestHandler):
    """A server whose streams send keepalives for ever; its job has ended at the second look."""

    looks = 0

    def do_GET(self) -> None:
        self.send_response(200)
        if "stream=true" not in self.path:
            type(self).looks += 1
            self.end_headers()
            status = "completed" if self.looks > 1 else "in_progress"
            self.wfile.write(b'{"status":"%b","output":[]}' % status.encode())
            return
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        with suppress(OSError):
            for number in range(200):
                self.wfile.write(b'data: {"type":"keepalive","sequence_number":%d}\n\n' % number)
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_keepalives_are_no_news(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that has nothing else counts as silent."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Alive) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        result = run("monitor", "resp_1", "--stream", "--poll-seconds", "0.3")
        server.shutdown()
    assert (result.code, result.events) == (0, ["poll", "poll", "warning", "final"])
    assert result.last["elapsed_seconds"] < 3


def _sse(body: str, kind: str = "raw", **more: Any) -> Fault:
    headers = {"content-type": "text/event-stream"}
    return Fault(on="stream", kind=kind, body=body, headers=headers, **more)


def test_server_that_ignores_it(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The plain answer is taken for what it is, of a create and of a retrieve."""
    sandbox.become(Personality(stream="ignored"))
    result = run(*STREAM_TEXT, *FAST)
    assert (result.code, warned(result), told(result)) == (0, ["stream_unavailable"], "")
    assert result.events[:3] == ["submit_start", "submitted", "warning"]
    assert (len(sandbox.posts), streams(sandbox)) == (1, [])
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.3").id
    sandbox.requests.clear()
    result = run("monitor", identifier, "--stream", *FAST)
    assert (result.code, warned(result), len(streams(sandbox))) == (0, ["stream_unavailable"], 1)
    assert result.events[:3] == ["poll", "warning", "poll"]
    polls = [line["attempt"] for line in result.lines if line["event"] == "poll"]
    assert polls == list(range(1, len(sandbox.requests) + 1))


@pytest.mark.parametrize("errors", CHOICES["errors"])
def test_server_that_refuses_it(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, errors: str
) -> None:
    """The same job is submitted without; one job, and the refusal created none."""
    sandbox.become(Personality(stream="refused", errors=errors))
    result = run(*STREAM_TEXT, *FAST, "--job-key", "k")
    assert (result.code, warned(result)) == (0, ["stream_unavailable"])
    assert "does not stream" in result.lines[1]["message"]
    assert [(post.status, "stream" in post.body) for post in sandbox.posts] == [
        (400, True),
        (200, False),
    ]
    audit(sandbox, state)
    sandbox.jobs[result.id].created += 600
    monitored = run("monitor", result.id, "--stream", "--max-wait-seconds", "0.4", *FAST)
    assert (monitored.code, warned(monitored)) == (3, ["stream_unavailable"])
    assert len(streams(sandbox)) == 1


@pytest.mark.parametrize(
    ("status", "body", "posts"),
    [
        (404, "no streams here", 2),
        (422, {"detail": [{"loc": ["body", "stream"], "msg": "extra"}]}, 2),
        (501, "Streaming is not implemented", 2),
        (400, {"error": {"message": "Unsupported value", "param": "stream"}}, 2),
        (400, {"error": {"message": "Unsupported value", "param": "model"}}, 1),
        (404, "no upstream", 1),
        (500, "stream", 1),
    ],
)
def test_which_refusals_are_of_the_stream(
    run: Callable[..., Result], sandbox: Sandbox, status: int, body: Any, posts: int
) -> None:
    """Only what speaks of it, and where it is certain that nothing was created."""
    sandbox.script(Fault(on="create", kind="status", status=status, body=body))
    result = run(*STREAM_TEXT, "--detach")
    assert len(sandbox.posts) == posts
    assert result.code == (0 if posts == 2 else 6 if status == 500 else 1)


def test_refusal_is_certain(state: Path) -> None:
    """Until the next POST goes out, the state and the outcome say that nothing was created."""
    store = Store(str(state))
    seen = []

    class Refusing(FakeClient):
        async def create(
            self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
        ) -> Payload:
            row = store.by_key(BASE_URL, "k")
            seen.append((job.outcome, row and row.step))
            return await super().create(body, on_sending, timeout=timeout)

    client = Refusing(FakeClock(), creates=[failed(400, "no_stream"), with_text("ok")])
    context = fake_context(client, store, wait=Wait(stream=True))
    job = job_of(context, submitting=True)
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m", job_key="k")
    events = submit(submission, context, job)
    store.close()
    assert names(events) == ["warning", "submitted", "final"]
    assert seen == [("not_created", "intent")] * 2


def test_refusal_without_secrets(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A server that repeats the key is told without it."""
    secret = "sk-test-0123456789"
    sandbox.script(Fault(on="create", kind="status", status=400, body=f"no stream for {secret}"))
    result = run(*STREAM_TEXT, *FAST)
    assert (result.code, warned(result)) == (0, ["stream_unavailable"])
    assert secret not in result.out.decode()
    assert "no stream for ***" in result.lines[1]["message"]


def test_stream_that_can_not_be_taken_up(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """It is told why, and the job is polled to its end."""
    sandbox.become(Personality(stream="resume_refused"))
    sandbox.script(Fault(on="create", kind="cut", after=4))
    result = run(*STREAM_TEXT, *FAST)
    assert (result.code, warned(result), len(streams(sandbox))) == (0, ["stream_unavailable"], 1)
    (warning,) = [line for line in result.lines if line["event"] == "warning"]
    assert "too old" in warning["message"]


def test_gap_that_is_filled(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The events are asked for again from the last one on."""
    for after in (1, 5, 13, 20):
        sandbox.clear()
        sandbox.script(Fault(on="create", kind="gap", after=after))
        result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0")
        assert (result.code, warned(result)) == (0, [])
        assert_whole(sandbox, result)
        assert [one.query["starting_after"] for one in streams(sandbox)] == [str(after - 1)]


def test_gap_that_stays(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """It is told once, and the result is read whole; repeats are not told."""
    sandbox.become(Personality(stream="gaps"))
    sandbox.script(Fault(on="create", kind="cut", after=15))
    out = tmp_path / "o.md"
    result = run(*STREAM_TEXT, "--output-text-file", str(out))
    assert (result.code, warned(result), out.read_text()) == (0, ["stream_gap"], TEXT)
    assert [one.query["starting_after"] for one in streams(sandbox)] == ["14", "14"]
    assert len(looks(sandbox)) == 1
    pieces = [event for event in events_of(sandbox) if "delta" in event]
    kept = [piece["delta"] for piece in pieces if piece["sequence_number"] not in (15, 16)]
    assert told(result) == "".join(kept)


@pytest.mark.parametrize("after", [1, 3, 20])
def test_error_event(run: Callable[..., Result], sandbox: Sandbox, after: int) -> None:
    """The job may go on: it is looked at, and the stream is taken up."""
    sandbox.script(Fault(on="create", kind="error_event", after=after))
    result = run(*STREAM_TEXT, "--metadata", "sandbox_seconds=0.6")
    assert (result.code, warned(result), len(streams(sandbox))) == (0, [], 1)
    assert_whole(sandbox, result)
    assert len(looks(sandbox)) == 1


ODD = [
    "data: [DONE]\n\n",
    "data: {\n\n",
    "data: []\n\n",
    "data: null\n\n",
    'data: {"type":7,"sequence_number":"0"}\n\n',
    'data: {"type":"response.completed","sequence_number":1,"response":7}\n\n',
    'data: {"type":"response.completed","sequence_number":1,"response":{}}\n\n',
    'data: {"type":"response.completed","sequence_number":1,"response":{"status":"completed"}}\n\n',
    'data: {"type":"response.in_progress","response":{"status":["x"]}}\n\n',
    'data: {"type":"response.output_text.delta","sequence_number":1,"delta":{}}\n\n',
    'data: {"type":"response.output_item.added","sequence_number":1,"item":"x"}\n\n',
    f'data: {{"type":"response.completed","response":{"[" * 9000}}}\n\n',
    'data: {"type":"response.output_text.delta","sequence_number":1e999,"delta":"x"}\n\n',
    'data: {"sequence_number":99999999999999999999999999,"type":"response.in_progress"}\n\n',
    "event: error\ndata:\n\n",
    "\x00\x01 nonsense \ufffe",
    "",
]


@pytest.mark.parametrize("body", ODD, ids=lambda body: body[6:50])
def test_odd_events(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, body: str
) -> None:
    """Whatever a stream has in it, the job comes to its end."""
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.3").id
    sandbox.script(_sse(body, times=0))
    result = run("monitor", identifier, "--stream-text", "--poll-seconds", "3")
    assert (result.code, result.last["status"]) == (0, "completed")
    assert result.last["output_text_bytes"] == len(TEXT.encode())


def test_events_without_numbers(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """They are told; but a stream of them can't be taken up, and the job is polled."""
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.5").id
    piece = 'data: {"type":"response.output_text.delta","delta":"a"}\n\n'
    sandbox.script(_sse(piece * 3))
    result = run("monitor", identifier, "--stream-text", *FAST)
    assert (result.code, told(result), warned(result)) == (0, "aaa", ["stream_lost"])
    assert len(streams(sandbox)) == 1


def test_last_event_is_kept_to_the_byte(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Unknown keys and spellings of its response stay."""
    identifier = run(*STREAM_TEXT, *LONG, "--detach").id
    odd = '{ "id":"x",  "status" : "completed", "zzz": [1.0, 1e3, "\\ud83d"], "output":[ ] }'
    event = f'{{ "sequence_number" : 1 , "response" : {odd} , "type":"response.completed"}}'
    sandbox.script(_sse(f"data:{event}\r\n\r\n"))
    out = tmp_path / "o.json"
    result = run("monitor", identifier, "--stream", "--output-json-file", str(out))
    assert (result.code, result.id, out.read_text()) == (0, identifier, odd)


@pytest.mark.parametrize("stream", ["usual", "mute"])
def test_cancel_meanwhile(command: Command, sandbox: Sandbox, stream: str) -> None:
    """The stream ends with it; where that never says so, a poll finds it."""
    sandbox.become(Personality(stream=stream))
    process = command.start(*STREAM_TEXT, *LONG, "--poll-seconds", "0.5")
    submitted, _ = await_line(process, "submitted")
    assert command.run("cancel", submitted["response_id"]).code == 0
    result = command.end(process)
    assert result.code == 4
    last = json.loads(result.out.splitlines()[-1])
    assert (last["event"], last["status"]) == ("final", "cancelled")


SERVERS = {
    **PERSONALITIES,
    **{f"stream={kind}": Personality(stream=str(kind)) for kind in CHOICES["stream"]},
}


@pytest.mark.parametrize("personality", SERVERS.values(), ids=SERVERS)
def test_every_server(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, personality: Personality
) -> None:
    """From a submit to the end, and the answer is whole; the text, where it is told, as well."""
    sandbox.become(personality)
    out = tmp_path / "o.md"
    result = run(*STREAM_TEXT, *FAST, "--output-text-file", str(out))
    assert (result.code, out.read_text(), len(sandbox.jobs)) == (0, TEXT, 1)
    refusing = personality.stream in ("refused", "ignored")
    assert warned(result) == (["stream_unavailable"] if refusing else [])
    assert told(result) == ("" if refusing else TEXT)
    assert {line["response_id"] for line in result.lines} <= {None, *sandbox.jobs}


ANY = ("cut", "gap", "silent", "keepalive", "error_event", "truncate", "reset_before", "html")


@pytest.mark.parametrize("seed", range(4))
def test_any_faults(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, seed: int
) -> None:
    """Whatever streams do, nothing is told twice, and all of it is told unless it is said."""
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
        numbers = [number for _, _, number in steps(result)]
        assert (result.code, numbers) == (0, sorted(set(numbers)))
        if not warned(result):
            assert_whole(sandbox, result)


# --- before the id -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="create", kind="reset_after"),
        Fault(on="create", kind="cut"),
        Fault(on="create", kind="truncate", after=100),
        Fault(on="create", kind="error_event"),
        Fault(on="create", kind="html"),
        Fault(on="create", kind="raw", body="data: {}\n\n"),
        Fault(
            on="create",
            kind="raw",
            body='data: {"response":{"id":"a/b","status":"queued"}}\n\n',
            headers={"content-type": "text/event-stream"},
        ),
        Fault(on="create", kind="raw", body="{}"),
    ],
    ids=lambda fault: f"{fault.kind}-{str(fault.body)[:20]}",
)
def test_stream_that_ends_before_the_id(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, fault: Fault
) -> None:
    """The outcome is unknown: one POST, and none with the same key."""
    sandbox.script(fault)
    argv = (*STREAM_TEXT, "--job-key", "k")
    result = run(*argv)
    assert (result.code, result.last["outcome"], result.last["next"]) == (6, "unknown", None)
    assert run(*argv).code == 6
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


@pytest.mark.parametrize("kind", ["silent", "hang_after"])
def test_first_event_that_does_not_come(sandbox: Sandbox, kind: str) -> None:
    """It is waited for as a reply is: the time is that of both."""
    sandbox.script(Fault(on="create", kind=kind))

    async def asked() -> CallFailed:
        api = Client(sandbox.base_url, "key")
        body = {"model": "m", "input": "x", "background": True, "stream": True}
        with pytest.raises(CallFailed) as caught:
            await api.create_stream(body, _nothing, timeout=0.3)
        await api.close()
        return caught.value

    failure = asyncio.run(asked())
    assert (failure.code, failure.sent) == ("timeout", True)


async def _nothing() -> None:
    """The request may go out."""


def test_events_before_the_one_with_the_id(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """They are no reason to lose it."""
    sandbox.script(Fault(on="create", kind="keepalive"))
    assert run(*STREAM_TEXT).code == 0
    assert len(sandbox.posts) == 1


def test_killed_after_the_first_event(command: Command, sandbox: Sandbox) -> None:
    """The id is in the state before it is told: the key goes on with the job."""
    argv = (*STREAM_TEXT, "--job-key", "k", "--metadata", "sandbox_seconds=1")
    process = command.start(*argv)
    submitted, _ = await_line(process, "submitted")
    process.kill()
    process.wait(10)
    again = command.run(*argv)
    assert (again.code, again.id) == (0, submitted["response_id"])
    assert_whole(sandbox, again)
    assert len(sandbox.posts) == 1


# --- from one process to the next -----------------------------------------------------------


def test_interrupted_again_and_again(command: Command, sandbox: Sandbox) -> None:
    """`next` goes on after what was told: between them the runs tell everything once."""
    process = command.start(*STREAM_TEXT, "--metadata", "sandbox_seconds=3")
    results = []
    for event in ("submitted", "progress", "output_text_delta", "output_text_delta"):
        _, read = await_line(process, event)
        time.sleep(0.15)  # some text has come since, and is no line yet
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
def test_wait_that_ends_in_the_middle(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Exit 3, exact to a second, and `next` goes on without loss or repeat."""
    setting = ("--metadata", "sandbox_seconds=1.5", "--max-wait-seconds", "0.5")
    results = [run(*STREAM_TEXT, *setting)]
    while results[-1].code == 3:
        assert 0.5 <= results[-1].last["elapsed_seconds"] < 0.8
        argv = results[-1].last["next"]
        results.append(run(*argv[argv.index("monitor") :]))
    assert len(results) > 2
    assert_whole(sandbox, *results)


def test_next_of_a_detached_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The job was created to be streamed, and `next` does."""
    detached = run(*STREAM_TEXT, "--detach")
    argv = detached.last["next"]
    assert argv[1:] == ["monitor", "--stream-text", detached.id]
    result = run(*argv[1:])
    assert result.code == 0
    assert_whole(sandbox, result)


def test_starting_after_is_of_another_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A job that is submitted now is told from its first event on."""
    result = run(*STREAM_TEXT, "--starting-after", "12")
    assert_whole(sandbox, result)


def test_cancel_on_interrupt(command: Command, sandbox: Sandbox) -> None:
    """A signal in mid-stream cancels the job where that was asked for."""
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
    """Exit 7 after a minute without any answer, as without a stream."""
    client = FakeClient(FakeClock(), retrieves=[failed(503)])
    events = monitor(fake_context(client, wait=Wait(stream=True)))
    assert isinstance(events[-1], Error)
    assert events[-1].exit_code == 7
    assert client.clock.time - FakeClock().time == 60


# --- reading an event ----------------------------------------------------------------------

few = settings(max_examples=40, deadline=None)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
json_values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(), leaves, max_size=3)
objects = st.dictionaries(st.text(), json_values, max_size=4)


@few
@given(objects, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_object_is_read(data: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    """Each key has its value, in whatever order it is asked for."""
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    for keys in (list(data), list(reversed(data))):
        event = StreamEvent("", text)
        assert [event.get(key) for key in keys] == [data[key] for key in keys]
        assert event.get("\x00 none") is data.get("\x00 none")


@few
@given(st.text() | st.text('{}[]",:\\ 1ate"response'))
def test_any_text_is_survived(text: str) -> None:
    """What can't be read is not there."""
    event = StreamEvent("name", text)
    assert isinstance(event.type, str)
    assert event.number is None or event.number >= 0
    assert event.payload is None or isinstance(event.payload.data, dict)


@few
@given(objects, st.sampled_from([None, 2]))
def test_response_is_given_as_it_was_sent(response: dict[str, Any], indent: int | None) -> None:
    """To the byte, whatever stands around it."""
    raw = json.dumps(response, indent=indent, ensure_ascii=indent is None)
    event = StreamEvent("", f'{{"a":[1,{{}}], "response" : {raw} ,"type":"t"}}')
    assert event.payload is not None
    assert event.payload.raw == raw.encode("utf-8", "replace")
    assert event.type == "t"
