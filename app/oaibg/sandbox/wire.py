"""How an answer goes out: whole, live, late, in drops, cut short, or not at all."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from .checks import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from .faults import Fault
    from .jobs import Event, Job
    from .personality import Personality

_LOOK_AGAIN = 0.05
"""Seconds between two looks at a job that is streamed: a cancel shows within that time."""
_STREAM_PREFIX = 1024
"""Bytes of a stream that a `truncate` without `after` lets through."""


class Link(Protocol):
    """A connection as the server keeps it."""

    @property
    def transport(self) -> asyncio.Transport:
        """The transport under it."""


@dataclass(slots=True)
class Reply:
    """An answer that is ready to go out: a body, or the events of a job from some point on."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    events_of: Job | None = None
    starting_after: int = -1
    wait_for: Job | None = None
    """A job without background mode: its end is awaited, and its payload is the body."""


@dataclass(slots=True)
class Wire:
    """One exchange's way back to the client, and what a fault does to it."""

    _scope: Scope
    _receive: Receive
    _send: Send
    _show: Callable[[Job, str], dict[str, Any]]
    """Gives a job's payload as it goes out while the job has that status."""
    _find_link: Callable[[tuple[str, int]], Link | None]
    _fault: Fault | None
    _on_status: Callable[[int], None]
    """Told of the status when the answer begins."""
    _left: int | None = None
    """Bytes of the body that may still go out; None for all."""

    async def gone_after(self, seconds: float | None) -> bool:
        """Wait that many seconds (None: for ever); True as soon as the client has gone."""
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True

    async def reset(self) -> None:
        """Abort the connection, so that the client sees a reset (RST)."""
        if link := self._find_link(self._scope["client"]):
            raw: Any = link.transport.get_extra_info("socket")
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            link.transport.abort()
            await self.gone_after(None)

    async def send(self, reply: Reply) -> None:
        """Send the answer as the fault lets it out."""
        if reply.events_of is not None:
            await self._send_events(reply.events_of, reply)
            return
        if reply.wait_for is not None:
            job = reply.wait_for
            if await self._gone_until_end(job):
                return
            payload = self._show(job, job.status(time.time()))
            reply = Reply(body=to_json(payload), headers=reply.headers)
        length = str(len(reply.body))
        self._left = self._allowance(len(reply.body) // 2)
        await self._start(reply, (b"content-length", length.encode()))
        if await self._write(reply.body):
            await self._finish()

    async def _send_events(self, job: Job, reply: Reply) -> None:
        fault = self._fault
        stops = fault.after or 0 if fault and fault.kind in ("cut", "silent") else None
        self._left = self._allowance(_STREAM_PREFIX)
        await self._start(reply, (b"cache-control", b"no-cache"))
        next_number = reply.starting_after + 1
        sent = 0
        timeline, version = job.timeline(), job.cancelled
        while stops is None or sent < stops:
            if job.cancelled != version:
                timeline, version = job.timeline(), job.cancelled
            over = next_number >= len(timeline)
            if over and job.status(time.time()) not in ("queued", "in_progress"):
                break
            early = _LOOK_AGAIN if over else timeline[next_number][0] - time.time()
            if early > 0:
                if await self.gone_after(min(early, _LOOK_AGAIN)):
                    return
                continue
            if not await self._write(to_sse(self._shown(timeline[next_number][1], job))):
                return
            next_number += 1
            sent += 1
        if fault and fault.kind == "silent" and await self.gone_after(fault.seconds):
            return
        await self._finish()

    def _shown(self, event: Event, job: Job) -> Event:
        if "response" not in event:
            return event
        return {**event, "response": self._show(job, event["response"]["status"])}

    async def _start(self, reply: Reply, extra: tuple[bytes, bytes]) -> None:
        added = {} if self._fault is None else self._fault.headers
        headers = {
            "content-type": reply.media_type,
            "x-request-id": f"req_{secrets.token_hex(16)}",
            "openai-version": "2020-10-01",
            **{key.lower(): value for key, value in reply.headers.items()},
            **{key.lower(): value for key, value in added.items()},
        }
        raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        self._on_status(reply.status)
        await self._send(
            {"type": "http.response.start", "status": reply.status, "headers": [*raw, extra]}
        )

    async def _write(self, data: bytes) -> bool:
        """Send a piece of the body; False when nothing more can or may be sent."""
        whole = self._left is None or len(data) <= self._left
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if not await self._emit(data):
            return False
        if not whole or self._left == 0:
            await self._hang_up()
            return False
        return True

    async def _emit(self, data: bytes) -> bool:
        if self._fault is None or self._fault.kind != "drip":
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            return True
        for place in range(len(data)):
            if await self.gone_after(_seconds(self._fault, 1)):
                return False
            drop = data[place : place + 1]
            await self._send({"type": "http.response.body", "body": drop, "more_body": True})
        return True

    async def _finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _hang_up(self) -> None:
        """Close the connection in the middle of an answer, once what was written is out."""
        if link := self._find_link(self._scope["client"]):
            link.transport.close()
        await self.gone_after(None)

    def _allowance(self, default: int) -> int | None:
        fault = self._fault
        if fault is None or fault.kind != "truncate":
            return None
        return default if fault.after is None else fault.after

    async def _gone_until_end(self, job: Job) -> bool:
        while job.status(now := time.time()) in ("queued", "in_progress"):
            if await self.gone_after(min(job.ended - now, 3600)):
                return True
        return False


def to_json(value: object) -> bytes:
    """Encode as the API does: UTF-8, or escapes where the text has lone surrogates."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def to_sse(event: Event) -> bytes:
    """Encode one event of a stream."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), to_json(event))


def error_reply(error: ApiError, personality: Personality) -> Reply:
    """Return the answer that an error is on a server of this personality."""
    status, body = personality.error(error)
    if isinstance(body, str):
        return Reply(status, body.encode("utf-8", "replace"), "text/plain; charset=utf-8")
    return Reply(status, to_json(body))


def fault_reply(fault: Fault, path: str, personality: Personality) -> Reply:
    """Return the answer of a `status`, `html` or `raw` fault."""
    if fault.kind == "html":
        page = _page(200, "A proxy's login page") if fault.body is None else str(fault.body)
        return Reply(fault.status or 200, page.encode(), "text/html; charset=utf-8")
    status = fault.status or (500 if fault.kind == "status" else 200)
    if isinstance(fault.body, str):
        return Reply(status, fault.body.encode("utf-8", "surrogatepass"))
    if fault.body is not None:
        return Reply(status, to_json(fault.body))
    if status in (502, 504):
        page = _page(status, HTTPStatus(status).phrase)
        return Reply(status, page.encode(), "text/html; charset=utf-8")
    return error_reply(_usual_error(status, path), personality)


def _usual_error(status: int, path: str) -> ApiError:
    blamed = "server_error" if status >= 500 else "invalid_request_error"
    message, kind, code = _USUAL_ERRORS.get(status, (_phrase(status), blamed, None))
    return ApiError(status, message.replace("{path}", path), kind=kind, code=code)


_USUAL_ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("Invalid request.", "invalid_request_error", None),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: (
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    404: ("Nothing was found at {path}.", "invalid_request_error", None),
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    500: (
        "The server had an error while processing your request. Sorry about that!",
        "server_error",
        None,
    ),
    503: (
        "Our servers are currently overloaded. Please try again later.",
        "service_unavailable_error",
        "server_is_overloaded",
    ),
}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _page(status: int, title: str) -> str:
    return (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )


def _seconds(fault: Fault, default: float) -> float:
    return default if fault.seconds is None else fault.seconds
