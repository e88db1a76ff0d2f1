"""A server that sends any bytes, and calls of the real client against it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ledger import count
from oaibg.api.client import Client
from oaibg.contract.errors import CallFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.api.payload import Payload

KEY = "sk-proj-0123456789abcdefghij"
HEADER_VALUE = "gateway-token-98765"
SLACK = 5.0
"""Seconds that a call may take longer than its timeout on a busy machine."""


@dataclass(frozen=True)
class Answer:
    """The bytes to send, and what to do with the connection afterwards."""

    data: bytes
    then: Literal["close", "reset", "hold"] = "close"
    """`hold` keeps the connection open until the client closes it."""
    again: bytes = b""
    """Bytes that are sent repeatedly until the client closes the connection."""
    pause: float = 0.0
    """Seconds between two repetitions."""
    early: bool = False
    """Whether to send before the request arrives."""


class RawServer:
    """A server on the loopback interface that replies to every request with the same bytes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.base_url = f"http://{self.address}/v1"
        self.answer: Answer | Callable[[bytes], Answer] = Answer(b"")
        self.requests: list[bytes] = []
        """The requests that have arrived completely."""
        self.talk: Callable[[socket.socket], None] | None = None
        """What to do on each connection, in place of reading one request and sending the answer."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop accepting connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, suppress(OSError):
            link.settimeout(20)
            if self.talk is not None:
                self.talk(link)
                return
            answer = self.answer
            if not isinstance(answer, Answer) or not answer.early:
                request = read_request(link)
                self.requests.append(request)
                answer = answer if isinstance(answer, Answer) else answer(request)
            link.sendall(answer.data)
            while answer.again:
                link.sendall(answer.again)
                time.sleep(answer.pause)
            if answer.then == "hold":
                while link.recv(65536):
                    pass
            if answer.then == "reset":
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_request(link: socket.socket) -> bytes:
    """Read a complete request."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        if end and len(body) >= sum(lengths):
            return data
        piece = link.recv(65536)
        if not piece:
            raise ConnectionResetError
        data += piece


@dataclass
class Outcome:
    """The outcome of one call."""

    creates: bool
    result: Payload | CallFailed | None = None
    seconds: float = 0.0
    sending: bool = False
    """Whether the client reported that the request is being sent."""
    requests: list[bytes] = field(default_factory=list)
    """The requests that the server received completely."""


def call(
    wire: RawServer,
    name: str,
    answer: Answer | Callable[[bytes], Answer],
    *,
    timeout: float = 30.0,
) -> Outcome:
    """Make one call with the real client; raises every exception except `CallFailed`."""
    count("fuzzed")
    wire.answer, wire.requests = answer, []
    outcome = Outcome(creates=name == "create")

    async def sending() -> None:
        outcome.sending = True

    async def run() -> None:
        client = Client(os.environ["OPENAI_BASE_URL"], KEY)
        began = time.monotonic()
        try:
            if name == "create":
                body = {"model": "m", "input": "x", "background": True}
                outcome.result = await client.create(body, sending, timeout=timeout)
            elif name == "retrieve":
                outcome.result = await client.retrieve("resp_1", timeout)
            else:
                outcome.result = await client.cancel("resp_1", timeout)
        except CallFailed as failure:
            outcome.result = failure
        finally:
            outcome.seconds = time.monotonic() - began
            await client.close()

    asyncio.run(run())
    outcome.requests = list(wire.requests)
    check(outcome, timeout)
    return outcome


def check(outcome: Outcome, timeout: float) -> None:
    """Check that a call ends in time, knows whether it was sent, and contains no secret."""
    assert outcome.seconds <= timeout + SLACK
    result = outcome.result
    if isinstance(result, CallFailed):
        assert result.sent == outcome.sending or not outcome.creates
        assert result.sent or not outcome.requests
        assert not any(
            secret in text for secret in (KEY, HEADER_VALUE) for text in messages(result)
        )
        assert all(len(text) <= 1001 for text in messages(result))
        assert result.message
    elif result is not None:
        json.dumps(result.data, allow_nan=False)
        for text in (result.id, result.status, result.model):
            assert text is None or isinstance(text.encode(), bytes)
        assert isinstance(result.text, str)


def messages(failure: CallFailed) -> list[str]:
    """Return the texts of a failure that may come from the server."""
    return [failure.code, failure.message, failure.request_id or ""]


def reply(body: bytes | str, status: str = "200 OK", *headers: str | bytes) -> bytes:
    """Return a correct reply with this body."""
    body = body if isinstance(body, bytes) else body.encode()
    return head(status, *headers, f"Content-Length: {len(body)}") + body


def head(status: str, *headers: str | bytes) -> bytes:
    """Return the head of a reply with this status and these headers."""
    lines: list[str | bytes] = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    raw = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join(raw) + b"\r\n\r\n"


def chunked(body: bytes, size: int) -> bytes:
    """Return a body in chunked encoding."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
