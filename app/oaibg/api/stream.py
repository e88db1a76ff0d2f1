"""A job's stream events as the server sends them."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx2

from oaibg.api.connections import Body
from oaibg.api.error_body import error_event, is_error, read_error, reports_failure
from oaibg.api.payload import Payload
from oaibg.base.text import has_surrogates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from oaibg.api.error_body import ErrorBody

_CLOSE_SECONDS = 0.5
_TEXT_LENGTH = 1000

_TYPE = "text/event-stream"
_BOM = b"\xef\xbb\xbf"
_EVENTS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
_ESCAPE = "surrogateescape"
_ENCODING = "latin-1"
"""Keeps every byte, so that a response is stored as the server sent it, even if not in UTF-8."""


class EventStream:
    """An open stream; implements the protocol `Stream`.

    The head of `reply` has arrived. `exchange` turns exceptions of later reads into `CallFailed`.
    """

    def __init__(
        self, reply: httpx2.Response, exchange: Callable[[], AbstractAsyncContextManager[object]]
    ) -> None:
        reply.headers["content-type"] = _TYPE  # a server may have sent another one, or none
        reply.encoding = _ENCODING
        self.heard = 0
        if isinstance(body := reply.stream, httpx2.AsyncByteStream):
            reply.stream = Body(self._counted(aiter(body)), body.aclose)
        # No size limit: the last event contains the whole output.
        self._events = aiter(httpx2.EventSource(reply, max_event_size=None))
        self._reply, self._exchange = reply, exchange
        self._returned: StreamEvent | None = None

    async def next(self) -> StreamEvent | None:
        """Return the next event, or None at the end; raises `CallFailed` if the stream breaks."""
        if self._returned is not None:
            event, self._returned = self._returned, None
            return event
        async with self._exchange():
            sent = await anext(self._events, None)
            return None if sent is None else _event(sent)

    async def _counted(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece if self.heard else piece.removeprefix(_BOM)
            self.heard += len(piece)

    def give_back(self, event: StreamEvent) -> None:
        """Make `next` return this event again."""
        self._returned = event

    async def close(self) -> None:
        """Close the connection. No call of `next` may be pending."""
        with suppress(Exception):  # the stream is not needed any more
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._reply.aclose()


class StreamEvent:
    """One event. Invalid data never raise; values that can't be read are None.

    `name` is the type if a server's data have none. `text`, the data, may have 100 MB; bytes that
    are not UTF-8 are lone surrogates in it (`surrogateescape`).
    """

    def __init__(self, name: str, text: str) -> None:
        self._members, self._response = members(text)
        if has_surrogates(text):
            self._members = members(text.encode("utf-8", _ESCAPE).decode("utf-8", "replace"))[0]
        kind, number = self.get("type"), self.get("sequence_number")
        has_error = is_error(self._members)
        self.error: ErrorBody | None = None
        """What the stream's error says; events of the type `response.…` are about the job."""
        if (
            name == "error"
            and isinstance(kind, str)
            and not kind.startswith(("response.", "error"))
        ):
            self._members, kind = {"error": self._members}, "error"  # the data are the bare error
            has_error = True
        if not isinstance(kind, str):
            kind = "error" if has_error else name
            if name == "message" and not has_error and reports_failure(self._members):
                self.error = read_error(self._members)
        self.type: str = kind
        if kind == "error" or (has_error and not kind.startswith("response.")):
            self.error = error_event({**self._members, "type": kind})
            if not self._members:
                self.error = read_error(text[:_TEXT_LENGTH])
        self.number: int | None = number if type(number) is int and number >= 0 else None

    @cached_property
    def payload(self) -> Payload | None:
        """The event's `response` with its bytes as sent; None if it has none."""
        try:
            return Payload(self._response.encode("utf-8", _ESCAPE))
        except ValueError:
            return None

    def get(self, key: str) -> Any:
        """Return the value of any key except `response`; None if there is none."""
        return self._members.get(key)


def has_events_type(reply: httpx2.Response) -> bool:
    """Whether the server says that the body is a stream of events."""
    kind: str = reply.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == _TYPE


def begins_events(raw: bytes) -> bool:
    """Whether a body begins as a stream of events does."""
    return _EVENTS.match(raw) is not None


def events_of(raw: bytes) -> Iterator[StreamEvent]:
    """Yield the events in a body; the last one may lack the empty line that ends it."""
    reply = httpx2.Response(
        200,
        headers={"content-type": _TYPE},
        content=raw.removeprefix(_BOM) + b"\n\n",
        request=httpx2.Request("GET", "http://localhost"),  # `EventSource` requires one
    )
    reply.encoding = _ENCODING
    for sent in httpx2.EventSource(reply, max_event_size=None):
        yield _event(sent)


def _event(sent: httpx2.ServerSentEvent) -> StreamEvent:
    data = sent.data.encode(_ENCODING).decode("utf-8", _ESCAPE)
    return StreamEvent(sent.event, data)


_KEY = re.compile(r'(?:\A\s*\{|(?!\A)\s*,)\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*')
_decode = json.JSONDecoder(strict=False).raw_decode


def members(text: str) -> tuple[dict[str, Any], str]:
    """Return an object's members up to the first syntax error, and the text of `response`."""
    found: dict[str, Any] = {}
    response, end = "", 0
    with suppress(ValueError, RecursionError):
        while key := _KEY.match(text, end):
            name = _decode(key[1])[0]
            value, end = _decode(text, key.end())
            if name == "response":
                response = text[key.end() : end]
            else:
                found[name] = value
    return found, response
