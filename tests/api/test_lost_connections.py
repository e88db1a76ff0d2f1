"""A connection that is lost while a request is sent, and a read that is cancelled as data comes."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import httpcore2
import pytest

from oaibg.api.sockets import Backend

if TYPE_CHECKING:
    from oaibg.api.sockets import Stream

PART = b"x" * (1 << 16)
RESET = struct.pack("ii", 1, 0)


async def connected() -> tuple[Stream, socket.socket]:
    """Return a stream, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = await Backend().connect_tcp(*listener.getsockname())
        return stream, listener.accept()[0]


def test_reset_while_a_request_is_sent() -> None:
    """If the server resets the connection, the rest of a request in large parts is not sent."""
    asyncio.run(send_and_be_reset())


async def send_and_be_reset() -> None:
    """Send a request until the server resets the connection."""
    stream, server = await connected()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writing = asyncio.create_task(write_for_ever(stream))
    await asyncio.sleep(0.05)
    server.close()
    with pytest.raises(httpcore2.WriteError):
        await asyncio.wait_for(writing, 20)
    assert stream.get_extra_info("is_readable")
    with pytest.raises(httpcore2.ReadError):
        await stream.read(1)


async def write_for_ever(stream: Stream) -> None:
    """Write without an end."""
    while True:
        await stream.write(PART)


def test_cancelled_as_data_comes() -> None:
    """A read that is cancelled at the moment at which data comes ends, and loses nothing."""
    asyncio.run(cancel_as_data_comes())


async def cancel_as_data_comes() -> None:
    """Cancel a read when the event loop has received data, but the read has not resumed."""
    stream, server = await connected()
    with closing(server):
        reading = asyncio.create_task(stream.read(100, 20.0))
        await asyncio.sleep(0)
        server.sendall(b"data")
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(reading.cancel)
        await asyncio.wait({reading})
        assert reading.cancelled()
        assert await stream.read(100, 20.0) == b"data"
        await stream.aclose()
