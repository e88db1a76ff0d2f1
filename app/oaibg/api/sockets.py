"""Network streams that receive data at any time, and notice replies that belong to no request.

A server may refuse a large request early and close the connection: its reply must not be lost. And
a reply that an earlier request left over must not be taken for the reply to the next.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import select
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpcore2

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

_LARGE = 1 << 16
"""The size in bytes from which a server may reply to a request before it has read all of it."""

_BUFFERED_MAX = 1 << 18
"""Receiving pauses once this many bytes are waiting to be read."""

_READ_SECONDS = 0.05
"""Seconds in which to receive what has arrived, before a large write that may fail and close the
connection. With TLS, what has arrived need not be data."""

_NEXT_ADDRESS_SECONDS = 0.25
"""Seconds after which the host's next address is tried as well, as RFC 8305 recommends."""

_REPLY = b"HTTP/"
_REFUSALS = (b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.0 4", b"HTTP/1.0 5")


class Stream(httpcore2.AsyncNetworkStream, asyncio.Protocol):
    """A connection. It receives what arrives, and `read` returns it."""

    def __init__(self, *, encrypted: bool = False) -> None:
        self._transport: asyncio.Transport
        self._encrypted = encrypted
        self._received = b""
        self._is_over = self._is_lost = self._is_full = False
        """No more data arrives; nothing can be sent any more; the send buffer is full."""
        self._error: Exception | None = None
        self._change: asyncio.Future[None] | None = None
        """Done when data or the end arrives, or when there is room to write."""
        self._answered = self._is_reused = False
        self.is_left_over = False
        """Whether the present reply began before its request was sent."""
        self.tap: Callable[[bytes], None] | None = None
        """Receives a copy of all data that is read."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Return what has arrived, or wait for more; returns no bytes at the end."""
        while not (self._received or self._is_over):
            try:
                await self._changed(timeout)
            except TimeoutError as error:
                raise httpcore2.ReadTimeout from error
        data, self._received = self._received, b""
        if not data and self._error is not None:
            raise httpcore2.ReadError(str(self._error)) from self._error
        if len(data) >= _BUFFERED_MAX:
            self._transport.resume_reading()
        if not self._answered:
            self._answered = True
            self.is_left_over = self._is_reused and data[: len(_REPLY)] != _REPLY[: len(data)]
        if self.tap is not None:
            self.tap(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write a part of a request.

        Raises `WriteError` if the server refuses the request, or has closed the connection.
        """
        if self._answered:
            self._answered, self._is_reused = False, True
        self.is_left_over = self._is_reused  # until something is read
        if len(buffer) >= _LARGE and not self._received and self._is_readable():
            with suppress(TimeoutError):
                await self._changed(_READ_SECONDS)
        self._check_writable()
        self._transport.write(buffer)
        while self._is_full:
            try:
                await self._changed(timeout)
            except TimeoutError as error:
                raise httpcore2.WriteTimeout from error
            self._check_writable()

    async def aclose(self) -> None:
        """Close the connection."""
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Stream:
        """Return the encrypted stream on this one; an error names the host."""
        loop, stream = asyncio.get_running_loop(), Stream(encrypted=True)
        with _connecting(f"no TLS connection to {server_hostname or 'the server'}"):
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(
                    self._transport, stream, ssl_context, server_hostname=server_hostname
                )
            if transport is None:
                raise ConnectionError("the server closed the connection")
        stream.connection_made(transport)
        return stream

    def get_extra_info(self, info: str) -> Any:
        """Return what is known about the stream; an idle one that is readable can't be reused."""
        if info == "is_readable":
            return bool(self._received) or self._is_over or self._is_readable()
        return self._transport.get_extra_info(info)

    def _is_readable(self) -> bool:
        """Whether data or the end has arrived that the event loop has not received yet."""
        own = self._transport.get_extra_info("socket")
        if own is None or own.fileno() < 0:
            return True  # the connection was closed, of which `connection_lost` may not know yet
        poll = select.poll()
        poll.register(own, select.POLLIN)
        return bool(poll.poll(0))

    def _check_writable(self) -> None:
        """Raise `WriteError` if the rest of the request is of no use or can't be sent."""
        if self._received.startswith(_REFUSALS):
            raise httpcore2.WriteError("the server has refused the request")
        if self._is_lost:
            raise httpcore2.WriteError("the connection is closed") from self._error

    async def _changed(self, timeout: float | None) -> None:
        self._change = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(timeout):  # `wait_for` can miss a cancel in Python 3.11
            await self._change

    def _note_change(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep the data for `read`."""
        self._received += data
        if len(self._received) >= _BUFFERED_MAX:
            self._transport.pause_reading()
        self._note_change()

    def eof_received(self) -> bool:
        """Note that no more data arrives; return whether to keep the connection for writing."""
        self._is_over = True
        self._note_change()
        return not self._encrypted

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed."""
        self._is_over = self._is_lost = True
        self._error = exc
        self._note_change()

    def pause_writing(self) -> None:
        """Note that too much waits to be sent."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Note that there is room to write."""
        self._is_full = False
        self._note_change()


class Backend(httpcore2.AsyncNetworkBackend):
    """Connects such streams."""

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *_: Any, **__: Any
    ) -> Stream:
        """Connect to a host and port, those of the API or of a proxy; an error names them."""
        loop = asyncio.get_running_loop()
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with _connecting(f"no connection to {place}", refused=f"{place} refused the connection"):
            async with asyncio.timeout(timeout):
                connecting = loop.create_connection(
                    Stream, host, port, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
                )
                return (await connecting)[1]

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@contextmanager
def _connecting(problem: str, *, refused: str | None = None) -> Iterator[None]:
    """Turn the errors of connecting into those of httpcore2.

    The message is `problem` and the reasons, or `refused` if that is the only reason.
    """
    try:
        yield
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout from error
    except OSError as error:  # `ssl.SSLError` is one
        # An error about several addresses has the numbers only in its text.
        numbers = dict.fromkeys(map(int, re.findall(r"\[Errno (\d+)\]", str(error))))
        if refused is not None and [*numbers] == [errno.ECONNREFUSED]:
            raise httpcore2.ConnectError(refused) from error
        reasons = [*map(os.strerror, numbers)] or [error.strerror or str(error)]
        raise httpcore2.ConnectError(f"{problem}: {', '.join(reasons)}") from error
