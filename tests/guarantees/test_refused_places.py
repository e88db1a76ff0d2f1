"""Refusals of another kind than the request's: place, limit, lock, certificate, no retrieve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fault_runs import KEYED
from harness import failed, response
from ledger import audit
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Final
from oaibg.sandbox import Fault
from scripted import RUNNING, last_error, monitored
from tls_server import tls_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

REGION = "403 because of the country or region"
LOCKED = "Create: 400 or 409 because something is locked for a moment"
TOO_LARGE = "Create: 429 for a request that alone exceeds the rate limit"
UNTRUSTED = "The server's certificate can't be verified"
NO_RETRIEVE = "Poll: 405, 501 or a 404 about the route each time"
NO_REGION = {
    "error": {
        "message": "Country, region, or territory not supported",
        "type": "request_forbidden",
        "code": "unsupported_country_region_territory",
    }
}


NO_SUCH_PLACE = {"error": NO_REGION["error"] | {"message": "Not available here."}}


@pytest.mark.row(REGION)
@pytest.mark.parametrize(
    "body",
    [
        NO_REGION,
        NO_SUCH_PLACE,
        "Your country or region is not supported.",
        {"error": {"message": "Not available in your country.", "type": "forbidden"}},
        {"error": {"message": "Sorry.", "type": "forbidden", "code": "RegionNotAllowed"}},
    ],
)
@pytest.mark.parametrize("command", ["submit", "monitor", "cancel", "show"])
def test_refused_region(
    run: Callable[..., Result],
    sandbox: Sandbox,
    instant_sleep: None,
    command: str,
    body: object,
) -> None:
    """A refused country or region is not a refused key: exit 1, with a hint about the place."""
    sandbox.script(Fault(kind="status", status=403, body=body, times=0))
    result = run(*(KEYED if command == "submit" else (command, "resp_1")))
    assert (result.code, result.last["http_status"]) == (1, 403)
    assert "key" not in result.last["message"]
    assert "country" in result.last["hint"]
    assert len(sandbox.requests) == (2 if command == "monitor" else 1)
    assert (result.last["next"] is not None) == (command == "monitor")


@pytest.mark.row(REGION)
def test_region_refused_with_a_400(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A 400 about the place created nothing, and gets the hint about the place."""
    words = "User location is not supported for the API use."
    body = {"error": {"code": 400, "message": words, "status": "FAILED_PRECONDITION"}}
    sandbox.script(Fault(on="create", kind="status", status=400, body=body))
    result = run(*KEYED)
    assert (result.code, result.last["outcome"]) == (1, "not_created")
    assert "country" in result.last["hint"]


@pytest.mark.row(LOCKED)
@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize(
    "error",
    [
        {
            "message": "Another process is currently operating on this conversation. Please retry "
            "in a few seconds.",
            "type": "invalid_request_error",
            "param": None,
            "code": "conversation_locked",
        },
        {"message": "The thread is busy.", "type": "conflict_error", "code": "thread_locked"},
        {
            "message": "The conversation is in use; please wait a few seconds and retry.",
            "type": "invalid_request_error",
            "code": "conversation_busy",
        },
        {
            "message": "Another request is operating on this conversation. Try again shortly.",
            "type": "conflict",
            "code": None,
        },
    ],
)
def test_locked(
    run: Callable[..., Result],
    sandbox: Sandbox,
    state: Path,
    instant_sleep: None,
    status: int,
    error: dict[str, object],
) -> None:
    """A create that meets a lock is retried until the lock is free."""
    body = {"error": error}
    sandbox.script(Fault(on="create", kind="status", status=status, body=body, times=3))
    result = run(*KEYED, "--detach")
    assert (result.code, result.events.count("submit_error")) == (0, 3)
    audit(sandbox, state)


@pytest.mark.row(LOCKED)
def test_locked_for_long(run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None) -> None:
    """A lock that stays ends with exit 7, which says that the same command may be run again."""
    error = {"message": "Locked.", "type": "invalid_request_error", "code": "conversation_locked"}
    sandbox.script(Fault(on="create", kind="status", status=400, body={"error": error}, times=0))
    result = run(*KEYED, "--max-wait-seconds", "30")
    assert (result.code, result.last["outcome"], result.last["retryable"]) == (
        *(7, "not_created", True),
    )
    assert "Locked." in result.last["message"]
    assert "proxy" not in result.last["hint"]


@pytest.mark.row(TOO_LARGE)
@pytest.mark.parametrize(
    ("numbers", "posts"),
    [
        ("Limit 30000, Requested 342389", 1),
        ("Limit: 30,000 / Requested: 342,389", 1),
        ("Limit 30000, Used 29000, Requested 2000", 2),
    ],
)
def test_request_larger_than_the_limit(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, numbers: str, posts: int
) -> None:
    """A 429 for a request that can never fit ends at once; any other one is waited for."""
    message = f"Rate limit reached for gpt-5.2 on tokens per min (TPM): {numbers}."
    error = {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}
    sandbox.script(Fault(on="create", kind="status", status=429, body={"error": error}))
    result = run(*KEYED, "--detach")
    assert (result.code, len(sandbox.posts)) == (2 - posts, posts)
    if posts == 1:
        assert result.last["outcome"] == "not_created"
        assert "Send less" in result.last["hint"]


