"""Replies to a create that are not the API's JSON, or only a part of it: the job is not lost."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from harness import response, with_text
from oaibg.api import salvage
from oaibg.api.client import Client
from oaibg.api.payload import Payload
from oaibg.api.salvage import events_response
from raw_server import KEY, Answer, chunked, head, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from raw_server import RawServer

ROW = "Create: the reply breaks off, never ends or is an unrequested stream, but has the ID"
FAST = ("--poll-seconds", "0.05", "--max-wait-seconds", "20")
SSE = "Content-Type: text/event-stream"
ID = "resp_0123456789"
CREATED = response("queued", id=ID, object="response", output=[])
DONE = with_text("The answer.", id=ID, object="response")


def event(kind: str, number: int, payload: dict[str, Any]) -> bytes:
    """Return a stream event with a response."""
    data = {"type": kind, "sequence_number": number, "response": payload}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


BEGUN = event("response.created", 0, CREATED)
ENDED = event("response.completed", 1, DONE)


def typed(kind: str | None, body: bytes) -> bytes:
    """Return the start of a reply with this type, or none, whose body ends with the connection."""
    return b"HTTP/1.1 200 OK\r\n" + (f"{kind}\r\n" if kind else "").encode() + b"\r\n" + body


def answering(create: Answer, get: bytes | None = None) -> Callable[[bytes], Answer]:
    """Return a server's answers: to the create, and to every GET."""
    done = Answer(get or reply(json.dumps(DONE)))
    return lambda request: create if request.startswith(b"POST") else done


def posts(raw: RawServer) -> int:
    """Return how many POSTs have arrived."""
    return sum(request.startswith(b"POST") for request in raw.requests)


TYPES = [SSE, "Content-Type: text/plain", "Content-Type: application/octet-stream", None]


@pytest.mark.row(ROW)
@pytest.mark.parametrize("kind", [*TYPES, "Content-Type: application/json"])
@pytest.mark.parametrize(
    "body",
    [
        BEGUN,
        BEGUN + ENDED,
        b": hello\n\n" + BEGUN,
        BEGUN[:-2],
        b"\xef\xbb\xbf" + BEGUN.replace(b"event: response.created\n", b""),
        BEGUN.replace(b"\n", b"\r"),
    ],
)
def test_events_without_a_request_for_them(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path, kind: str | None, body: bytes
) -> None:
    """A plain create that is answered with a stream, of any type, leads to the answer."""
    raw.answer = answering(Answer(typed(kind, body)))
    text = tmp_path / "o.md"
    result = run("submit", "--prompt", "x", *FAST, "--output-text-file", str(text))
    assert (result.code, result.id, text.read_text()) == (0, ID, "The answer.")
    assert posts(raw) == 1
    assert (len(raw.requests) == 1) == (body == BEGUN + ENDED)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("then", ["close", "hold"])
def test_stream_of_any_type(
    run: Callable[..., Result], raw: RawServer, kind: str | None, then: Any
) -> None:
    """A requested stream is read whatever its type is, and its answer needs no retrieve."""
    raw.answer = answering(Answer(typed(kind, BEGUN + ENDED), then))
    result = run("submit", "--prompt", "x", "--stream", *FAST)
    assert (result.code, result.id, len(raw.requests)) == (0, ID, 1)
    assert "warning" not in result.events


@pytest.mark.parametrize("kind", TYPES)
def test_resumed_stream_of_any_type(
    run: Callable[..., Result], raw: RawServer, kind: str | None
) -> None:
    """A stream that `monitor` opens is read whatever its type is."""
    stream, running = Answer(typed(kind, BEGUN + ENDED)), Answer(reply(JSON))
    raw.answer = lambda request: stream if b"stream=true" in request else running
    result = run("monitor", ID, "--stream", *FAST)
    assert (result.code, result.events) == (0, ["poll", "final"])


