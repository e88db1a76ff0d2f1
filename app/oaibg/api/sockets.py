"""Network streams that also read while they write, and notice replies that no request asked for.

A server may refuse a large request early and close the connection: asyncio then drops what it has
not read. And a reply that an earlier request left over must not be taken for the reply to the next.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpcore2

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGE = 1 << 16
"""The size in bytes from which a server may reply to a request before it has read all of it."""

_READ_BYTES = 1 << 18
"""As many bytes as asyncio receives at once, so that none wait in another buffer."""

_READ_SECONDS = 0.05
"""Seconds to read what has arrived before a large write, which may fail and close the connection;
with TLS, it need not be data."""

_REPLY = b"HTTP/"
_REFUSALS = (b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.0 4", b"HTTP/1.0 5")


class Stream(httpcore2.AsyncNetworkStream):
    """A connection; `inner` is the stream that does the work."""

    def __init__(
        self, inner: httpcore2.AsyncNetworkStream, tls: ssl.SSLObject | None = None
    ) -> None:
        self._inner, self._tls = inner, tls
        self._early = b""
        self._answered = self._is_reused = False
        self.is_left_over = False
        """Whether the present reply began before its request was sent."""
        self.tap: Callable[[bytes], None] | None = None
        """Takes all that is received, as it is."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has arrived, or wait for more; returns no bytes at the end."""
        data, self._early = self._early, b""
        data = data or await self._inner.read(max(max_bytes, _READ_BYTES), timeout)
        if not self._answered:
            self._answered = True
            self.is_left_over = self._is_reused and data[: len(_REPLY)] != _REPLY[: len(data)]
        if self.tap is not None:
            self.tap(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write a part of a request; raises `WriteError` if the server refuses the request."""
        if self._answered:
            self._answered, self._is_reused = False, True
        self.is_left_over = self._is_reused  # until something is read
        if len(buffer) < _LARGE:
            await self._inner.write(buffer, timeout)
        elif self._early:
            raise httpcore2.WriteError("the server has refused the request")
        else:
            await self._write_and_read(buffer, timeout)

    async def _write_and_read(self, buffer: bytes, timeout: float | None) -> None:
        """Write, and keep what arrives meanwhile for `read`."""
        reading = asyncio.ensure_future(self._inner.read(_READ_BYTES))
        writing = asyncio.ensure_future(self._write_after(reading, buffer, timeout))
        try:
            await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not (writing.done() or _is_refused(reading)):
                await asyncio.wait({writing})
        finally:
            both = [one for one in (writing, reading) if not one.done()]
            for one in both:
                one.cancel()
            if both:
                await asyncio.wait(both)
            with suppress(httpcore2.NetworkError, asyncio.CancelledError):
                self._early = reading.result()
        if writing.cancelled():
            raise httpcore2.WriteError("the server has refused the request")
        writing.result()

    async def _write_after(
        self, reading: asyncio.Future[bytes], buffer: bytes, timeout: float | None
    ) -> None:
        """Write; first let `reading` take what is there, which a failure to write would drop."""
        if self._inner.get_extra_info("is_readable"):
            await asyncio.wait({reading}, timeout=_READ_SECONDS)
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Stream:
        """Return the encrypted stream on this one; an error names the host."""
        try:
            inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except httpcore2.ConnectError as error:
            message = f"no TLS connection to {server_hostname or 'the server'}: {error}"
            raise httpcore2.ConnectError(message) from error
        return Stream(inner, inner.get_extra_info("ssl_object"))

    def get_extra_info(self, info: str) -> Any:
        """Return what is known about the stream; an idle one that is readable can't be reused."""
        found = self._inner.get_extra_info(info)
        if info == "is_readable" and not found:
            return bool(self._early) or _has_more(self._tls)
        return found


class Backend(httpcore2.AsyncNetworkBackend):
    """Connects such streams."""

    def __init__(self) -> None:
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Stream:
        """Connect to a host and port, those of the API or of a proxy; an error names them."""
        try:
            return Stream(await self._inner.connect_tcp(host, port, *args, **options))
        except httpcore2.ConnectError as error:
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise httpcore2.ConnectError(_unconnected(place, error)) from error

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def _unconnected(place: str, error: BaseException) -> str:
    """Return why there is no connection: what the system said of each address of the host."""
    causes = [error]
    while len(causes) == 1 and (cause := causes[0].__cause__) is not None:
        causes = list(cause.exceptions) if isinstance(cause, BaseExceptionGroup) else [cause]
    if all(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"{place} refused the connection"
    reasons = (getattr(cause, "strerror", None) or str(cause) for cause in causes)
    return f"no connection to {place}: {', '.join(dict.fromkeys(reasons))}"


def _is_refused(reading: asyncio.Future[bytes]) -> bool:
    """Whether the server has replied with an error: it need not read the rest of the request."""
    return reading.exception() is None and reading.result().startswith(_REFUSALS)


def _has_more(tls: ssl.SSLObject | None) -> bool:
    """Whether decrypted data or the end of the encrypted stream has arrived, but was not read."""
    if tls is None:
        return False
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        pass
    return True
