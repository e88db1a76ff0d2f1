"""A client's connection during one request: waiting while it is open, and breaking it."""

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
"""Seconds after which the clock is read again, because somebody may have set it."""


@dataclass(slots=True)
class Connection:
    """The connection on which a request came."""

    _receive: Receive
    _client: tuple[str, int]
    _find_transport: Callable[[tuple[str, int]], asyncio.Transport | None]

    async def gone_after(self, seconds: float | None, watch: Watch | None = None) -> bool:
        """Wait that many seconds (None: for ever); True as soon as the client has gone.

        A change of the job that is watched ends the wait, too.
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
        """Wait for the end of a job; True as soon as the client has gone."""
        with Watch(job) as watch:
            while job.running(now := time.time()):
                if await self.gone_after(min(job.ended - now, LONGEST_WAIT), watch):
                    return True
        return False

    async def reset(self) -> None:
        """Abort it, so that the client sees a reset (RST)."""
        if transport := self._find_transport(self._client):
            raw: Any = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            await self.gone_after(None)

    async def hang_up(self) -> None:
        """Close it in the middle of an answer, once what was written is out."""
        if transport := self._find_transport(self._client):
            transport.close()
        await self.gone_after(None)


class Watch:
    """While it is entered, cuts a wait short when its job is changed, by whichever thread.

    Code that reads the job and then waits misses nothing: a change reaches the loop after it was
    made, so that code has either read it already, or its wait is cut short.
    """

    def __init__(self, job: Job) -> None:
        self.limit: asyncio.Timeout | None = None
        """That of the wait, while there is one."""
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