def test_stream_that_is_silent_at_first(raw: RawServer, run: object) -> None:
    """A stream is open as soon as its head has arrived: the first event may come late."""
    raw.answer = Answer(typed(SSE, b""), "hold")

    async def listen() -> object:
        client = Client(raw.base_url, KEY)
        opened = await client.stream(ID, None, 5.0)
        assert not isinstance(opened, Payload)
        await opened.close()
        await client.close()
        return opened

    assert asyncio.run(listen()) is not None


def test_response_in_events() -> None:
    """The response that has ended counts, also if another event follows; a bare end doesn't."""
    bare = event("response.completed", 2, {"id": ID, "status": "completed"})
    later = event("response.in_progress", 3, {"id": ID, "status": "in_progress"})
    for events, status in ((ENDED + later, "completed"), (BEGUN + bare, "queued")):
        found = events_response(events)
        assert found is not None
        assert found.status == status
    assert events_response(JSON) is events_response(b"data: {}\n\n") is None


@pytest.mark.parametrize("stream", [(), ("--stream",)], ids=["plain", "stream"])
def test_json_that_is_called_a_stream(
    run: Callable[..., Result], raw: RawServer, stream: tuple[str, ...]
) -> None:
    """JSON with the type of a stream is read as JSON."""
    raw.answer = answering(Answer(typed(SSE, json.dumps(CREATED).encode())))
    result = run("submit", "--prompt", "x", "--detach", *stream)
    assert (result.code, result.id, result.last["status"]) == (0, ID, "queued")


