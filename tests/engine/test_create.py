"""The POST that creates a job: refusals, retries, lost replies."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from harness import FakeClient, FakeClock, Step, failed, fake_context, names, response, submit
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Final, SubmitError
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault
from scripted import DONE, last_error, submission, submitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.api.payload import Payload
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")
FORBIDDEN = {"error": {"message": "Missing scopes.", "type": "invalid_request_error"}}


@pytest.mark.parametrize(
    ("fault", "code", "exit_code"),
    [
        (Fault(on="create", kind="status", status=400), None, 1),
        (Fault(on="create", kind="status", status=404), None, 1),
        (Fault(on="create", kind="status", status=401), None, 8),
        (Fault(on="create", kind="status", status=403, body=FORBIDDEN), None, 8),
        (Fault(on="create", kind="status", status=403), "unsupported_country_region_territory", 1),
        (Fault(on="create", kind="status", status=403, body="<html>no</html>"), "unavailable", 7),
        (Fault(on="create", kind="status", status=407, body="proxy"), "unavailable", 7),
        (
            Fault(on="create", kind="status", status=307, headers={"location": "/v1/responses"}),
            "http_307",
            1,
        ),
        (
            Fault(
                on="create",
                kind="status",
                status=429,
                body={"error": {"message": "You exceeded it.", "code": "insufficient_quota"}},
            ),
            "insufficient_quota",
            1,
        ),
    ],
)
def test_refused_create(
    run: Callable[..., Result], sandbox: Sandbox, fault: Fault, code: str | None, exit_code: int
) -> None:
    """A refused create is not retried, and the local state has no row for it."""
    sandbox.script(fault)
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["outcome"]) == (exit_code, "not_created")
    assert result.last["http_status"] == fault.status
    assert code is None or result.last["code"] == code
    assert len(sandbox.posts) == 1
    assert run("show", "--list").last["counts"] == {}


def test_without_an_api_key(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submit without an API key ends with exit 8, and sends nothing."""
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["code"]) == (8, "no_api_key")
    assert not sandbox.requests


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_ORG_ID", "a\nb"),
        ("OPENAI_ORG_ID", "\u00e4"),
        ("OPENAI_CUSTOM_HEADERS", "a b: c"),
        ("OPENAI_CUSTOM_HEADERS", "a: \u00e4"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/no/such/file"),
    ],
)
def test_environment_that_cannot_be_used(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    """Variables that make requests impossible give exit 2, and the job key stays free."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "")
    result = run("submit", "--prompt", "x", "--job-key", "k")
    assert (result.code, result.last["outcome"]) == (2, "not_created")
    assert name in f"{result.last['message']} {result.last['hint']}"
    monkeypatch.delenv(name)
    assert run("submit", "--prompt", "x", "--job-key", "k", "--detach").code == 0
    assert len(sandbox.posts) == 1


def test_base_url_without_v1(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error for a base URL without `/v1` has a hint about it."""
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url.removesuffix("/v1"))
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["http_status"]) == (1, 404)
    assert "usually ends in /v1" in result.last["hint"]


