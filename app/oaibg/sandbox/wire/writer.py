"""Writes one reply to the client, at the pace and to the length that a fault allows."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Send

    from oaibg.sandbox.faults import Fault
    from oaibg.sandbox.request_log import LoggedRequest
    from oaibg.sandbox.wire.connection import Connection

_STREAM_PREFIX = 1024
"""The default number of bytes of a stream before a `truncate` fault."""


class Writer:
    """Sends the reply to one request."""

    def __init__(
        self, connection: Connection, send: Send, fault: Fault | None, log: LoggedRequest
    ) -> None:
        self.connection = connection
        self.fault = fault
        self._send = send
        self._log = log
        self._left: int | None = None
        """The bytes of the body that may still be sent; None for all."""

    async def send(self, status: int, media_type: str, body: bytes) -> None:
        """Send a complete reply."""
        self._left = self._allowance(len(body) // 2)
        await self._start(status, media_type, (b"content-length", str(len(body)).encode()))
        if self.fault is None:
            await self.finish(body)
        elif await self.write(body):
            await self.finish()

    async def start_stream(self) -> None:
        """Send the headers of an event stream."""
        self._left = self._allowance(_STREAM_PREFIX)
        media_type = "text/event-stream; charset=utf-8"
        await self._start(200, media_type, (b"cache-control", b"no-cache"))

    async def write(self, data: bytes) -> bool:
        """Send a part of the body; return False if nothing more can or may be sent."""
        whole = self._left is None or len(data) <= self._left
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if not await self._write_at_pace(data):
            return False
        if not whole or self._left == 0:
            await self.connection.hang_up()
            return False
        return True

    async def finish(self, rest: bytes = b"") -> None:
        """End the body."""
        await self._send({"type": "http.response.body", "body": rest, "more_body": False})

    async def _start(self, status: int, media_type: str, extra: tuple[bytes, bytes]) -> None:
        added = {} if self.fault is None else self.fault.headers
        headers = {
            "content-type": media_type,
            "x-request-id": f"req_{secrets.token_hex(16)}",
            "openai-version": "2020-10-01",
            **{key.lower(): value for key, value in added.items()},
        }
        raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        self._log.status = status
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*raw, extra]}
        )

    async def _write_at_pace(self, data: bytes) -> bool:
        """Send data, one byte at a time for `drip`; return False if the client disconnects."""
        if self.fault is None or self.fault.kind != "drip":
            await self._write(data)
            return True
        pause = 1 if self.fault.seconds is None else self.fault.seconds
        for place in range(len(data)):
            if await self.connection.gone_after(pause):
                return False
            await self._write(data[place : place + 1])
        return True

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def _allowance(self, default: int) -> int | None:
        if self.fault is None or self.fault.kind != "truncate":
            return None
        return default if self.fault.after is None else self.fault.after