JSON = json.dumps(CREATED).encode()
PRETTY = json.dumps({"object": "response", **CREATED}, indent=2).encode()
PARTS = {
    "last byte": Answer(reply(JSON)[:-1]),
    "chunks' end": Answer(head("200 OK", "Transfer-Encoding: chunked") + chunked(JSON, 9)[:-5]),
    "chunk": Answer(head("200 OK", "Transfer-Encoding: chunked") + chunked(PRETTY, 60)[:90]),
    "too long": Answer(head("200 OK", "Content-Length: 9999") + JSON),
    "too short": Answer(head("200 OK", f"Content-Length: {len(JSON) - 9}") + JSON),
    "reset": Answer(head("200 OK", "Content-Length: 9999") + JSON, "reset"),
    "open": Answer(head("200 OK") + JSON, "hold"),
    "open, last byte": Answer(reply(JSON)[:-1], "hold"),
    "trickle": Answer(head("200 OK") + JSON, again=b" ", pause=0.01),
    "events": Answer(typed(SSE, BEGUN[:-60])),
    "open events": Answer(typed(SSE, BEGUN), "hold"),
    "comments": Answer(typed(None, BEGUN), again=b": ping\n\n", pause=0.01),
    "chunked events": Answer(
        head("200 OK", "Transfer-Encoding: chunked") + chunked(BEGUN, 40)[:-20], "reset"
    ),
    "wrapped": Answer(reply(json.dumps({"response": CREATED}))),
    "wrapped, with an id": Answer(reply(json.dumps({"id": "req-1", "data": CREATED}))),
    "wrapped in a body": Answer(reply(json.dumps({"statusCode": 200, "body": CREATED}))),
    "wrapped as text": Answer(reply(json.dumps({"statusCode": 200, "body": json.dumps(CREATED)}))),
    "in a list": Answer(reply(b"[" + JSON + b"]")),
    "in a list of data": Answer(reply(json.dumps({"data": [CREATED]}))),
    "after a prefix": Answer(reply(b")]}',\n" + JSON)),
    "in a page": Answer(reply(b"<pre>" + JSON + b"</pre>")),
    "with more lines": Answer(reply(JSON + b'\n{"done":true}\n')),
    "under another key": Answer(reply(json.dumps({"response_id": ID, "status": "queued"}))),
    "in UTF-16": Answer(reply(JSON.decode().encode("utf-16"))[:-1]),
    "not UTF-8": Answer(reply(JSON.replace(b'"queued"', b'"queued","x":"\xff"'))[:-1]),
    "far too short": Answer(head("200 OK", "Content-Length: 10") + JSON),
    "of no length": Answer(head("200 OK", "Content-Length: 0") + JSON),
    "of two lengths": Answer(head("200 OK", "Content-Length: 5", "Content-Length: 9") + JSON),
    "of an invalid length": Answer(head("200 OK", "Content-Length: many") + JSON),
    "without chunks": Answer(head("200 OK", "Transfer-Encoding: chunked") + JSON),
    "short chunk": Answer(
        head("200 OK", "Transfer-Encoding: chunked") + b"9\r\n" + JSON + b"\r\n0\r\n\r\n"
    ),
    "no content": Answer(reply(JSON, "204 No Content")),
    "invalid header": Answer(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n" + JSON),
    "invalid status": Answer(b"HTTP/1.1 2000 OK\r\n\r\n" + JSON),
    "no head": Answer(JSON),
    "gzip": Answer(head("200 OK", "Content-Encoding: gzip") + gzip.compress(JSON)[:-9]),
}


@pytest.mark.row(ROW)
@pytest.mark.parametrize("stream", [(), ("--stream",)], ids=["plain", "stream"])
@pytest.mark.parametrize("answer", PARTS.values(), ids=PARTS)
def test_id_of_a_reply_that_breaks_off(
    run: Callable[..., Result],
    raw: RawServer,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    stream: tuple[str, ...],
) -> None:
    """An ID that has arrived counts, however the rest of the create's reply fails to arrive."""
    monkeypatch.setattr(salvage, "_SETTLE_SECONDS", 0.1)
    raw.answer = answering(answer)
    result = run("submit", "--prompt", "x", "--detach", "--job-key", "k", *stream)
    assert (result.code, result.last["event"], result.id) == (0, "detached", ID)
    again = run("submit", "--prompt", "x", "--job-key", "k", *FAST)
    assert (again.code, again.id, posts(raw)) == (0, ID, 1)


NO_IDS = [
    b'{"id":"resp_01',
    b'{"error":{"message":"m","id":"resp_1"}',
    b'{"metadata":{"id":"resp_1"},"status":"queued"',
    b'{"id":"file_1","object":"file","bytes":',
    b'{"input":"{\\"id\\":\\"resp_1\\"}","x":',
    b'data: {"type":"error","message":"m"}\n\n',
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk"}\n\n',
    b'<p>"response": {"id": "/etc"}',
    b'{"id":"abc","status":"ok"',
    b'{"error":"x","id":"abc"',
    b'{"id":5,"status":["queued"],"x":',
    b'{"id":5,"status":{"queued":1},"x":',
    b'{"code":["server_error"]}',
    b'[{"code":{"a":1}}]',
    b'{"object":"list","data":[{"id":"file_1","object":"file"}],"x":',
]


@pytest.mark.parametrize("body", NO_IDS)
def test_other_ids_are_not_taken(run: Callable[..., Result], raw: RawServer, body: bytes) -> None:
    """An ID that is not clearly a response's is not used: the outcome stays unknown."""
    raw.answer = answering(Answer(typed(None, body)))
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["outcome"]) == (6, "unknown")


OTHER_IDS = {
    "uuid": b'{"id":"3f2b8c1e-1111-4222-8333-444455556666","status":"queued","background":true}',
    "number": b'{"id":12345,"object":"response","status":"queued","output":[]}',
}


@pytest.mark.parametrize("then", ["close", "hold"])
@pytest.mark.parametrize("body", OTHER_IDS.values(), ids=OTHER_IDS)
def test_id_of_another_form_in_a_part(
    run: Callable[..., Result], raw: RawServer, body: bytes, then: Any
) -> None:
    """The ID of another server counts if the reply lacks only its last byte."""
    raw.answer = answering(Answer(reply(body)[:-1], then))
    result = run("submit", "--prompt", "x", "--detach")
    assert (result.code, result.id) == (0, str(json.loads(body)["id"]))


WHOLE = {"id": ID, "object": "response", "status": "queued", "error": None}