@pytest.mark.row(UNTRUSTED)
@pytest.mark.parametrize("command", ["submit", "monitor", "cancel", "show"])
@pytest.mark.parametrize(
    ("trusted", "reason"), [(False, "self-signed certificate"), (True, "mismatch")]
)
def test_untrusted_certificate(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    instant_sleep: None,
    command: str,
    trusted: bool,
    reason: str,
) -> None:
    """A certificate that can't be verified ends with exit 7 after few attempts, and the reason."""
    with tls_server(tmp_path) as port:
        monkeypatch.setenv("OPENAI_BASE_URL", f"https://127.0.0.1:{port}/v1")
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        result = run(*(KEYED if command == "submit" else (command, "resp_1")))
    assert (result.code, result.last["code"], result.last["retryable"]) == (7, "unavailable", True)
    assert "certificate could not be verified" in result.last["message"]
    assert reason in result.last["message"].lower()
    assert "SSL_CERT_FILE" in result.last["hint"]
    assert len(result.lines) <= 4
    if command == "submit":
        assert (result.last["outcome"], len(result.lines)) == ("not_created", 2)


@pytest.mark.row(UNTRUSTED)
def test_certificate_that_changes_during_the_wait() -> None:
    """After a successful poll, a certificate that can't be verified is only a `poll_error`."""
    untrusted = CallFailed("certificate_error", "the certificate", sent=False)
    events, _ = monitored([RUNNING, *[untrusted] * 8, response("completed")])
    assert isinstance(events[-1], Final)


@pytest.mark.row(NO_RETRIEVE)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (405, {"detail": "Method Not Allowed"}),
        (501, ""),
        (404, "<pre>Cannot GET /v1/responses/resp_1</pre>"),
        (404, {"error": {"message": "Invalid URL (GET /v1/x)", "type": "invalid_request_error"}}),
        (400, {"error": "Retrieving responses is not supported by this server"}),
    ],
)
def test_server_without_retrieve(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int, body: object
) -> None:
    """A submit to a server that can't return background jobs ends with exit 1 and the ID."""
    sandbox.script(Fault(on="retrieve", kind="status", status=status, body=body, times=0))
    result = run(*KEYED, "--max-wait-seconds", "300")
    last = result.last
    assert (result.code, last["code"], last["http_status"]) == (1, "no_retrieve", status)
    assert (last["outcome"], last["next"], last["response_id"]) == ("created", None, result.id)
    assert result.id in sandbox.jobs
    assert "background" in last["message"]
    assert last["hint"]
    shown = run("show", result.id)
    assert (shown.code, shown.last["code"], shown.last["next"]) == (1, "no_retrieve", None)
    assert len(sandbox.posts) == 1


@pytest.mark.row(NO_RETRIEVE)
def test_405s_that_are_believed() -> None:
    """Three 405s in a row over at least 15 s are believed; fewer, or mixed with others, are not."""
    turns = [failed(405), CallFailed("x", "Cannot GET /x", http_status=404), failed(501)]
    events, client = monitored([*turns, *turns])
    assert (last_error(events).code, client.times("retrieve")) == ("no_retrieve", [0, 5, 10, 15])
    events, client = monitored([failed(405)])
    assert (last_error(events).code, client.times("retrieve")) == ("no_retrieve", [0, 5, 10, 15])
    two = [failed(501), failed(405)]
    events, _ = monitored([*two, RUNNING, *two, failed(500), *two, response("completed")])
    assert isinstance(events[-1], Final)


@pytest.mark.row(NO_RETRIEVE)
def test_jobs_file_on_a_server_without_retrieve(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, instant_sleep: None
) -> None:
    """A run on such a server creates no further jobs, and ends with exit 1 without `next`."""
    jobs, results = tmp_path / "jobs.jsonl", tmp_path / "results.jsonl"
    request = {"method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "x"}}
    lines = [json.dumps({"custom_id": name, **request}) for name in "abc"]
    jobs.write_text("\n".join(lines) + "\n")
    sandbox.script(Fault(on="retrieve", kind="status", status=405, times=0))
    files = ("--jobs-file", str(jobs), "--results-file", str(results), "--max-in-flight", "1")
    result = run("submit", *files)
    assert (result.code, result.last["event"], result.last["next"]) == (1, "summary", None)
    assert result.last["counts"] == {"unknown": 1, "not_submitted": 2}
    assert len(sandbox.posts) == 1
