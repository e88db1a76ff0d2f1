"""Servers with unusual streams, or with none."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from harness import (
    BASE_URL,
    FakeClient,
    FakeClock,
    failed,
    fake_context,
    job_of,
    names,
    submit,
    with_text,
)
from ledger import audit
from oaibg.engine.run_options import Wait
from oaibg.sandbox import PERSONALITIES, Fault, Personality
from oaibg.sandbox.personality import CHOICES
from oaibg.state.store import Store
from scripted import submission
from stream_runs import (
    FAST,
    STREAM_TEXT,
    TEXT,
    assert_whole,
    retrieves,
    sse_fault,
    stream_requests,
    streamed_text,
    warning_codes,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from harness import Result
    from oaibg.api.payload import Payload
    from oaibg.sandbox import Sandbox


def test_silent_stream(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If a stream stays silent, a poll finds the job's end, and a warning reports the loss."""
    sandbox.script(Fault(on="stream", kind="silent", after=4))
    result = run(*STREAM_TEXT, "--poll-seconds", "0.3")
    assert (result.code, result.events[-3:]) == (0, ["poll", "warning", "final"])
    assert (len(retrieves(sandbox)), warning_codes(result)) == (1, ["stream_lost"])


def test_stream_that_pauses(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A stream that pauses is still read while the job is polled, so that nothing is lost."""
    result = run(*STREAM_TEXT, *FAST, "--metadata", "sandbox_seconds=1")
    assert (result.code, stream_requests(sandbox)) == (0, [])
    assert result.events.count("poll") >= 2
    assert_whole(sandbox, result)


@pytest.mark.parametrize("after", [1, 9, 20])
def test_keepalive(run: Callable[..., Result], sandbox: Sandbox, after: int) -> None:
    """Keepalive events and comments are ignored."""
    sandbox.script(Fault(on="create", kind="keepalive", after=after))
    result = run(*STREAM_TEXT)
    assert_whole(sandbox, result)
    assert len(sandbox.requests) == 1


class _Alive(BaseHTTPRequestHandler):
    """A server whose streams send only keepalives; its job has ended at the second retrieve."""

    retrieves = 0

    def do_GET(self) -> None:
        self.send_response(200)
        if "stream=true" not in self.path:
            type(self).retrieves += 1
            self.end_headers()
            status = "completed" if self.retrieves > 1 else "in_progress"
            self.wfile.write(b'{"status":"%b","output":[]}' % status.encode())
            return
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        with suppress(OSError):
            for number in range(200):
                self.wfile.write(b'data: {"type":"keepalive","sequence_number":%d}\n\n' % number)
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        """Keep stderr empty."""


@pytest.mark.slow
def test_keepalives_count_as_silence(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that sends only keepalives counts as silent."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Alive) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        result = run("monitor", "resp_1", "--stream", "--poll-seconds", "0.3")
        server.shutdown()
    assert (result.code, result.events) == (0, ["poll", "poll", "warning", "final"])
    assert result.last["elapsed_seconds"] < 3


def test_server_that_ignores_stream(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A server that ignores `stream` in a create or a retrieve causes a warning; polls follow."""
    sandbox.become(Personality(stream="ignored"))
    result = run(*STREAM_TEXT, *FAST)
    assert (result.code, warning_codes(result), streamed_text(result)) == (
        0,
        ["stream_unavailable"],
        "",
    )
    assert result.events[:3] == ["submit_start", "submitted", "warning"]
    assert (len(sandbox.posts), stream_requests(sandbox)) == (1, [])
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.3").id
    sandbox.requests.clear()
    result = run("monitor", identifier, "--stream", *FAST)
    assert (result.code, warning_codes(result), len(stream_requests(sandbox))) == (
        0,
        ["stream_unavailable"],
        1,
    )
    assert result.events[:3] == ["poll", "warning", "poll"]
    polls = [line["attempt"] for line in result.lines if line["event"] == "poll"]
    assert polls == list(range(1, len(sandbox.requests) + 1))


@pytest.mark.parametrize("errors", CHOICES["errors"])
def test_server_that_refuses_stream(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, errors: str
) -> None:
    """If the server refuses to stream, the job is created once, without a stream."""
    sandbox.become(Personality(stream="refused", errors=errors))
    result = run(*STREAM_TEXT, *FAST, "--job-key", "k")
    assert (result.code, warning_codes(result)) == (0, ["stream_unavailable"])
    assert "does not stream" in result.lines[1]["message"]
    assert [(post.status, "stream" in post.body) for post in sandbox.posts] == [
        (400, True),
        (200, False),
    ]
    audit(sandbox, state)
    sandbox.jobs[result.id].created += 600
    monitored = run("monitor", result.id, "--stream", "--max-wait-seconds", "1.5", *FAST)
    assert (monitored.code, warning_codes(monitored)) == (3, ["stream_unavailable"])
    assert len(stream_requests(sandbox)) == 1


@pytest.mark.parametrize(
    ("status", "body", "posts"),
    [
        (404, "no streams here", 2),
        (422, {"detail": [{"loc": ["body", "stream"], "msg": "extra"}]}, 2),
        (501, "Streaming is not implemented", 2),
        (400, {"error": {"message": "Unsupported value", "param": "stream"}}, 2),
        (400, {"error": {"message": "Unsupported value", "param": "model"}}, 1),
        (404, {"error": {"message": "No streams yet.", "type": "invalid_request_error"}}, 2),
        (404, "no upstream", 1),
        (500, "stream", 1),
    ],
)
def test_which_refusals_are_about_the_stream(
    run: Callable[..., Result], sandbox: Sandbox, status: int, body: Any, posts: int
) -> None:
    """A create is repeated without a stream only if the refusal certainly is about the stream."""
    sandbox.script(Fault(on="create", kind="status", status=status, body=body))
    result = run(*STREAM_TEXT, "--detach")
    assert len(sandbox.posts) == posts
    assert result.code == (0 if posts == 2 else 6 if status == 500 else 1)


def test_refused_stream_creates_nothing(state: Path) -> None:
    """After a refusal to stream, the row and the outcome say that nothing was created."""
    store = Store(str(state))
    seen = []

    class Refusing(FakeClient):
        async def create(
            self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
        ) -> Payload:
            row = store.by_key(BASE_URL, "k")
            seen.append((job.outcome, row and row.step))
            return await super().create(body, on_sending, timeout=timeout)

    client = Refusing(
        FakeClock(),
        creates=[failed(400, "no_stream", kind="invalid_request_error"), with_text("ok")],
    )
    context = fake_context(client, store, wait=Wait(stream=True))
    job = job_of(context, submitting=True)
    events = submit(submission("k"), context, job)
    store.close()
    assert names(events) == ["warning", "submitted", "final"]
    assert seen == [("not_created", "intent")] * 2


def test_refusal_masks_the_key(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """An API key that the server repeats in its refusal is masked in the warning."""
    secret = "sk-test-0123456789"
    sandbox.script(Fault(on="create", kind="status", status=400, body=f"no streams for {secret}"))
    result = run(*STREAM_TEXT, *FAST)
    assert (result.code, warning_codes(result)) == (0, ["stream_unavailable"])
    assert secret not in result.out.decode()
    assert "no streams for ***" in result.lines[1]["message"]


def test_stream_that_can_not_be_resumed(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If the server refuses to resume the stream, a warning says why, and the job is polled."""
    sandbox.become(Personality(stream="resume_refused"))
    sandbox.script(Fault(on="create", kind="cut", after=4))
    result = run(*STREAM_TEXT, *FAST)
    assert (result.code, warning_codes(result), len(stream_requests(sandbox))) == (
        0,
        ["stream_unavailable"],
        1,
    )
    (warning,) = [line for line in result.lines if line["event"] == "warning"]
    assert "too old" in warning["message"]


def test_events_without_numbers(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Events without numbers are reported, but their stream is not resumed."""
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.5").id
    piece = 'data: {"type":"response.output_text.delta","delta":"a"}\n\n'
    sandbox.script(sse_fault(piece * 3))
    result = run("monitor", identifier, "--stream-text", *FAST)
    assert (result.code, streamed_text(result), warning_codes(result)) == (
        0,
        "aaa",
        ["stream_lost"],
    )
    assert len(stream_requests(sandbox)) == 1


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
    """Whatever a stream contains, its job is followed to its end."""
    identifier = run(*STREAM_TEXT, "--detach", "--metadata", "sandbox_seconds=0.3").id
    sandbox.script(sse_fault(body, times=0))
    result = run("monitor", identifier, "--stream-text", "--poll-seconds", "3")
    assert (result.code, result.last["status"]) == (0, "completed")
    assert result.last["output_text_bytes"] == len(TEXT.encode())


SERVERS = {
    **PERSONALITIES,
    **{f"stream={kind}": Personality(stream=str(kind)) for kind in CHOICES["stream"]},
}


@pytest.mark.parametrize("personality", SERVERS.values(), ids=SERVERS)
def test_every_server(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, personality: Personality
) -> None:
    """A streamed submit ends with the whole answer at every kind of server."""
    sandbox.become(personality)
    out = tmp_path / "o.md"
    result = run(*STREAM_TEXT, *FAST, "--output-text-file", str(out))
    assert (result.code, out.read_text(), len(sandbox.jobs)) == (0, TEXT, 1)
    refusing = personality.stream in ("refused", "ignored")
    codes = [] if personality.background else ["no_background"]
    assert warning_codes(result) == (["stream_unavailable"] if refusing else codes)
    assert streamed_text(result) == ("" if refusing else TEXT)
    assert {line["response_id"] for line in result.lines} <= {None, *sandbox.jobs}
