"""A connection pool in which idle connections don't slow down requests.

httpx2's pool checks all its connections before and after every request. With fifty connections that
takes longer than the request itself. Here a request uses the idle connection that was used last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpcore2
import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

_ERRORS = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
)


class Connections(httpx2.AsyncBaseTransport):
    """Uses one connection per concurrent request, all to the origin to which `connect` connects.

    There are at most `most` connections: a further request `waits` for one, or fails.
    """

    def __init__(
        self, connect: Callable[[], httpcore2.AsyncHTTPConnection], *, most: int, waits: bool
    ) -> None:
        self._connect, self._waits = connect, waits
        self._free = asyncio.Semaphore(most)
        self._idle: list[httpcore2.AsyncHTTPConnection] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over an idle connection, or over a new one."""
        if self._free.locked() and not self._waits:
            raise httpx2.ConnectError("this process may not open more files (ulimit -n)")
        await self._free.acquire()
        used = self._idle.pop() if self._idle else self._connect()
        try:
            with _errors_of_httpx2():
                if used.has_expired():
                    await used.aclose()
                    used = self._connect()
                reply = await used.handle_async_request(_core_request(request))
        except BaseException:
            await self._release(used)
            raise
        body = reply.stream
        assert isinstance(body, AsyncIterable)  # noqa: S101 - for the type checker

        async def close() -> None:
            try:
                await reply.aclose()
            finally:
                await self._release(used)

        return httpx2.Response(
            reply.status,
            headers=reply.headers,
            stream=Body(_pieces(body), close),
            extensions=reply.extensions,
        )

    async def _release(self, used: httpcore2.AsyncHTTPConnection) -> None:
        """Keep a connection for other requests, unless it was closed or may not be kept."""
        self._free.release()
        if used.has_expired():
            await used.aclose()
        elif used.is_available():
            self._idle.append(used)

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().aclose()


class Body(httpx2.AsyncByteStream):
    """A reply's body: its pieces, and a callback that httpx2 awaits once, when it closes it."""

    def __init__(self, pieces: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._pieces, self._close = pieces, close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        """Close the connection or return it to the pool."""
        await self._close()


def core_url(url: httpx2.URL) -> httpcore2.URL:
    """Return a URL in the form that httpcore2 has."""
    return httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _core_request(request: httpx2.Request) -> httpcore2.Request:
    return httpcore2.Request(
        request.method,
        core_url(request.url),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


async def _pieces(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    with _errors_of_httpx2():
        async for piece in body:
            yield piece


@contextmanager
def _errors_of_httpx2() -> Iterator[None]:
    """Turn the errors of httpcore2 into those of httpx2, which have the same names."""
    try:
        yield
    except _ERRORS as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error
