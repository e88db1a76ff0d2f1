"""Connections of which the idle ones cost a request nothing.

httpx2's pool looks at each of its connections before and after every request: with fifty of them
that takes longer than the request itself. Here each is a transport of its own, and the one that was
used last is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Connections(httpx2.AsyncBaseTransport):
    """Uses one transport per concurrent request, each with a single connection."""

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
        body = reply.stream
        assert isinstance(body, httpx2.AsyncByteStream)  # noqa: S101 - for the types

        async def close() -> None:
            try:
                await body.aclose()
            finally:
                self._idle.append(used)

        reply.stream = Body(aiter(body), close)
        return reply

    async def aclose(self) -> None:
        """Close them all."""
        for used in self._all:
            await used.aclose()


class Body(httpx2.AsyncByteStream):
    """A reply's body: its pieces, and what to await at its end; httpx2 closes a body once."""

    def __init__(self, pieces: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._pieces, self._close = pieces, close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        """Close the connection, or give it back."""
        await self._close()
