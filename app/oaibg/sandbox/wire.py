"""How an answer goes out: whole, live, late, in drops, cut short, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, Self

from .checks import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from .faults import Fault
    from .jobs import Event, Job
    from .personality import Personality

_LONGEST_WAIT = 3600.0
"""Seconds after which the clock is looked at again, which may have been set."""
_STREAM_PREFIX = 1024
"""Bytes of a stream that a `truncate` without `after` lets through."""
_CUT_AFTER = 3
"""Events of a stream that a server lets through which cuts all of them."""
_ENDS = ("response.completed", "response.failed", "response.incomplete")
_STRIKES = ("cut", "silent", "gap", "keepalive", "error_event")
"""Faults that strike after a number of events."""
_KEEPALIVE = b'event: keepalive\ndata: {"type":"keepalive"}\n\n: ping\n\n'
_STREAM_ERROR = {
    "type": "error",
    "code": "server_error",
    "message": "The server had an error while processing your request. Sorry about that!",
    "param": None,
}


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
    """The number after which the events are told; -1 where none was named."""
    manner: str = "usual"
    """How they are told: `Personality.stream`."""
    wait_for: Job | None = None
    """A job without background mode: its end is awaited, and its payload is the body."""


class _Reading:
    """How far a stream of a job's events has come."""

    def __init__(self, job: Job, manner: str, starting_after: int, watch: _Watch) -> None:
        self.job = job
        resumed = manner == "gaps" and starting_after >= 0
        self.next = starting_after + 1
        """The number of the event that comes next."""
        self._gap = range(self.next, self.next + 2) if resumed else range(0)
        if resumed:
            self.next = max(0, self.next - 2)
        self._mute = manner == "mute"
        self.limit = _CUT_AFTER if manner == "cut" else None
        """How many events it may tell; None for all."""
        self.sent = 0
        self.leaves_out_next = False
        self.watch = watch
        self._version = _version(job)
        self._timeline = job.timeline(_status)

    def early(self, now: float) -> float | None:
        """Return the seconds until something may come; None where nothing will any more."""
        job = self.job
        if self._version != (version := _version(job)):
            self._timeline, self._version = job.timeline(_status), version
        if self._mute and job.cancelled is not None and self.next >= len(self._timeline) - 1:
            return math.inf
        if self.next < len(self._timeline):
            return self._timeline[self.next][0] - now
        return job.ended - now if job.status(now) in ("queued", "in_progress") else None

    def take(self) -> Event | None:
        """Go past the next event and return it; None where it is left out."""
        event = self._timeline[self.next][1]
        in_gap = self.next in self._gap and event["type"] not in _ENDS
        left_out, self.leaves_out_next = in_gap or self.leaves_out_next, False
        self.next += 1
        self.sent += not left_out
        return None if left_out else event


class _Watch:
    """Cuts waits short when the job that is waited for is changed, by whichever thread.

    While it is entered. Who looks at the job and then waits misses nothing: a change is told in
    the loop after it was made, and so is either seen by that look, or cuts that wait short.
    """

    def __init__(self, job: Job) -> None:
        self.limit: asyncio.Timeout | None = None
        """That of the wait, while there is one."""
        self._job = job
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._job.watchers.add(self._changed)
        return self

    def __exit__(self, *_: object) -> None:
        self._job.watchers.discard(self._changed)

    def _changed(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cut_short)

    def _cut_short(self) -> None:
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(0)


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

    async def gone_after(self, seconds: float | None, watch: _Watch | None = None) -> bool:
        """Wait that many seconds (None: for ever); True as soon as the client has gone.

        A change of the job that is watched ends the wait, too.
        """
        limit = asyncio.timeout(seconds)
        if watch:
            watch.limit = limit
        try:
            async with limit:
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        finally:
            if watch:
                watch.limit = None
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
        if self._fault is None:
            await self._finish(reply.body)
        elif await self._write(reply.body):
            await self._finish()

    async def _send_events(self, job: Job, reply: Reply) -> None:
        self._left = self._allowance(_STREAM_PREFIX)
        await self._start(reply, (b"cache-control", b"no-cache"))
        with _Watch(job) as watch:
            reading = _Reading(job, reply.manner, reply.starting_after, watch)
            if not await self._tell_all(reading):
                return
        await self._finish()

    async def _tell_all(self, reading: _Reading) -> bool:
        """Send a job's events and what a fault makes of them; False when the client has gone."""
        fault = self._fault
        if fault is None or fault.kind not in _STRIKES:
            return await self._tell(reading)
        after = fault.after or 0
        if not await self._tell(reading, after):
            return False
        if reading.sent < after and fault.kind != "silent":
            return True
        return await self._strike(fault, reading)

    async def _strike(self, fault: Fault, reading: _Reading) -> bool:
        match fault.kind:
            case "silent":
                return not await self.gone_after(fault.seconds)
            case "error_event":
                return await self._write(to_sse({**_STREAM_ERROR, "sequence_number": reading.next}))
            case "keepalive":
                return await self._write(_KEEPALIVE) and await self._tell(reading)
            case "gap":
                reading.leaves_out_next = True
                return await self._tell(reading)
        return True

    async def _tell(self, reading: _Reading, until: int | None = None) -> bool:
        """Send events as they come, `until` so many are sent; False when the client has gone."""
        while reading.sent not in (until, reading.limit):
            early = reading.early(time.time())
            if early is None:
                break
            if early > 0:
                if await self.gone_after(min(early, _LONGEST_WAIT), reading.watch):
                    return False
                continue
            event = reading.take()
            if event and not await self._write(to_sse(self._shown(event, reading.job))):
                return False
        return True

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

    async def _finish(self, rest: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": rest, "more_body": False})

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
        with _Watch(job) as watch:
            while job.status(now := time.time()) in ("queued", "in_progress"):
                if await self.gone_after(min(job.ended - now, _LONGEST_WAIT), watch):
                    return True
        return False


def _status(status: str) -> dict[str, Any]:
    """Stand in for a response in an event that waits: the whole of it is made when it is sent."""
    return {"status": status}


def _version(job: Job) -> tuple[object, ...]:
    """Return all that a job's events depend on."""
    return job.created, job.seconds, job.outcome, job.text, job.cancelled


_TO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(value: object) -> bytes:
    """Encode as the API does: UTF-8, or escapes where the text has lone surrogates."""
    try:
        return _TO_JSON(value).encode()
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
