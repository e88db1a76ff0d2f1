"""Replies that come before the request has been sent, or after another reply on its connection."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from harness import with_text
from raw_server import chunked, head, read_request, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from raw_server import RawServer

REFUSAL = json.dumps({"error": {"message": "No.", "type": "invalid_request_error", "code": None}})
CODES = {"413 Content Too Large": 1, "401 Unauthorized": 8, "400 Bad Request": 1}
BOTH = ("resp_a", "resp_b")


@pytest.mark.parametrize("ending", ["closed", "half closed", "reset", "open"])
@pytest.mark.parametrize("delay", [0.0, 0.2])
@pytest.mark.parametrize("status", CODES)
def test_large_request_that_is_refused_early(
    run: Callable[..., Result],
    raw: RawServer,
    tmp_path: Path,
    status: str,
    delay: float,
    ending: str,
) -> None:
    """A refusal counts if the server sends it before it has read the whole request."""

    def refuse(link: socket.socket) -> None:
        link.recv(100)
        time.sleep(delay)
        link.sendall(reply(REFUSAL, status, "Connection: close"))
        if ending == "half closed":
            link.shutdown(socket.SHUT_WR)
        if ending != "closed":
            time.sleep(0.1 if ending == "reset" else 1.0)
        if ending == "reset":
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    raw.talk = refuse
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("x" * (9 << 20))
    result = run("submit", "--prompt-file", str(prompt), "--max-wait-seconds", "5")
    assert (result.code, result.last["outcome"]) == (CODES[status], "not_created")
    assert "No." in result.last["message"]


def test_large_request_with_an_early_reply(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path
) -> None:
    """A server may begin to reply before it has read the request, and still take all of it."""
    sizes: list[int] = []

    def talk(link: socket.socket) -> None:
        sent = reply(json.dumps(with_text("The answer.", id="resp_a")))
        first = link.recv(4)
        link.sendall(sent[:20])
        time.sleep(0.1)
        sizes.append(len(first + read_request(link)))
        link.sendall(sent[20:])

    raw.talk = talk
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("x" * (9 << 20))
    result = run("submit", "--prompt-file", str(prompt), "--max-wait-seconds", "15")
    assert (result.code, result.id) == (0, "resp_a")
    assert sizes[0] > 9 << 20


LEFT_OVER = {
    "at once": (1.0, 0.0),
    "late": (0.0, 0.02),
    "its head at once": (0.1, 0.1),
    "most of it at once": (0.9, 0.1),
}
"""How much of a reply that nobody asked for follows at once, and when the rest follows."""


@pytest.mark.parametrize("framing", ["length", "chunks", "large"])
@pytest.mark.parametrize(("share", "delay"), LEFT_OVER.values(), ids=LEFT_OVER)
def test_left_over_reply(
    run: Callable[..., Result], raw: RawServer, framing: str, share: float, delay: float
) -> None:
    """A reply that no request asked for is not taken for the reply to the next request."""
    polls: Counter[str] = Counter()

    def talk(link: socket.socket) -> None:
        while True:
            line = read_request(link).partition(b"\r\n")[0].decode()
            asked = next(one for one in BOTH if one in line)
            polls[asked] += 1
            running: dict[str, Any] = {"id": asked, "status": "in_progress"}
            payload = with_text(f"Of {asked}.", id=asked) if polls[asked] > 3 else running
            if framing == "large":
                payload["metadata"] = {"a": "x" * 300_000}
            body = json.dumps(payload).encode()
            sent = reply(body)
            if framing == "chunks":
                sent = head("200 OK", "Transfer-Encoding: chunked") + chunked(body, 50)
            other = next(one for one in BOTH if one != asked)
            more = reply(json.dumps(with_text("Of another job.", id=other)))
            cut = int(len(more) * share)
            link.sendall(sent + more[:cut])
            time.sleep(delay)
            link.sendall(more[cut:])

    raw.talk = talk
    poll = "0.6" if share == 0 else "0.2"  # the late reply arrives before the next poll
    result = run("monitor", *BOTH, "--poll-seconds", poll, "--max-wait-seconds", "20")
    assert result.code == 0
    for one in BOTH:
        assert run("show", one, "--output-text").out == f"Of {one}.".encode()
