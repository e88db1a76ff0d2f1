"""A client's connection during one request: waits that end with it, and ways to break it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive

    from oaibg.sandbox.job.job import Job

LONGEST_WAIT = 3600.0
"""Seconds after which a wait reads the clock again, in case the system time was changed."""


@dataclass(slots=True)
class Connection:
    """The connection of one request."""

    _receive: Receive
    _client: tuple[str, int]
    _find_transport: Callable[[tuple[str, int]], asyncio.Transport | None]

    async def gone_after(self, seconds: float | None, watch: Watch | None = None) -> bool:
        """Wait for `seconds` (None: forever); return True as soon as the client disconnects.

        A change of the watched job also ends the wait.
        """
        limit = asyncio.timeout(seconds)
        if watch:
            watch.limit = limit
        try:
            async with limit:
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        finally:
            if watch:
                watch.limit = None
        return True

    async def gone_before_end(self, job: Job) -> bool:
        """Wait for the end of a job; return True as soon as the client disconnects."""
        with Watch(job) as watch:
            while job.running(now := time.time()):
                if await self.gone_after(min(job.ended - now, LONGEST_WAIT), watch):
                    return True
        return False

    async def reset(self) -> None:
        """Reset the connection (RST)."""
        if transport := self._find_transport(self._client):
            raw: Any = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            await self.gone_after(None)

    async def hang_up(self) -> None:
        """Close the connection in the middle of a reply, after the written bytes are sent."""
        if transport := self._find_transport(self._client):
            transport.close()
        await self.gone_after(None)


class Watch:
    """Ends a wait when the job changes, in any thread; active within a `with` block.

    Code that reads the job and then waits misses no change. A change reaches the event loop only
    after it is made: either the code has already read it, or its wait ends.
    """

    def __init__(self, job: Job) -> None:
        self.limit: asyncio.Timeout | None = None
        """The timeout of the current wait, if any."""
        self._job = job
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._job.watchers.add(self._changed)
        return self

    def __exit__(self, *_: object) -> None:
        self._job.watchers.discard(self._changed)

    def _changed(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cut_short)

    def _cut_short(self) -> None:
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(0)