@pytest.mark.row(ROW)
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["plain", "stream"])
@pytest.mark.parametrize("status", ["502 Bad Gateway", "400 Bad Request", "401 x", "429 x"])
@pytest.mark.parametrize(
    "body", [WHOLE, {"id": ID, "status": "queued"}, WHOLE | {"error": {"message": "m"}}]
)
def test_response_with_the_status_of_an_error(
    run: Callable[..., Result],
    raw: RawServer,
    options: tuple[str, ...],
    status: str,
    body: dict[str, Any],
) -> None:
    """A create's body that is a whole response is a job, whatever the HTTP status is."""
    raw.answer = answering(Answer(reply(json.dumps(body), status)))
    result = run("submit", "--prompt", "x", *options, *FAST)
    assert (result.code, result.id, posts(raw)) == (0, ID, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"id": "req_1", "error": {"message": "It broke."}},
        {"id": "req_1", "status": "error", "message": "It broke."},
        {"error": {"message": "It broke."}, "response": {"id": ID, "object": "response"}},
    ],
)
def test_error_that_has_an_id(
    run: Callable[..., Result], raw: RawServer, body: dict[str, Any]
) -> None:
    """The ID in the body of an error is not a job's, unless the body is a response."""
    raw.answer = answering(Answer(reply(json.dumps(body), "502 Bad Gateway")))
    result = run("submit", "--prompt", "x", *FAST)
    assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert "It broke." in result.last["message"]


def test_error_with_a_request_id_in_a_200(run: Callable[..., Result], raw: RawServer) -> None:
    """An error in a 200 is one also if it has the ID of the request."""
    error = {"message": "No credit.", "type": "insufficient_quota", "code": "insufficient_quota"}
    raw.answer = Answer(reply(json.dumps({"id": "req_1", "error": error})))
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["code"]) == (1, "insufficient_quota")


@pytest.mark.row(ROW)
@pytest.mark.parametrize(
    ("status", "path", "code"),
    [
        ("303 See Other", f"/v1/responses/{ID}", 0),
        ("202 Accepted", f"http://elsewhere.test/v1/responses/{ID}?x=y", 0),
        ("303 See Other", "/v1/responses/login", 6),
        ("307 Temporary Redirect", f"/v1/responses/{ID}", 1),
    ],
)
def test_id_in_the_location(
    run: Callable[..., Result], raw: RawServer, status: str, path: str, code: int
) -> None:
    """A create that only names the job's address leads to the job; a redirect of it does not."""
    raw.answer = answering(Answer(reply("", status, f"Location: {path}")))
    result = run("submit", "--prompt", "x", *FAST)
    assert (result.code, posts(raw)) == (code, 1)


@pytest.mark.parametrize("kind", TYPES)
def test_retrieve_answered_with_events(
    run: Callable[..., Result], raw: RawServer, kind: str | None
) -> None:
    """A retrieve that is answered with a stream brings the response that has ended."""
    raw.answer = Answer(typed(kind, BEGUN + ENDED + b"data: [DONE]\n\n"))
    result = run("monitor", ID, *FAST)
    assert (result.code, result.events) == (0, ["poll", "final"])


def sse(kind: str, **keys: Any) -> bytes:
    """Return a stream event without a response."""
    return f"data: {json.dumps({'type': f'response.{kind}', **keys})}\n\n".encode()


EMPTY = event("response.completed", 9, DONE | {"output": []})
PIECES = {
    "a finished item": sse("output_item.done", output_index=0, item=DONE["output"][0]),
    "a finished text": sse("output_text.done", output_index=0, text="The answer."),
    "deltas": sse("output_text.delta", delta="The ") + sse("output_text.delta", delta="answer."),
}