def test_status_and_model_that_are_not_unicode(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """A status and a model that are not valid Unicode do not lose the ID."""
    body = r'{"id": "resp_1", "status": "q\ud800", "model": "\udfff"}'
    sandbox.script(Fault(on="create", kind="raw", body=body))
    result = run("submit", "--prompt", "x", "--detach")
    assert (result.code, result.id, result.last["status"]) == (0, "resp_1", "q\ufffd")
    assert run("show", "--list").lines[0]["response_id"] == "resp_1"


def test_id_that_is_a_number(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """An ID that is a number is accepted, because its job was paid for."""
    sandbox.script(Fault(on="create", kind="raw", body='{"id":12345,"status":"queued"}'))
    result = run("submit", "--prompt", "x", "--detach")
    assert (result.code, result.id) == (0, "12345")


def test_error_with_a_byte_order_mark(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """An error that starts with a byte order mark, as some gateways send, is parsed."""
    body = '\ufeff{"error":{"message":"Slow down.","code":"rate_limit_exceeded","param":null}}'
    sandbox.script(
        Fault(on="create", kind="status", status=429, body=body),
        Fault(on="retrieve", kind="status", status=500, body=body),
    )
    result = run("submit", "--prompt", "x", "--job-key", "k", *FAST)
    assert result.code == 0
    errors = [line["error"] for line in result.lines if line["event"].endswith("_error")]
    assert [error["code"] for error in errors] == ["rate_limit_exceeded"] * 2
    assert [error["message"] for error in errors] == [
        "HTTP 429: Slow down.",
        "HTTP 500: Slow down.",
    ]


@pytest.mark.slow
def test_proxy_that_refuses_the_tunnel(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the proxy refuses the tunnel, nothing was sent, and the job key stays free."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = proxy.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("OPENAI_BASE_URL", "https://api.invalid/v1")
        result = run("submit", "--prompt", "x", "--job-key", "k", "--max-wait-seconds", "2.5")
        listed = run("show", "--list")
    assert (result.code, result.last["outcome"]) == (7, "not_created")
    assert "submit_error" in result.events
    assert listed.last["counts"] == {}
    assert not sandbox.posts


def test_each_attempt_opens_a_connection(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, instant_sleep: None
) -> None:
    """Each attempt opens a connection: on a kept one, a failed POST may have arrived or not."""
    replies = [(429, b"{}"), (200, b'{"id":"resp_1","status":"queued"}')]
    served: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, body = replies[min(len(served), 1)]
            served.append(self.client_address[1])
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep stderr empty."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        result = run("submit", "--prompt", "x", "--detach")
        server.shutdown()
    assert (result.code, result.id) == (0, "resp_1")
    assert len(set(served)) == 2


def test_busy_create_is_retried_for_ten_minutes() -> None:
    """A create is retried for ten minutes if the API is busy; Retry-After is honored."""
    events, client, _ = submitted([failed(429, retry_after="200"), response("queued")])
    assert client.times("create") == [0, 200]
    assert isinstance(events[0], SubmitError)
    assert isinstance(events[-1], Final)
    events, _, _ = submitted([failed(429)])
    assert last_error(events).exit_code == 7


def test_create_after_the_wait_limit() -> None:
    """A wait limit that is reached before a job was created ends with exit 7."""
    events, client, _ = submitted([failed(429, retry_after="20")], wait=Wait(max_wait_seconds=10.0))
    assert (last_error(events).exit_code, last_error(events).outcome) == (7, "not_created")
    assert client.times("create") == [0]


def test_wait_limit_reports_the_last_attempt() -> None:
    """The error after a wait limit has the last attempt's message and a hint."""
    events, _, _ = submitted([failed(429)], wait=Wait(max_wait_seconds=10.0))
    error = last_error(events)
    assert (error.code, error.exit_code) == ("wait_spent", 7)
    assert error.message.endswith(" Last attempt: HTTP 429.")
    assert error.hint is not None
    assert "busy" in error.hint


def test_reply_just_after_the_wait_limit() -> None:
    """A create's reply may arrive five seconds after the wait limit, so that no paid ID is lost."""

    class Slow(FakeClient):
        async def _answer(self, step: Step, timeout: float) -> Payload:
            if step == response("queued"):
                await self.clock.sleep(min(12.0, timeout))
                if timeout < 12:
                    raise CallFailed("timeout", "the request timed out")
            return await super()._answer(step, timeout)

    client = Slow(FakeClock(), creates=[response("queued")], retrieves=[DONE])
    context = fake_context(client, wait=Wait(max_wait_seconds=10.0))
    events = submit(submission(), context)
    assert names(events) == ["submitted", "timeout"]
    assert events[-1].response_id == "resp_1"


def test_create_that_hangs() -> None:
    """A create without a reply has an unknown outcome, and is not repeated."""
    events, client, context = submitted([1e9], job_key=None)
    error = last_error(events)
    assert (error.exit_code, error.outcome, error.retryable) == (6, "unknown", False)
    assert client.times("create") == [0]
    assert [row.step for row in context.store.jobs()] == ["sending"]


def test_create_between_attempts_is_an_intent() -> None:
    """Between two attempts the row is an intent: a killed run's key can be submitted again."""
    client = FakeClient(FakeClock(), creates=[failed(429), failed(429), response("queued")])
    context = fake_context(client)
    steps: list[str] = []

    async def sleep(seconds: float) -> None:
        client.clock.time += seconds
        steps.extend(row.step for row in context.store._rows("1", limit=9))

    client.clock.sleep = sleep  # type: ignore[method-assign]
    submit(submission(detach=True), context)
    assert steps == ["intent", "intent"]
