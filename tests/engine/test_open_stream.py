"""An open stream outweighs 404s, and a stream's own errors are not lost."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from harness import failed, follow_steps, response, with_text
from oaibg.api.stream import StreamEvent
from oaibg.contract.events import Error, Final, PollError
from oaibg.engine.find import Target
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault
from stream_runs import completed, created, delta, event, script_stream, sse, warning_codes
from virtual_time import Server, run_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.sandbox import Sandbox

ANSWER = with_text("late")


class _Stream:
    """A stream that gets a comment every `pause` seconds, and ends the job after `seconds`."""

    def __init__(self, seconds: float, pause: float, *, silent_after: float = 1e9) -> None:
        self._end = asyncio.get_running_loop().time() + seconds
        self._pause = pause
        self._silent_at = asyncio.get_running_loop().time() + silent_after
        self.heard = 0

    async def next(self) -> StreamEvent | None:
        """Return the last event when it is time."""
        clock = asyncio.get_running_loop()
        while clock.time() < self._end:
            await asyncio.sleep(self._pause)
            self.heard += 7 if clock.time() <= self._silent_at else 0
        self.heard += 500
        end = {"type": "response.completed", "sequence_number": 1, "response": ANSWER}
        return StreamEvent("", json.dumps(end))

    async def close(self) -> None:
        """Do nothing."""


class _Gone(Server):
    """An API that has a job's stream, but replies to each retrieve with 404."""

    def __init__(self, **stream: float) -> None:
        super().__init__()
        self._of_stream: Any = stream
        self.judge = lambda _server, name: failed(404) if name == "retrieve" else None

    async def stream(self, *_: object) -> _Stream | Payload:
        """Open the stream."""
        return _Stream(**self._of_stream)


def _monitored(server: Server) -> list[Event]:
    target = Target(response_id="resp_1")
    return run_one(server, lambda context: follow_steps(target, context), Wait(stream=True))


@pytest.mark.parametrize("pause", [1, 15, 50])
def test_open_stream_outweighs_404s(pause: float) -> None:
    """While something arrives on the job's stream, 404s don't end the wait: comments are enough."""
    events = _monitored(_Gone(seconds=900, pause=pause))
    assert isinstance(events[-1], Final)
    assert (events[-1].status, events[-1].output_text_bytes) == ("completed", 4)
    assert sum(isinstance(one, PollError) for one in events) > 10


def test_silent_stream_does_not_outweigh_404s() -> None:
    """Once nothing has arrived on the stream for a minute, 404s are believed."""
    server = _Gone(seconds=900, pause=1, silent_after=100)
    (*_, last) = _monitored(server)
    assert isinstance(last, Error)
    assert last.code == "not_found"
    assert 155 <= server.times()[-1] <= 250


def test_stream_that_never_says_anything() -> None:
    """404s are believed after a minute if nothing has ever arrived on the open stream."""
    server = _Gone(seconds=900, pause=1, silent_after=0)
    (*_, last) = _monitored(server)
    assert isinstance(last, Error)
    assert last.code == "not_found"
    assert 60 <= server.times()[-1] < 150


class _Comments(BaseHTTPRequestHandler):
    """A server with 404s for retrieves; its stream sends comments until there were eight."""

    missing = 0

    def do_GET(self) -> None:
        streams = "stream=true" in self.path
        type(self).missing += not streams
        self.send_response(200 if streams else 404)
        self.send_header("content-type", "text/event-stream" if streams else "application/json")
        self.end_headers()
        if not streams:
            self.wfile.write(b'{"error":{"message":"No response found.","code":"not_found"}}')
            return
        with suppress(OSError):
            self.wfile.write(sse(created()).encode())
            while type(self).missing < 8:
                self.wfile.write(b": ping\n\n")
                time.sleep(0.01)
            self.wfile.write(sse(completed(output=ANSWER["output"]), first=1).encode())

    def log_message(self, *_: object) -> None:
        """Keep stderr empty."""


@pytest.mark.row("Poll: 404 while the job's stream is open")
def test_comments_over_http(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, instant_sleep: None
) -> None:
    """The comments of a real stream keep the wait alive while the retrieves get 404s."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Comments) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        result = run("monitor", "resp_1", "--stream", "--poll-seconds", "8", "--show-output-text")
        server.shutdown()
    assert (result.code, result.lines[-2]["text"]) == (0, "late")
    assert result.events.count("poll_error") >= 8


# Errors that the stream reports:

ERROR = {"type": "error", "code": "server_error", "message": "The model is overloaded."}


@pytest.mark.parametrize(
    "error",
    [
        ERROR,
        {"type": "error", "error": {"message": "The model is overloaded."}},
        {"type": "error", "error": "The model is overloaded."},
        {"error": {"message": "The model is overloaded.", "type": "server_error"}},
        event("failed", None, response=response("failed", error={"message": ERROR["message"]})),
        event("failed", None, error=ERROR["message"]),
        {**completed("failed", output=[]), "error": ERROR["message"]},
    ],
)
def test_words_of_an_error(
    run: Callable[..., Result], sandbox: Sandbox, error: dict[str, Any]
) -> None:
    """If a job's result doesn't say why it failed, the words from its stream are a warning."""
    script_stream(sandbox, delta("a"), error, retrieved=response("failed", output=[]))
    result = run("submit", "--prompt", "x", "--stream", "--poll-seconds", "0.05")
    words = [line["message"] for line in result.lines if line["event"] == "warning"]
    assert result.code == 4
    assert "stream_error" in warning_codes(result)
    assert all("The model is overloaded." in message for message in words)


def test_error_of_the_result_is_enough(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A result that says why the job failed is not followed by the stream's words."""
    why = {"code": "server_error", "message": "Overloaded."}
    script_stream(sandbox, {**ERROR, "sequence_number": 9})
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(response("failed", error=why))))
    sandbox.script(Fault(on="stream", kind="status", status=400))
    result = run("submit", "--prompt", "x", "--stream", "--poll-seconds", "0.05")
    assert (result.code, result.last["error"]) == (4, why)
    assert "stream_error" not in warning_codes(result)
