"""The real client against a server that sends any bytes: fuzzed, odd, endless and hostile."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness import environment
from oaibg.api import transport
from oaibg.api.payload import Payload, is_response_id
from oaibg.contract.errors import CallFailed
from oaibg.engine.verdicts import CreateVerdict, judge_create
from raw_server import HEADER_VALUE, KEY, Answer, RawServer, call, chunked, head, messages, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

slow = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """Start the server, with an environment that contains only the variables for it."""
    wire = RawServer()
    ours = environment(wire.base_url, tmp_path_factory.mktemp("state"))
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - ours.keys():
            patch.delenv(name)
        for name, value in ours.items():
            patch.setenv(name, value)
        patch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Gateway: {HEADER_VALUE}")
        yield wire
    wire.close()


# --- payloads and replies -------------------------------------------------------------------


def completed(more: str = "") -> str:
    """Return a completed response with a text, and with more keys before its output."""
    output = '[{"type":"message","content":[{"type":"output_text","text":"The text."}]}]'
    return f'{{"id":"resp_1","status":"completed",{more}"output":{output}}}'


def nested(opening: str, closing: str, levels: int = 100_000) -> str:
    """Return this number of nested brackets."""
    return opening * levels + closing * levels


RIGHT = completed().encode()
ODD_PAYLOADS: dict[str, bytes] = {
    "plain": RIGHT,
    "nan": completed('"x":[NaN,Infinity,-Infinity,1e999],').encode(),
    "digits": completed(f'"x":{"9" * 10_000},"y":-{"1" * 5000},').encode(),
    "surrogates": completed('"model":"\\ud800","error":{"code":"\\udfff"},').encode(),
    "twice": completed('"id":"other","id":"resp_1",').encode(),
    "mark": b"\xef\xbb\xbf" + RIGHT,
    "utf-16": completed().encode("utf-16"),
    "utf-32": completed().encode("utf-32"),
    "space": b"\r\n\t " + RIGHT + b" " * 10_000,
}
NO_PAYLOADS: list[bytes] = [
    b"",
    b"null",
    b"NaN",
    b"[]",
    b"5",
    b'"text"',
    b"{}",
    b'{"id":null,"status":null}',
    b'{"id":5,"status":["queued"]}',
    b'{"id":"","status":""}',
    b'{"id":"../x","status":"queued"}',
    b'{"id":"\\ud800","status":"\\udfff"}',
    b'{"id":"resp_1","status":"queued"',
    b'{"id":"resp_1","status":"\xff"}',
    b'{"error":"an error with 200"}',
    b'{"error":{"message":null,"code":{"a":[1]},"param":["x"],"type":5}}',
    b'{"error":{"message":"\\ud800","code":"\\udfff","param":"\\ud800"}}',
    b'{"error":{"message":{"a":NaN},"code":[1,{}]}}',
    b'{"error":{"message":"m","code":%b}}' % (b"9" * 10_000),
    b'{"error":%b}' % nested("[", "]").encode(),
    b'{"detail":[{"loc":["body"],"msg":"m"}]}',
    nested("[", "").encode(),
    nested('{"a":', "").encode(),
    completed(f'"x":{nested("[", "]")},').encode(),
    completed('"x":{},'.format(nested('{"a":[', "]}", 50_000))).encode(),
    b"<html><body>A proxy's page</body></html>",
    b"\x00\xff\xfe",
]
BODIES = st.sampled_from([*ODD_PAYLOADS.values(), *NO_PAYLOADS]) | st.binary(max_size=20)
STATUSES = st.one_of(
    st.sampled_from(["200 OK", "200", "201 \xe9", "202 x"]),
    st.sampled_from(["400 x", "401 x", "403 x", "404 x", "408 x", "429 x", "500 x", "503 x"]),
    st.sampled_from(["000 x", "099 x", "101 x", "199 x", "204 x", "205 x", "299 x", "304 x"]),
    st.sampled_from(["307 x", "600 x", "999 x", "1000 x", "-1 x", "2e2 x", "two x", ""]),
)
HEADERS = st.sampled_from(
    [
        *("Content-Encoding: gzip", "Content-Encoding: deflate, gzip", "Content-Encoding: odd"),
        *("Content-Type: text/html; charset=hex", "Content-Type: \xff", "Content-Type:"),
        *("Retry-After: 5", "Retry-After: \xff\xfe", "Retry-After-Ms: " + "9" * 5000),
        *("Location: http://[::1", "Location: /\xff", "Location: //u:p@h", "Location:"),
        *("X-Request-Id: " + "y" * 60_000, "X-Request-Id: \xff", "X: " + "y" * 200_000),
        *("Connection: close", "Transfer-Encoding: gzip, chunked", "Content-Length: -5"),
        *("Content-Length: " + "9" * 30, "Content-Length: 3", "no colon", ": no name", " folded"),
        *("Upgrade: h2c", "Set-Cookie: a=b; expires=x", "Transfer-Encoding: chunked"),
    ]
)


def framed(status: str, headers: list[str], body: bytes, framing: str) -> bytes:
    """Return a reply whose head may contradict its body."""
    if framing == "chunked":
        return head(status, *headers, "Transfer-Encoding: chunked") + chunked(body, 7000)
    if framing == "broken chunks":
        return head(status, *headers, "Transfer-Encoding: chunked") + b"5\r\n" + body + b"zz\r\n"
    if framing == "gzip":
        return reply(gzip.compress(body, 1), status, *headers, "Content-Encoding: gzip")
    if framing == "deflate":
        return reply(zlib.compress(body, 1)[:-3], status, *headers, "Content-Encoding: deflate")
    if framing == "none":
        return head(status, *headers) + body
    length = max(len(body) + {"right": 0, "short": -1, "long": 10}[framing], 0)
    return head(status, *headers, f"Content-Length: {length}") + body


FRAMINGS = [
    "right",
    "right",
    "short",
    "long",
    "none",
    "chunked",
    "broken chunks",
    "gzip",
    "deflate",
]
FRAMED = st.builds(
    framed, STATUSES, st.lists(HEADERS, max_size=2), BODIES, st.sampled_from(FRAMINGS)
)


def mutated(raw: bytes, at: int, cut: int, piece: bytes) -> bytes:
    """Return the reply with some bytes replaced, mostly in the head."""
    at %= min(len(raw) + 1, 200)
    return raw[:at] + piece + raw[at + cut :]


def after_others(raw: bytes, status: int, times: int) -> bytes:
    """Return a reply after this number of informational replies."""
    return b"HTTP/1.1 %d x\r\n\r\n" % status * times + raw


DATA = st.one_of(
    FRAMED,
    st.builds(mutated, FRAMED, st.integers(0, 200), st.integers(0, 9), st.binary(max_size=3)),
    st.builds(lambda raw, end: raw[:end], FRAMED, st.integers(0, 150)),
    st.builds(after_others, FRAMED, st.integers(100, 104), st.sampled_from([1, 3, 500])),
    st.binary(max_size=60),
)
ODD_CHARSET = Answer(reply(b'{"error":{"message":"m"}}', "400 x", "Content-Type: a; charset=hex"))
ANSWERS = st.builds(
    Answer,
    DATA,
    then=st.sampled_from(["close"] * 12 + ["reset"] * 2 + ["hold"]),
    early=st.sampled_from([False] * 5 + [True]),
)


# --- tests ----------------------------------------------------------------------------------


@pytest.mark.slow
@slow(max_examples=80)
@given(answer=ANSWERS, name=st.sampled_from(["retrieve", "cancel"]))
@example(answer=ODD_CHARSET, name="retrieve")
def test_any_answer_to_a_read(wire: RawServer, answer: Answer, name: str) -> None:
    """A retrieve returns a payload with a status or fails; a cancel may also return None."""
    result = call(wire, name, answer, timeout=0.3).result
    if isinstance(result, Payload):
        assert result.status is not None
    else:
        assert isinstance(result, CallFailed) or name == "cancel"


@pytest.mark.slow
@slow(max_examples=80)
@given(answer=ANSWERS)
@example(answer=ODD_CHARSET)
def test_any_answer_to_a_create(wire: RawServer, answer: Answer) -> None:
    """A create returns a usable ID, or its outcome is unknown if the status allows it."""
    result = call(wire, "create", answer, timeout=0.3).result
    if isinstance(result, Payload):
        assert is_response_id(result.id or "")
        return
    assert isinstance(result, CallFailed)
    status = result.http_status
    refused = status is not None and 300 <= status < 500 and status not in (303, 408)
    refused = refused or (status == 503 and result.code == "server_is_overloaded")
    if judge_create(result) is CreateVerdict.UNKNOWN:
        assert result.sent
    else:
        assert refused or not result.sent


@pytest.mark.parametrize("name", ["create", "retrieve"])
@pytest.mark.parametrize("body", ODD_PAYLOADS.values(), ids=ODD_PAYLOADS)
def test_odd_payloads(wire: RawServer, name: str, body: bytes) -> None:
    """An odd payload keeps its ID, status, text and bytes."""
    result = call(wire, name, Answer(reply(body))).result
    assert isinstance(result, Payload)
    assert (result.id, result.status, result.text) == ("resp_1", "completed", "The text.")
    assert result.raw == body


FLOODS = {
    "silence": Answer(b"", "hold"),
    "head that stops": Answer(b"HTTP/1.1 200 OK\r\nContent-Le", "hold"),
    "body that stops": Answer(head("200 OK", "Content-Length: 500") + b'{"id"', "hold"),
    "informational": Answer(b"", again=b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    "headers": Answer(b"HTTP/1.1 200 OK\r\n", again=b"A: b\r\n" * 500),
    "one header": Answer(b"HTTP/1.1 200 OK\r\nA: ", again=b"b" * 4000),
    "status line": Answer(b"HTTP/1.1 200 ", again=b"x" * 4000),
    "body": Answer(head("200 OK"), again=b" " * 50_000),
    "long body": Answer(head("200 OK", f"Content-Length: {10**15}"), again=b" " * 50_000),
    "chunks": Answer(head("200 OK", "Transfer-Encoding: chunked"), again=b"1\r\n \r\n" * 500),
    "chunk's size": Answer(head("200 OK", "Transfer-Encoding: chunked"), again=b"0" * 500),
    "trailers": Answer(
        head("200 OK", "Transfer-Encoding: chunked") + b"0\r\n", again=b"A: b\r\n" * 500
    ),
    "drops": Answer(head("200 OK"), again=b" ", pause=0.01),
    "error": Answer(head("500 x"), again=b" " * 50_000),
}


@pytest.mark.parametrize("name", ["create", "retrieve", "cancel"])
@pytest.mark.parametrize("answer", FLOODS.values(), ids=FLOODS)
def test_answers_without_an_end(
    wire: RawServer, monkeypatch: pytest.MonkeyPatch, name: str, answer: Answer
) -> None:
    """An endless reply ends at the size limit or the timeout; a create's outcome is unknown."""
    # Only a smaller limit can be reached without sending a gigabyte.
    monkeypatch.setattr(transport, "REPLY_BYTES_MAX", 1 << 20)
    result = call(wire, name, answer, timeout=0.2).result
    assert isinstance(result, CallFailed)
    assert (judge_create(result) is CreateVerdict.UNKNOWN) == result.sent


