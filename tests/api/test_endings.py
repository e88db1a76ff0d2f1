"""Replies whose JSON is whole, although the server says that more follows or never ends them."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING

import pytest

from harness import with_text
from raw_server import Answer, chunked, head, reply

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from harness import Result
    from raw_server import RawServer

ID = "resp_0123456789"
DONE = json.dumps(with_text("The answer.", id=ID, object="response")).encode()
LARGE = json.dumps(with_text("The answer." + "}" * 1_000_000, id=ID)).encode()
TOO_LONG = "Content-Length: 99999999"
CHUNKS = "Transfer-Encoding: chunked"
GZIP = "Content-Encoding: gzip"
ENDINGS = {
    "too long": Answer(head("200 OK", TOO_LONG) + DONE),
    "too long, open": Answer(head("200 OK", TOO_LONG) + DONE, "hold"),
    "too long, reset": Answer(head("200 OK", TOO_LONG) + DONE, "reset"),
    "too long, large": Answer(head("200 OK", TOO_LONG) + LARGE + b"\n"),
    "open": Answer(head("200 OK") + DONE, "hold"),
    "chunks": Answer(head("200 OK", CHUNKS) + chunked(DONE, 9)[:-5]),
    "chunks, open": Answer(head("200 OK", CHUNKS) + chunked(DONE, 9)[:-5], "hold"),
    "gzip, cut off": Answer(head("200 OK", GZIP) + gzip.compress(DONE)[:-8]),
    "gzip, too long": Answer(head("200 OK", GZIP, TOO_LONG) + gzip.compress(DONE)),
    "gzip, open": Answer(head("200 OK", GZIP) + gzip.compress(DONE), "hold"),
    "spaces": Answer(head("200 OK") + DONE, again=b" ", pause=0.05),
}


@pytest.mark.parametrize(("command", "code"), [("monitor", 0), ("show", 0), ("cancel", 4)])
@pytest.mark.parametrize("answer", ENDINGS.values(), ids=ENDINGS)
def test_whole_object_is_a_reply(
    run: Callable[..., Result], raw: RawServer, answer: Answer, command: str, code: int
) -> None:
    """A response that has arrived whole counts, however its reply ends or does not end."""
    raw.answer = answer
    options = ("--max-wait-seconds", "9") if command == "monitor" else ()
    began = time.monotonic()
    result = run(command, ID, *options)
    assert result.code == code
    assert "poll_error" not in result.events
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("answer", ["close", "hold", "reset"])
def test_whole_refusal_is_a_reply(run: Callable[..., Result], raw: RawServer, answer: str) -> None:
    """A create's refusal that has arrived whole counts, however its reply ends."""
    error = {"error": {"message": "No.", "type": "invalid_request_error", "code": None}}
    sent = head("400 Bad Request", TOO_LONG) + json.dumps(error).encode()
    raw.answer = Answer(sent, answer)  # type: ignore[arg-type]
    result = run("submit", "--prompt", "x", "--max-wait-seconds", "9")
    assert (result.code, result.last["outcome"]) == (1, "not_created")


def test_pause_inside_an_object(run: Callable[..., Result], raw: RawServer) -> None:
    """An object that pauses after a brace is read to its end."""
    sent = head("200 OK", CHUNKS) + chunked(DONE, 10_000)
    cut = sent.index(b"}") + 1

    def talk(link: socket.socket) -> None:
        link.recv(65536)
        link.sendall(sent[:cut])
        time.sleep(0.8)
        link.sendall(sent[cut:])

    raw.talk = talk
    result = run("monitor", ID, "--max-wait-seconds", "9")
    assert (result.code, result.events) == (0, ["poll", "final"])


def test_reply_with_more_than_an_object_is_none(run: Callable[..., Result], raw: RawServer) -> None:
    """A body that is not an object is not cut off: two objects are a broken reply."""
    answers = iter([Answer(reply(DONE + b"\n" + DONE)), Answer(reply(DONE))])
    raw.answer = lambda _: next(answers)
    result = run("monitor", ID, "--poll-seconds", "0.05", "--max-wait-seconds", "9")
    assert (result.code, result.events) == (0, ["poll_error", "poll", "final"])
