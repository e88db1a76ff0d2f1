"""Bytes that are not UTF-8 in a server's replies cost no answer and no job."""

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
BAD = {
    "one byte": (b"a\xffz", "a\ufffdz"),
    "latin-1": (b"na\xefve", "na\ufffdve"),
    "cut off": (b"\xe2\x82", "\ufffd"),
    "between": (b"\xc3\xa4\xf0\x9f\x98 \xc3\xa4", "\u00e4\ufffd \u00e4"),
}

bad = pytest.mark.parametrize(("sent", "text"), BAD.values(), ids=BAD)


def with_bytes(document: object, sent: bytes) -> bytes:
    """Return JSON with these bytes in place of the text `here`."""
    return json.dumps(document).encode().replace(b"here", sent)


def outputs(tmp_path: Path) -> tuple[Path, Path, tuple[str, ...]]:
    """Return a file for the JSON and one for the text, and the options for them."""
    raw, text = tmp_path / "o.json", tmp_path / "o.md"
    return raw, text, ("--output-json-file", str(raw), "--output-text-file", str(text))


@pytest.mark.row("Poll: bytes that are not UTF-8")
@bad
def test_answer(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path, sent: bytes, text: str
) -> None:
    """The text has U+FFFD, with a warning; the saved JSON has the server's bytes, also later."""
    body = with_bytes(with_text("here"), sent)
    raw.answer = Answer(reply(body))
    json_file, text_file, options = outputs(tmp_path)
    result = run("monitor", "resp_1", "--show-output-text", *options, *FAST)
    assert result.code == 0
    assert [line.get("code") for line in result.lines].count("text_replaced") == 1
    assert (json_file.read_bytes(), text_file.read_text()) == (body, text)
    (shown,) = (line for line in result.lines if line["event"] == "output_text")
    assert shown["text"] == text
    later = run("show", "resp_1")
    assert (later.code, later.last["source"]) == (0, "local")
    assert later.last["response"]["output"][0]["content"][0]["text"] == text


def test_bytes_outside_of_the_answer(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path
) -> None:
    """An answer that is intact, or that has U+FFFD itself, brings no warning."""
    for answer in (with_text("ok", metadata={"a": "here"}), with_text("\ufffd")):
        raw.answer = Answer(reply(with_bytes(answer, b"\xff")))
        result = run("monitor", "resp_1", *outputs(tmp_path)[2], *FAST)
        assert (result.code, "warning" in result.events) == (0, False)
        (tmp_path / "state").rename(tmp_path / f"state {id(answer)}")


@pytest.mark.parametrize("sent", [b"a\nb", b"a\tb", b"a\0b", b"a\x1b[1m\r\nb"])
def test_control_characters(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path, sent: bytes
) -> None:
    """Control characters that JSON does not allow in a string cost no answer."""
    raw.answer = Answer(reply(with_bytes(with_text("here"), sent)))
    _, text_file, options = outputs(tmp_path)
    result = run("submit", "--prompt", "x", *options, *FAST)
    assert (result.code, text_file.read_bytes()) == (0, sent)
    assert run("show", "resp_1", "--output-text").out == sent


@bad
def test_create(run: Callable[..., Result], raw: RawServer, sent: bytes, text: str) -> None:
    """A create's reply with such bytes does not lose the ID."""
    raw.answer = Answer(reply(with_bytes(response("queued", instructions="here"), sent)))
    result = run("submit", "--prompt", "x", "--detach")
    assert (result.code, result.id) == (0, "resp_1")


@bad
def test_stream(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path, sent: bytes, text: str
) -> None:
    """Stream events with such bytes are read, and the last one keeps the server's bytes."""
    end = with_bytes(with_text("here"), sent)
    delta = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "here"}
    events = [
        b'{"type":"response.created","sequence_number":0,"response":{"id":"resp_1"}}',
        with_bytes(delta, sent),
        b'{"type":"response.completed","sequence_number":2,"response":' + end + b"}",
    ]
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=iso-8859-1\r\n\r\n"
    raw.answer = Answer(start + body)
    json_file, text_file, options = outputs(tmp_path)
    argv = ("submit", "--prompt", "x", "--stream", "--stream-text")
    result = run(*argv, *options, *FAST)
    assert (result.code, len(raw.requests)) == (0, 1)
    assert (json_file.read_bytes(), text_file.read_text()) == (end, text)
    assert "text_replaced" in [line.get("code") for line in result.lines]
    deltas = [line["delta"] for line in result.lines if line["event"] == "output_text_delta"]
    assert deltas == [text]


@bad
def test_batch(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path, sent: bytes, text: str
) -> None:
    """A batch's result with such bytes is delivered; the results file stays UTF-8."""
    batch = {"id": "batch_1", "status": "completed", "output_file_id": "file_1"}
    line = {"id": "b", "custom_id": "a", "error": None}
    answer = {"status_code": 200, "request_id": None, "body": with_text("here")}
    output = with_bytes(line | {"response": answer}, sent)
    raw.answer = lambda request: Answer(
        reply(output if b"/content" in request else json.dumps(batch))
    )
    results = tmp_path / "r.jsonl"
    result = run("monitor", "batch_1", "--results-file", str(results), *FAST)
    assert (result.code, result.last["counts"]) == (0, {"completed": 1})
    body = json.loads(results.read_text("utf-8"))["response"]["body"]
    assert body["output"][0]["content"][0]["text"] == text