def test_size_limit_of_a_reply(wire: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply of the maximum size is read; one more byte fails."""
    monkeypatch.setattr(transport, "REPLY_BYTES_MAX", 5000)
    within, over = (RIGHT + b" " * (size - len(RIGHT)) for size in (5000, 5001))
    assert isinstance(call(wire, "retrieve", Answer(reply(within))).result, Payload)
    result = call(wire, "retrieve", Answer(reply(over))).result
    assert isinstance(result, CallFailed)
    assert (result.code, result.http_status) == ("reply_too_large", None)


@pytest.mark.parametrize("layers", [1, 2])
def test_size_limit_of_a_compressed_reply(
    wire: RawServer, monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    """The size limit applies to the decompressed reply."""
    monkeypatch.setattr(transport, "REPLY_BYTES_MAX", 1 << 20)
    body = RIGHT + b" " * (32 << 20)
    for _ in range(layers):
        body = gzip.compress(body, 9)
    encodings = ", ".join(["gzip"] * layers)
    answer = Answer(reply(body, "200 OK", f"Content-Encoding: {encodings}"))
    result = call(wire, "retrieve", answer).result
    assert isinstance(result, CallFailed)
    assert result.code == "reply_too_large"


# --- secrets --------------------------------------------------------------------------------


def error_body(**inner: object) -> str:
    """Return an error in the API's envelope."""
    return json.dumps({"error": inner})


PLACES: dict[str, Callable[[str], bytes]] = {
    "message": lambda text: reply(error_body(message=text), "400 x"),
    "code": lambda text: reply(error_body(message="m", code=text), "400 x"),
    "code's key": lambda text: reply(error_body(message="m", code={text: [text]}), "400 x"),
    "field": lambda text: reply(error_body(message="m", param=text), "400 x"),
    "inner message": lambda text: reply(error_body(message={"a": [text]}), "500 x"),
    "detail": lambda text: reply(json.dumps({"detail": [{text: text}]}), "422 x"),
    "plain error": lambda text: reply(json.dumps({"error": text}), "429 x"),
    "plain text": lambda text: reply(text, "403 x"),
    "broken JSON": lambda text: reply(f'{{"error":{{"message":"{text}"', "401 x"),
    "page": lambda text: reply(f"<html>{text}</html>", "502 x"),
    "request id": lambda text: reply(error_body(message="m"), "400 x", f"X-Request-Id: {text}"),
    "location": lambda text: reply("", "307 x", f"Location: http://h/?key={text}"),
    "reason": lambda text: reply("", f"400 {text}"),
    "status line": lambda text: f"{text} 200 OK\r\n\r\n".encode(),
    "header's line": lambda text: f"HTTP/1.1 200 OK\r\n{text}\r\n\r\n".encode(),
    "chunk's size": lambda text: (
        head("200 OK", "Transfer-Encoding: chunked") + f"{text}\r\n".encode()
    ),
    "length": lambda text: head("200 OK", f"Content-Length: {text}"),
    "transfer encoding": lambda text: head("200 OK", f"Transfer-Encoding: {text}"),
    "charset": lambda text: head("400 x", f"Content-Type: text/plain; charset={text}"),
    "unusable id": lambda text: reply(json.dumps({"id": f"/{text}", "status": "queued"})),
    "not JSON": reply,
}


@pytest.mark.slow
@slow(max_examples=80)
@given(
    place=st.sampled_from(sorted(PLACES)),
    secret=st.sampled_from([KEY, HEADER_VALUE]),
    before=st.sampled_from([0, 1]) | st.integers(940, 1010),
    after=st.sampled_from([0, 1, 2000]),
)
def test_echoed_secrets(wire: RawServer, place: str, secret: str, before: int, after: int) -> None:
    """A key or header value that a server echoes anywhere in a reply is masked completely."""
    text = "x" * before + secret + "y" * after
    result = call(wire, "create", Answer(PLACES[place](text))).result
    assert isinstance(result, CallFailed)
    # If the text were cut in the middle of a secret, its beginning would remain.
    assert not any(secret[:8] in text for text in messages(result))


def test_echoed_key_in_the_request_id_of_a_payload(wire: RawServer) -> None:
    """A request ID that contains the key is masked in a successful create."""
    result = call(wire, "create", Answer(reply(RIGHT, "200 OK", f"X-Request-Id: {KEY}"))).result
    assert isinstance(result, Payload)
    assert KEY not in (result.request_id or "")


PASSWORD = "hunter2-and-more"
CREDENTIALS = {
    "url": f"http://user:{PASSWORD}@h/v1",
    "url without a scheme": f"//user:{PASSWORD}@h/v1",
    "header": base64.b64encode(f"user:{PASSWORD}".encode()).decode(),
    "password": f"the password {PASSWORD} is wrong",
}


@pytest.mark.parametrize("place", ["message", "code", "location", "request id"])
@pytest.mark.parametrize("text", CREDENTIALS.values(), ids=CREDENTIALS)
def test_credentials_of_the_base_url(
    wire: RawServer, monkeypatch: pytest.MonkeyPatch, text: str, place: str
) -> None:
    """The user and password of `OPENAI_BASE_URL` are masked like the key."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:{PASSWORD}@{wire.address}/v1")
    outcome = call(wire, "create", Answer(PLACES[place](text)))
    assert isinstance(outcome.result, CallFailed)
    assert CREDENTIALS["header"].encode() in outcome.requests[0]
    for secret in (PASSWORD, CREDENTIALS["header"]):
        assert not any(secret in text for text in messages(outcome.result))


def test_echoed_header_that_is_json(wire: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in a header's JSON value is masked, even if a reply escapes its quotes."""
    value = '{"provider":"p","api_key":"gateway-secret-1"}'
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Config: {value}")
    body = json.dumps({"detail": {"headers": {"x-config": value}}})
    result = call(wire, "create", Answer(reply(body, "400 x"))).result
    assert isinstance(result, CallFailed)
    assert not any("gateway-secret-1" in text for text in messages(result))
