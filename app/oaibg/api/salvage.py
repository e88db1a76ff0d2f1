"""Finds the response in a reply that is not the API's JSON: an unrequested stream, or a part.

A job that was paid for must not be lost because the create's reply broke off, never ended, or came
as server-sent events.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from json import JSONDecoder, detect_encoding
from typing import TYPE_CHECKING

import httpx2

from oaibg.api.connections import Body
from oaibg.api.payload import OWN_PREFIXES, RUNNING, TERMINAL, Payload, is_response_id
from oaibg.api.stream import begins_events, events_of, members
from oaibg.api.streamed_output import StreamedOutput
from oaibg.base.json_text import string

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HEAD_BYTES = 1 << 16
"""The first bytes of a reply, in which a response is looked for if the rest is lost."""

_SETTLE_SECONDS = 3.0
"""Seconds that the rest of a reply may take once a response's ID has arrived."""

_ENOUGH = 10
"""Bytes that suffice to recognize events."""

_OBJECT = re.compile(
    r'(?:\A[^{"]*|^data:\s*|"(?:response|data|result|body|payload|output|job)"\s*:\s*\[?\s*)'
    r'(?=\{|"\{)',
    re.MULTILINE,
)
"""What precedes a response: the start of the body or of an event, or the key of a wrapper. A
wrapper may hold it as a string, too."""

_JSON_START = re.compile(rb'\{\s*"')

_PLACE = re.compile(r"/(?:responses|batches)/((?:resp|batch)_[A-Za-z0-9_-]{1,1000})/?(?:\Z|[?#])")
"""Ends the address of a job."""


class Arrived:
    """The head of a reply, kept in case the rest does not arrive.

    A part of the API's JSON only counts if the reply is a create's. If a create's status is an
    error, its body counts if it is a whole response: a server between may have set the status.
    """

    def __init__(self, *, creating: bool) -> None:
        self._creating = creating
        self._raw = bytearray()
        self._received = bytearray()
        self._request_id: str | None = None
        self._is_success = True
        self._location = ""

    def begin(self, reply: httpx2.Response) -> bool:
        """Note the headers of a reply; return whether to keep the head of its body."""
        self._request_id = reply.headers.get("x-request-id")
        self._is_success = reply.is_success
        if reply.is_success or reply.status_code == httpx2.codes.SEE_OTHER:
            self._location = reply.headers.get("location", "")
        is_json = "json" in reply.headers.get("content-type", "")
        return self._creating or (reply.is_success and not is_json)

    def response(self) -> Payload | None:
        """Return the response whose ID has arrived: in the body, or in a create's `Location`."""
        found = self._in_body()
        if found is None and self._is_success:
            found = self._in_received()
        if found is None and self._creating and (named := _PLACE.search(self._location)):
            found = Payload.of({"id": named[1]})
        if found is not None:
            found.request_id = self._request_id
        return found

    def tap(self, data: bytes) -> None:
        """Keep what a create's connection receives, in case its framing is invalid."""
        if len(self._received) < _HEAD_BYTES:
            self._received += data

    def _in_body(self) -> Payload | None:
        raw = bytes(self._raw)
        found = events_response(raw)
        if found is None and self._creating:
            found = _partial(raw) if self._is_success else _whole(raw)
        return found

    def _in_received(self) -> Payload | None:
        """Return the response in a body whose framing or whose head is invalid."""
        start = _JSON_START.search(self._received)
        return None if start is None else _wrapped(bytes(self._received[start.start() :]))

    async def noted(
        self, pieces: AsyncIterator[bytes], timer: asyncio.Timeout
    ) -> AsyncIterator[bytes]:
        """Yield a body; when a response's ID has arrived, shorten the call's timeout."""
        found = False
        async for piece in pieces:
            if len(self._raw) < _HEAD_BYTES:
                self._raw += piece
                # An ID ends with a quotation mark, so tiny pieces without one cost no time.
                if not found and b'"' in piece and self._in_body() is not None:
                    found = True
                    soon = asyncio.get_running_loop().time() + _SETTLE_SECONDS
                    with suppress(RuntimeError):  # the call is over, and its stream is read on
                        timer.reschedule(min(soon, timer.when() or soon))
            yield piece


async def is_events(reply: httpx2.Response) -> bool:
    """Whether a body is a stream of events, whatever its type; it can still be read in full."""
    body, head = reply.stream, b""
    assert isinstance(body, httpx2.AsyncByteStream)  # noqa: S101 - for the type checker
    pieces = aiter(body)
    async for piece in pieces:
        head += piece
        if len(head.lstrip()) >= _ENOUGH or len(head) > _HEAD_BYTES:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield head
        async for piece in pieces:
            yield piece

    reply.stream = Body(whole(), body.aclose)
    return begins_events(head)


def events_response(raw: bytes) -> Payload | None:
    """Return the fullest response in a body of events; None for any other body.

    It is the one that has ended, or else the last one, with any output that only other events have.
    A response without its output is not the end.
    """
    found: Payload | None = None
    streamed = StreamedOutput(from_start=True)
    for event in events_of(raw) if begins_events(raw) else ():
        payload = event.payload
        streamed.take(event)
        if payload is None or not _is_usable(payload.id):
            continue
        if streamed.exceeds(payload):
            with suppress(ValueError):
                payload = streamed.restored(payload)
                payload.is_pieced = True
        if payload.is_whole or not payload.ended:
            found = payload
        if payload.is_whole:
            break
    return found


def unwrapped(payload: Payload) -> Payload:
    """Return the response in a create's reply; an ID beside a wrapped one may be the request's."""
    inner = None if payload.is_job else _wrapped(payload.raw)
    return payload if inner is None or inner.id == payload.id else inner


def _partial(raw: bytes) -> Payload | None:
    """Return a response that is complete, or the ID of one that is cut off or wrapped."""
    with suppress(ValueError):
        payload = Payload(raw)
        return payload if payload.names_job else _wrapped(raw)
    return _wrapped(raw)


def _whole(raw: bytes) -> Payload | None:
    """Return a response that is the whole body."""
    with suppress(ValueError):
        payload = Payload(raw)
        return payload if payload.is_job else None
    return None


def _wrapped(raw: bytes) -> Payload | None:
    """Return the ID of a response in an object that is cut off, or in a wrapper."""
    text = raw.decode(detect_encoding(raw), "replace")
    for start in _OBJECT.finditer(text):
        first = members(_unquoted(text[start.end() :]))[0]
        identifier = first.get("id") or first.get("response_id")
        identifier = str(identifier) if type(identifier) is int else identifier
        is_own = first.get("object") in ("response", "batch") or str(identifier).startswith(
            OWN_PREFIXES
        )
        is_first = start.start() == 0 and string(first.get("status")) in RUNNING | TERMINAL
        if (is_own or is_first) and _is_usable(identifier):
            return Payload.of({"id": identifier})
    return None


def _unquoted(text: str) -> str:
    """Return an object that JSON text begins with, or that its string contains."""
    if text.startswith('"'):
        with suppress(ValueError):
            return str(JSONDecoder(strict=False).raw_decode(text)[0])
    return text


def _is_usable(identifier: object) -> bool:
    return isinstance(identifier, str) and is_response_id(identifier)
