"""A job's events, as a server sends them."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx2

from oaibg.api.payload import Payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

_CLOSE_SECONDS = 0.5


class EventStream:
    """An open stream; the real one of the protocol `Stream`.

    Of `reply` the head has arrived; `exchange` turns exceptions of reading on into `CallFailed`.
    """

    def __init__(
        self, reply: httpx2.Response, exchange: Callable[[], AbstractAsyncContextManager[object]]
    ) -> None:
        # An event of any size: the last one has the whole output.
        self._events = aiter(httpx2.EventSource(reply, max_event_size=None))
        self._reply, self._exchange = reply, exchange
        self._returned: StreamEvent | None = None

    async def next(self) -> StreamEvent | None:
        """The next event; None at the end. Raises `CallFailed` if the stream breaks off."""
        if self._returned is not None:
            event, self._returned = self._returned, None
            return event
        async with self._exchange():
            sent = await anext(self._events, None)
            return None if sent is None else StreamEvent(sent.event, sent.data)

    def give_back(self, event: StreamEvent) -> None:
        """Let `next` return this event once more."""
        self._returned = event

    async def close(self) -> None:
        """Close the connection; nobody may be waiting in `next`."""
        with suppress(Exception):  # it is of no use any more, however it ends
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._reply.aclose()


class StreamEvent:
    """One event. Nothing here raises, whatever the data are; what can't be read is None.

    `name` is for servers whose data have no type; `text`, the data, may have 100 MB.
    """

    def __init__(self, name: str, text: str) -> None:
        self._members, self._response = _members(text)
        kind, number = self.get("type"), self.get("sequence_number")
        self.type: str = kind if isinstance(kind, str) else name
        self.number: int | None = number if type(number) is int and number >= 0 else None

    @cached_property
    def payload(self) -> Payload | None:
        """The event's `response`, with its bytes as they were sent."""
        try:
            return Payload(self._response.encode("utf-8", "replace"))
        except ValueError:
            return None

    def get(self, key: str) -> Any:
        """The value at a key, except for `response`; None if there is none."""
        return self._members.get(key)


_KEY = re.compile(r'(?:\A\s*\{|(?!\A)\s*,)\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*')
_decode = json.JSONDecoder().raw_decode


def _members(text: str) -> tuple[dict[str, Any], str]:
    """An object's members, up to what can't be read, and the exact text of its `response`."""
    members: dict[str, Any] = {}
    response, end = "", 0
    with suppress(ValueError, RecursionError):
        while key := _KEY.match(text, end):
            name = _decode(key[1])[0]
            value, end = _decode(text, key.end())
            if name == "response":
                response = text[key.end() : end]
            else:
                members[name] = value
    return members, response