@pytest.mark.row(ROW)
@pytest.mark.parametrize("kind", [SSE, "Content-Type: text/plain"])
@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("end", [EMPTY, EMPTY.replace(b"[]", b"null")], ids=["list", "null"])
def test_events_whose_end_has_no_output(
    run: Callable[..., Result], raw: RawServer, kind: str, pieces: bytes, end: bytes
) -> None:
    """A stream in place of a reply, whose end lacks the output, has it in its other events.

    After a create, a retrieve is made as well, because it may have more.
    """
    stream = typed(kind, BEGUN + pieces + end)
    full = DONE | with_text("The whole answer.", id=ID)
    for get, text in (
        (reply(json.dumps(full)), b"The whole answer."),
        (reply(json.dumps(DONE | {"output": []})), b"The answer."),
        (reply("{}", "404 Not Found"), b"The answer."),
        (stream, b"The answer."),
    ):
        raw.requests.clear()
        raw.answer = answering(Answer(stream), get)
        result = run("submit", "--prompt", "x", *FAST)
        assert (result.code, result.id, posts(raw)) == (0, ID, 1)
        assert len(raw.requests) == 2
        assert run("show", ID, "--output-text").out == text
        shutil.rmtree(os.environ["OAIBG_STATE_DIR"])
    raw.answer = Answer(stream)
    assert run("monitor", ID, *FAST).last["output_text_bytes"] == len("The answer.")


def test_events_without_any_output(run: Callable[..., Result], raw: RawServer) -> None:
    """If a stream in place of a reply has no output at all, the job is polled, then has ended."""
    raw.answer = Answer(typed(SSE, BEGUN + EMPTY))
    result = run("submit", "--prompt", "x", *FAST)
    assert (result.code, result.last["output_types"], len(raw.requests)) == (0, {}, 2)


def test_retrieve_answered_with_open_events(
    run: Callable[..., Result], raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream in reply to a retrieve need not end: it brings the last status so far."""
    monkeypatch.setattr(salvage, "_SETTLE_SECONDS", 0.1)
    replies = iter([Answer(typed(SSE, BEGUN), "hold"), Answer(typed(SSE, BEGUN + ENDED), "hold")])
    raw.answer = lambda _: next(replies)
    result = run("monitor", ID, *FAST)
    assert (result.code, result.events) == (0, ["poll", "poll", "final"])
    assert [line["status"] for line in result.lines[:2]] == ["queued", "completed"]


def test_retrieve_answered_with_events_without_a_status(
    run: Callable[..., Result], raw: RawServer
) -> None:
    """Events without a status are no reply to a retrieve, which is repeated."""
    without = event("response.created", 0, {"id": ID})
    replies = iter([Answer(typed(SSE, without)), Answer(reply(json.dumps(DONE)))])
    raw.answer = lambda _: next(replies)
    result = run("monitor", ID, *FAST)
    assert (result.code, result.events) == (0, ["poll_error", "poll", "final"])


def test_part_of_a_retrieve_is_not_used(run: Callable[..., Result], raw: RawServer) -> None:
    """A retrieve whose JSON is cut off is repeated: a part of an answer is not the answer."""
    replies = iter([Answer(reply(json.dumps(DONE))[:-9]), Answer(reply(json.dumps(DONE)))])
    raw.answer = lambda _: next(replies)
    result = run("monitor", ID, *FAST)
    assert (result.code, result.events) == (0, ["poll_error", "poll", "final"])


@pytest.mark.usefixtures("run")
def test_reply_that_came_while_suspended(raw: RawServer) -> None:
    """A reply that arrived while the process was suspended beyond the timeout is still read."""
    suspended, sent = threading.Event(), threading.Event()

    def answer(_: bytes) -> Answer:
        suspended.wait(20)
        threading.Timer(0.1, sent.set).start()
        return Answer(reply(JSON))

    def suspend() -> None:
        suspended.set()
        sent.wait(20)
        time.sleep(1.5)

    async def sending() -> None:
        asyncio.get_running_loop().call_later(0.1, suspend)

    async def create() -> str | None:
        client = Client(raw.base_url, KEY)
        try:
            return (await client.create({"background": True}, sending, timeout=0.3)).id
        finally:
            await client.close()

    raw.answer = answer
    assert asyncio.run(create()) == ID
