"""A connection pool in which idle connections don't slow down requests.

httpx2's pool checks all its connections before and after every request. With fifty connections that
takes longer than the request itself. Here each connection has its own transport, and a request uses
the idle connection that was used last.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Connections(httpx2.AsyncBaseTransport):
    """Uses one transport per concurrent request, each with a single connection.

    There are at most `most` connections: a further request `waits` for one, or fails.
    """

    def __init__(
        self, connect: Callable[[], httpx2.AsyncBaseTransport], *, most: int, waits: bool
    ) -> None:
        self._connect, self._waits = connect, waits
        self._free = asyncio.Semaphore(most)
        self._all: list[httpx2.AsyncBaseTransport] = []
        self._idle: list[httpx2.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over an idle connection, or over a new one."""
        if self._free.locked() and not self._waits:
            raise httpx2.ConnectError("this process may not open more files (ulimit -n)")
        await self._free.acquire()
        if self._idle:
            used = self._idle.pop()
        else:
            used = self._connect()
            self._all.append(used)
        try:
            reply = await used.handle_async_request(request)
        except BaseException:
            self._release(used)  # a broken connection is closed; the next use connects again
            raise
        body = reply.stream
        assert isinstance(body, httpx2.AsyncByteStream)  # noqa: S101 - for the type checker

        async def close() -> None:
            try:
                await body.aclose()
            finally:
                self._release(used)

        reply.stream = Body(aiter(body), close)
        return reply

    def _release(self, used: httpx2.AsyncBaseTransport) -> None:
        self._idle.append(used)
        self._free.release()

    async def aclose(self) -> None:
        """Close all connections."""
        for used in self._all:
            await used.aclose()


class Body(httpx2.AsyncByteStream):
    """A reply's body: its pieces, and a callback that httpx2 awaits once, when it closes it."""

    def __init__(self, pieces: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._pieces, self._close = pieces, close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        """Close the connection or return it to the pool."""
        await self._close()
