"""Redirects are followed for GET requests within the same origin, and never for a POST."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness import response, with_text
from raw_server import Answer, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from raw_server import RawServer

FAST = ("--poll-seconds", "0.05", "--max-wait-seconds", "20")
STATUSES = [301, 302, 303, 307, 308]


def redirect(status: int, location: str) -> Answer:
    """Return a redirect."""
    return Answer(reply("", f"{status} x", f"Location: {location}"))


def targets(raw: RawServer) -> list[str]:
    """Return the method and the target of each request."""
    return [request.partition(b" HTTP")[0].decode() for request in raw.requests]


@pytest.fixture(params=["direct", "proxy"])
def way(request: pytest.FixtureRequest, raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether requests go to the server directly or through a proxy, which it then is itself."""
    if request.param == "proxy":
        monkeypatch.setenv("HTTP_PROXY", f"http://{raw.address}")
        monkeypatch.setenv("NO_PROXY", "")
    return str(request.param)


@pytest.mark.row("Poll: a redirect")
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("location", ["/new/resp_1?a=b", "full", "../responses/resp_1/?a=b"])
def test_retrieve(
    run: Callable[..., Result], raw: RawServer, way: str, status: int, location: str
) -> None:
    """A retrieve follows a redirect, relative or absolute, with the query that it names."""
    where = f"{raw.base_url}/new?a=b" if location == "full" else location
    done = Answer(reply(json.dumps(with_text("ok"))))
    raw.answer = lambda request: done if b"?a=b" in request else redirect(status, where)
    result = run("monitor", "resp_1", *FAST)
    assert (result.code, result.events) == (0, ["poll", "final"])
    assert len(raw.requests) == 2
    assert all(b"authorization: bearer" in request.lower() for request in raw.requests)
    assert (way == "proxy") == targets(raw)[1].startswith("GET http://")


def test_stream(run: Callable[..., Result], raw: RawServer) -> None:
    """A stream follows a redirect as well, and events arrive from the new address."""
    data = {"type": "response.completed", "sequence_number": 1, "response": with_text("ok")}
    events = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {json.dumps(data)}\n\n"
    )

    def answer(request: bytes) -> Answer:
        if b"stream=true" not in request:
            return Answer(reply(json.dumps(response("in_progress"))))
        new = b"/new/" in request
        return Answer(events.encode()) if new else redirect(307, "/new/resp_1?stream=true")

    raw.answer = answer
    result = run("monitor", "resp_1", "--stream", *FAST)
    assert (result.code, result.events) == (0, ["poll", "final"])


def test_file_of_a_batch(run: Callable[..., Result], raw: RawServer, tmp_path: Path) -> None:
    """A batch and its files are retrieved from the new address."""
    batch = {"id": "batch_1", "status": "completed", "output_file_id": "file_1"}
    line = {"id": "b", "custom_id": "a", "error": None}
    line["response"] = {"status_code": 200, "body": with_text("ok")}  # type: ignore[assignment]

    def answer(request: bytes) -> Answer:
        path = request.split(b" ", 2)[1].decode()
        if not path.startswith("/new"):
            return redirect(308, f"/new{path}")
        return Answer(reply(json.dumps(line if "content" in path else batch)))

    raw.answer = answer
    result = run("monitor", "batch_1", "--results-file", str(tmp_path / "r.jsonl"), *FAST)
    assert (result.code, result.last["counts"]) == (0, {"completed": 1})


@pytest.mark.row("Poll: a redirect")
@pytest.mark.parametrize("status", STATUSES)
def test_create_is_not_repeated(
    run: Callable[..., Result], raw: RawServer, way: str, status: int
) -> None:
    """A redirected create is an error, as is a redirected cancel: a POST is never sent twice."""
    raw.answer = redirect(status, "/v1/responses/")
    result = run("submit", "--prompt", "x")
    assert result.code in (1, 6)
    assert len(raw.requests) == 1
    assert "/v1/responses/" in result.last["message"]


def test_cancel_is_not_repeated(
    run: Callable[..., Result], raw: RawServer, instant_sleep: None
) -> None:
    """A redirected cancel is not sent again; its status comes from a retrieve."""
    done = Answer(reply(json.dumps(response("in_progress"))))
    raw.answer = lambda request: redirect(307, "/new") if b"POST" in request else done
    result = run("cancel", "resp_1")
    assert (result.code, result.lines[0]["code"]) == (1, "cancel_refused")
    assert [target for target in targets(raw) if "POST" in target] == [
        "POST /v1/responses/resp_1/cancel"
    ]


@pytest.mark.parametrize(
    "location",
    [
        "http://other.test/v1/responses/resp_1",
        "https://127.0.0.1:9/x",
        "//127.0.0.2/x",
        "http://127.0.0.1:1/x",
        "http://[",
    ],
)
def test_other_origin(run: Callable[..., Result], raw: RawServer, location: str) -> None:
    """Another scheme, host or port is never asked; the error names the address."""
    raw.answer = redirect(307, location)
    result = run("show", "resp_1")
    assert (result.code, len(raw.requests)) == (1, 1)
    assert location in result.last["message"]


def test_redirects_in_a_circle(run: Callable[..., Result], raw: RawServer) -> None:
    """After five redirects in a row the last one is the error."""
    raw.answer = redirect(302, "/v1/responses/resp_1")
    result = run("show", "resp_1")
    assert (result.code, result.last["http_status"], len(raw.requests)) == (1, 302, 6)
