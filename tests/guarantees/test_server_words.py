"""What a server says about a create decides whether it is sent again, and reaches the user."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fault_runs import FAST, KEYED
from ledger import audit, rows_of
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FOREIGN = "Create: a 4xx that is not the API's own error"
ERROR_IN_200 = "Create: 200 or a stream with an error and no response"
SSE = {"content-type": "text/event-stream"}


def own(message: str, **fields: Any) -> dict[str, Any]:
    """An error in the API's envelope."""
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


def answered(sandbox: Sandbox, status: int, body: object, **more: Any) -> None:
    """Reply to the next create with this status and body; it creates nothing."""
    sandbox.script(Fault(on="create", kind="status", status=status, body=body, **more))


@pytest.mark.row(FOREIGN)
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            400,
            {
                "success": False,
                "error": [{"code": 2005, "message": "Failed to get response from provider"}],
            },
            "Failed to get response from provider",
        ),
        (400, {"error": {"message": "Provider returned error", "code": 400}}, "Provider returned"),
        (400, {"error": {"message": "Bad luck.", "code": 400}}, "Bad luck."),
        (400, {"error": {"message": "Bad luck.", "code": "2005", "type": None}}, "Bad luck."),
        (400, "upstream error", "upstream error"),
        (400, "", "HTTP 400"),
        (409, "<html><title>Conflict</title></html>", "Conflict"),
        (404, {"success": False, "reason": "no luck"}, "no luck"),
        (422, {"errors": [{"reason": "try another lane"}]}, "another lane"),
        (424, {"message": "The dependency said no."}, "dependency said no"),
        (400, own("Bad luck.", type="upstream_error"), "Bad luck."),
        (400, own("Bad luck.", code="bad_gateway"), "Bad luck."),
        (400, own("Bad luck.", type="api_error"), "Bad luck."),
        (403, own("Bad luck.", type="server_error"), "Bad luck."),
        (400, own("The provider failed to answer."), "provider failed"),
        (
            400,
            own("Upstream request timed out. Try again in 5 seconds.", type="proxy_error"),
            "timed out",
        ),
        (
            200,
            own("The provider closed the connection; retry shortly.", type="model_error"),
            "retry shortly",
        ),
        (409, own("Please retry in a few seconds.", type="conflict"), "retry"),
        (400, own("The conversation is busy: upstream timed out, retry in 5 s."), "timed out"),
        (400, own("Bad luck.", type=2005), "Bad luck."),
        (400, own("Bad luck.", code=2005), "Bad luck."),
        (400, own("Bad luck.", type="x", code="get_channel_failed"), "Bad luck."),
        (400, own("Bad luck.", type="x", code="read_response_body_failed"), "Bad luck."),
        (400, own("unexpected EOF", type="new_api_error"), "unexpected EOF"),
        (403, own("Upstream request timed out", type="forbidden"), "timed out"),
        (403, {"error": "Upstream request timed out"}, "timed out"),
        (404, {"error": "Upstream endpoint not found"}, "endpoint not found"),
        (200, own("upstream connection reset", type="tokens"), "reset"),
    ],
)
def test_a_refusal_that_may_not_be_one(
    run: Callable[..., Result],
    sandbox: Sandbox,
    state: Path,
    status: int,
    body: object,
    words: str,
) -> None:
    """A 4xx of a server between has an unknown outcome, and its job key is not sent again."""
    answered(sandbox, status, body)
    result = run(*KEYED)
    assert (result.code, result.last["code"]) == (6, "outcome_unknown")
    assert (result.last["outcome"], result.last["http_status"]) == ("unknown", status)
    assert words in result.last["message"]
    assert run(*KEYED).code == 6
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


