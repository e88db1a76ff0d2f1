"""A job's events as a server sends them: one at a time, read only as far as it is asked for.

Imported by `oaibg.api` where a stream is wanted, after the SDK.
"""

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
    """An open stream.

    Args:
        reply: its head has arrived, and it says that events follow.
        exchanging: the context for reading, which turns errors into `CallFailed`.
    """

    def __init__(
        self,
        reply: httpx2.Response,
        exchanging: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        # An event of any size: the last one has the whole output.
        self._events = aiter(httpx2.EventSource(reply, max_event_size=None))
        self._reply = reply
        self._exchanging = exchanging
        self._returned: StreamEvent | None = None

    async def next(self) -> StreamEvent | None:
        """The next event, whenever it comes; None where the stream has ended without an error.

        Raises:
            CallFailed: it has broken off.
        """
        if self._returned is not None:
            event, self._returned = self._returned, None
            return event
        async with self._exchanging():
            sent = await anext(self._events, None)
            return None if sent is None else StreamEvent(sent.event, sent.data)

    def give_back(self, event: StreamEvent) -> None:
        """Let `next` give this event once more."""
        self._returned = event

    async def close(self) -> None:
        """Close the connection; nobody may be waiting in `next`."""
        with suppress(Exception):  # it is of no use any more, however it ends
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._reply.aclose()


class StreamEvent:
    """One event. Whatever its data are, reading them never fails: what can't be read is None.

    Args:
        name: the event's name, for servers whose data have no type.
        text: its data. Read up to what is asked for, as they may have 100 MB behind it.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._places: dict[str, tuple[int, int]] = {}
        self._values: dict[str, Any] = {}
        self._at = _after_space(text, 0)

    @cached_property
    def type(self) -> str:
        """What it is an event of, such as `response.completed`."""
        kind = self.get("type")
        return kind if isinstance(kind, str) else self._name

    @cached_property
    def number(self) -> int | None:
        """Its `sequence_number`."""
        number = self.get("sequence_number")
        return number if type(number) is int and number >= 0 else None

    @cached_property
    def payload(self) -> Payload | None:
        """The response object in it, with its bytes as they were sent."""
        if not isinstance(self.get("response"), dict):
            return None
        start, end = self._places["response"]
        self._values["response"] = None  # it may be large, and is about to be there again
        try:
            return Payload(self._text[start:end].encode("utf-8", "replace"))
        except ValueError:
            return None

    def get(self, key: str) -> Any:
        """The value of a key; None where there is none."""
        while key not in self._values and self._read_on():
            pass
        return self._values.get(key)

    def _read_on(self) -> bool:
        """Read one member more; False where there is none."""
        text, at = self._text, self._at
        if text[at : at + 1] != ("," if self._values else "{"):
            return False
        try:
            key, at = _decode(text, _after_space(text, at + 1))
            at = _after_space(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                return False
            start = _after_space(text, at + 1)
            value, end = _decode(text, start)
        except (ValueError, RecursionError):
            return False
        self._values[key], self._places[key] = value, (start, end)
        self._at = _after_space(text, end)
        return True


_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at
