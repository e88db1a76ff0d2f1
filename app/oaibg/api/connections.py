"""Connections of which the idle ones cost a request nothing.

httpx2's pool looks at each of its connections before and after every request: with fifty of them
that takes longer than the request itself. Here each is a transport of its own, and the one that was
used last is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Connections(httpx2.AsyncBaseTransport):
    """A transport over as many others as there are requests at a time.

    Args:
        connect: gives a transport that makes one connection.
    """

    def __init__(self, connect: Callable[[], httpx2.AsyncBaseTransport]) -> None:
        self._connect = connect
        self._all: list[httpx2.AsyncBaseTransport] = []
        self._idle: list[httpx2.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over a connection that is idle, or a new one."""
        if self._idle:
            used = self._idle.pop()
        else:
            used = self._connect()
            self._all.append(used)
        try:
            reply = await used.handle_async_request(request)
        except BaseException:
            self._idle.append(used)  # what broke is closed, and will be connected anew
            raise
        assert isinstance(reply.stream, httpx2.AsyncByteStream)  # noqa: S101 - for the types
        reply.stream = _Body(reply.stream, lambda: self._idle.append(used))
        return reply

    async def aclose(self) -> None:
        """Close them all."""
        for used in self._all:
            await used.aclose()


class _Body(httpx2.AsyncByteStream):
    """A reply's body, which tells when its connection is free again."""

    def __init__(self, stream: httpx2.AsyncByteStream, free: Callable[[], None]) -> None:
        self._stream = stream
        self._free: Callable[[], None] | None = free

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        """Close the connection, or keep it."""
        free, self._free = self._free, None
        try:
            await self._stream.aclose()
        finally:
            if free is not None:
                free()