@pytest.mark.row(FOREIGN)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, own("Bad luck.")),
        (400, own("'tools' is not supported yet.", type="bad_request")),
        (400, {"error": {"message": "Bad luck.", "code": "unknown_parameter"}}),
        (400, {"error": {"message": "Bad luck.", "code": 400, "param": "input"}}),
        (400, {"error": "'temperature' must be at most 2"}),
        (400, {"error": {"message": "gpt-9 is not a valid model ID", "code": 400}}),
        (422, {"detail": [{"type": "missing", "loc": ["body", "input"], "msg": "Field required"}]}),
        (422, {"errors": [{"field": "temperature", "reason": "too high"}]}),
        (400, "The request body is not valid JSON"),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}),
        (404, {"error": "model 'gpt-9' not found, try pulling it first"}),
        (404, "<html>nginx</html>"),
        (404, ""),
        (404, {"detail": "Not Found"}),
        (405, {"message": "Method Not Allowed"}),
        (413, "<html>Too large</html>"),
        (431, ""),
    ],
)
def test_a_refusal_in_other_words(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, status: int, body: object
) -> None:
    """A 4xx that blames the request or the address created nothing; its job key stays free."""
    answered(sandbox, status, body)
    result = run(*KEYED)
    assert (result.code, result.last["outcome"]) == (1, "not_created")
    assert rows_of(state) == []
    assert run(*KEYED, "--detach").code == 0
    assert len(sandbox.posts) == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": "failed to stream response from provider"}),
        (400, "stream disconnected before completion"),
        (400, own("No stream for now.", type="upstream_error")),
        (400, own("stream disconnected before completion")),
        (400, own("stream error: closed by peer", type="x_error")),
        (400, own("The stream was closed by upstream")),
    ],
)
def test_a_stream_that_failed_behind_the_server(
    run: Callable[..., Result], sandbox: Sandbox, status: int, body: object
) -> None:
    """A create is not repeated without a stream if a stream failed somewhere behind the server."""
    answered(sandbox, status, body)
    result = run(*KEYED, "--stream")
    assert (result.code, len(sandbox.posts)) == (6, 1)


def sse(*events: dict[str, Any]) -> str:
    """The text of a stream."""
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


OVER = {"message": "You exceeded it.", "type": "insufficient_quota", "code": "insufficient_quota"}
BROKEN = {"message": "Sorry about that!", "type": "server_error", "code": None}
FIELD = {"message": "Unknown parameter: 'x'.", "type": "invalid_request_error", "param": "x"}
KEY = {"message": "Wrong key.", "type": "authentication_error", "code": "invalid_api_key"}


@pytest.mark.row(ERROR_IN_200)
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["plain", "stream"])
@pytest.mark.parametrize("form", ["json", "chunk", "event", "flat"])
@pytest.mark.parametrize(
    ("error", "code", "outcome"),
    [
        (OVER, 1, "not_created"),
        (FIELD, 1, "not_created"),
        (KEY, 8, "not_created"),
        (BROKEN, 6, "unknown"),
        ({"message": "It broke.", "code": 2005}, 6, "unknown"),
    ],
)
def test_an_error_in_a_200(
    run: Callable[..., Result],
    sandbox: Sandbox,
    options: tuple[str, ...],
    form: str,
    error: dict[str, Any],
    code: int,
    outcome: str,
) -> None:
    """An error in a 200, in any form, has the server's words and means what its code says."""
    forms: dict[str, Any] = {
        "json": {"error": error},
        "chunk": sse({"error": error}),
        "event": f"event: error\n{sse({'type': 'error', 'error': error})}",
        "flat": sse({**error, "type": "error"}),
    }
    if form == "flat" and error == FIELD:
        code, outcome = 6, "unknown"  # without its type, nothing says that it is the API's
    headers = {} if form == "json" else SSE
    answered(sandbox, 200, forms[form], headers=headers)
    result = run(*KEYED, *options)
    assert (result.code, result.last["outcome"]) == (code, outcome)
    assert error["message"] in result.last["message"]
    again = run(*KEYED, "--detach")
    assert (again.code, len(sandbox.posts)) == ((6, 1) if outcome == "unknown" else (0, 2))


