"""Ends a reply's body after its JSON object, whatever length the server declares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2

from oaibg.base.json_text import read_json
from oaibg.contract.errors import CallFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SETTLE_SECONDS = 0.5
"""A body ends if so many seconds pass without data after a complete object."""


async def until_whole(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a body, and end it if it breaks off or pauses after a complete JSON object.

    Without a complete object, raises what `pieces` raises. Bodies that don't begin with an object
    are not changed.
    """
    body = _Body(pieces)
    while True:
        try:
            piece = await body.next()
        except TimeoutError:
            return
        except (httpx2.TransportError, CallFailed):
            if body.is_whole():
                return
            raise
        if piece is None:
            return
        yield piece


class _Body:
    """A body that keeps what has arrived, if it begins with a JSON object."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._arrived: list[bytes] = []
        self._is_object: bool | None = None
        self._due: float | None = None
        """When to check whether the object is whole: a while after its last piece."""

    def is_whole(self) -> bool:
        try:
            return self._is_object is True and isinstance(read_json(b"".join(self._arrived)), dict)
        except ValueError:
            return False

    async def next(self) -> bytes | None:
        """Return the next piece, or None at the end; raises `TimeoutError` after a whole object."""
        if self._due is None:
            piece = await anext(self._pieces, None)
        else:
            piece = await self._next_unless_whole(self._due)
        if piece is not None:
            self._take(piece)
        return piece

    def _take(self, piece: bytes) -> None:
        text = piece.strip()
        if self._is_object is None and text:
            self._is_object = text.startswith(b"{")
        if self._is_object:
            self._arrived.append(piece)
        if self._is_object and text:
            now = asyncio.get_running_loop().time()
            self._due = now + _SETTLE_SECONDS if text.endswith(b"}") else None

    async def _next_unless_whole(self, due: float) -> bytes | None:
        async with asyncio.timeout(None) as timer:
            loop = asyncio.get_running_loop()

            def check() -> None:
                if self.is_whole():  # checked again for the next piece, if one comes just now
                    timer.reschedule(loop.time())
                else:
                    self._due = None

            alarm = loop.call_at(due, check)
            try:
                return await anext(self._pieces, None)
            finally:
                alarm.cancel()