@pytest.mark.row(ERROR_IN_200)
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "error",
    [
        {"message": "Slow down.", "type": "tokens", "code": "rate_limit_exceeded"},
        {"message": "Overloaded.", "type": "x", "code": "server_is_overloaded"},
    ],
)
def test_a_busy_api_in_a_200(
    run: Callable[..., Result],
    sandbox: Sandbox,
    state: Path,
    instant_sleep: None,
    options: tuple[str, ...],
    error: dict[str, Any],
) -> None:
    """A rate limit in a 200 is waited for like a 429."""
    headers = SSE if options else {}
    body = sse({"type": "error", "error": error}) if options else {"error": error}
    answered(sandbox, 200, body, headers=headers, times=2)
    result = run(*KEYED, *options, "--detach")
    assert (result.code, result.events.count("submit_error")) == (0, 2)
    assert error["message"] in result.lines[1]["error"]["message"]
    audit(sandbox, state)


def test_a_stream_that_began_before_its_error(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """After an event with a response, even one without an ID, an error says nothing for certain."""
    begun = {"type": "response.created", "response": {"status": "queued"}}
    body = sse(begun, {"type": "error", "error": OVER})
    answered(sandbox, 200, body, headers=SSE)
    result = run(*KEYED, "--stream")
    assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert "You exceeded it." in result.last["message"]


def test_an_error_in_the_200_of_a_poll(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A poll's 200 with an error is a `poll_error` with the server's words and code."""
    body = {"error": {"message": "Hiccup.", "type": "server_error", "code": "server_error"}}
    sandbox.script(Fault(on="retrieve", kind="status", status=200, body=body))
    result = run(*KEYED, *FAST)
    assert result.code == 0
    (error,) = [line["error"] for line in result.lines if line["event"] == "poll_error"]
    assert (error["code"], error["message"]) == ("server_error", "HTTP 200: Hiccup.")


@pytest.mark.parametrize("command", ["show", "monitor"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_missing_response_in_a_200(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, command: str, status: int
) -> None:
    """A 200 or 400 that says that the response does not exist counts as a 404."""
    body = {"error": {"message": "Response with id 'resp_1' not found.", "code": 404}}
    sandbox.script(Fault(on="retrieve", kind="status", status=status, body=body, times=0))
    result = run(command, "resp_1")
    assert (result.code, result.last["code"]) == (5, "not_found")
    assert "Response with id 'resp_1' not found." in result.last["message"]


@pytest.mark.parametrize(
    "words",
    [
        "An invalid response was received from the upstream server",
        "No response received from backend",
        "Response deadline expired",
        "Invalid ID token",
        "Invalid response: 502",
        "request id req_123 not found",
        "Response was not found by worker, retrying",
    ],
)
def test_a_400_that_does_not_mean_missing(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, words: str
) -> None:
    """A poll's 400 about something else than the response does not end the wait."""
    sandbox.script(Fault(on="retrieve", kind="status", status=400, body=words, times=6))
    result = run(*KEYED, *FAST)
    assert (result.code, result.events.count("poll_error")) == (0, 6)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, own("upstream backend unavailable", type="server_error")),
        (404, own("Sorry.", type="upstream_error")),
        (400, own("Deployment is warming up", code="not_found")),
        (200, {"error": "Response not found yet, worker still writing"}),
    ],
)
def test_a_failure_behind_the_server_during_a_poll(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int, body: object
) -> None:
    """A reply that blames another server, or says that the job is not there yet, ends nothing."""
    sandbox.script(Fault(on="retrieve", kind="status", status=status, body=body, times=8))
    result = run(*KEYED, *FAST)
    assert (result.code, result.events.count("poll_error")) == (0, 8)


def test_the_error_that_ends_a_stream(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """The warning about a stream that ends with errors has the server's words."""
    sandbox.script(
        Fault(on="create", kind="cut", after=2),
        Fault(
            on="stream",
            kind="status",
            status=200,
            headers=SSE,
            times=0,
            body=sse({"type": "error", "code": "server_error", "message": "The stream tore."}),
        ),
    )
    result = run(*KEYED, "--stream", "--metadata", "sandbox_seconds=1", *FAST)
    assert result.code == 0
    (warning,) = [line for line in result.lines if line["event"] == "warning"]
    assert warning["code"] == "stream_lost"
    assert "The stream tore" in warning["message"]
