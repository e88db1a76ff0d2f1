"""The stream as a reply: a job's events at their times, changed by a fault if there is one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.encoding import to_sse
from oaibg.sandbox.faults import STREAM_KINDS
from oaibg.sandbox.job.events import timeline
from oaibg.sandbox.wire.connection import LONGEST_WAIT, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from oaibg.sandbox.faults import Fault
    from oaibg.sandbox.job.events import Timeline
    from oaibg.sandbox.job.item_events import Event
    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.wire.writer import Writer

_CUT_AFTER = 3
"""The number of events after which a server with `stream="cut"` ends a stream."""
_LAST_EVENTS = ("response.completed", "response.failed", "response.incomplete")
_KEEPALIVE = b'event: keepalive\ndata: {"type":"keepalive"}\n\n: ping\n\n'
_ERROR_EVENT = {
    "type": "error",
    "code": "server_error",
    "message": "The server had an error while processing your request. Sorry about that!",
    "param": None,
}


@dataclass(slots=True)
class EventStream:
    """The events of a job, from the start or after a `sequence_number`."""

    job: Job
    show: Callable[[Job, str], dict[str, Any]]
    """Returns the response of an event for a status."""
    manner: str
    """`Personality.stream`."""
    include: Collection[str] = ()
    """That of the request."""
    starting_after: int = -1
    """The `sequence_number` after which the events start; -1 if none was given."""

    async def send(self, writer: Writer) -> None:
        """Send each event at its time."""
        await writer.start_stream()
        with Watch(self.job) as watch:
            deltas = writer.fault is None or writer.fault.kind != "no_deltas"
            plan = partial(timeline, self.job, _placeholder, self.include, deltas=deltas)
            cursor = Cursor(self.job, self.manner, self.starting_after, plan)
            if not await _Sending(writer, watch, cursor, self.show).send_all():
                return
        await writer.finish()


class Cursor:
    """The position of a stream in the events of a job."""

    def __init__(
        self, job: Job, manner: str, starting_after: int, plan: Callable[[], Timeline]
    ) -> None:
        self.job = job
        self._plan = plan
        resumed = manner == "gaps" and starting_after >= 0
        self.next = starting_after + 1
        """The `sequence_number` of the next event."""
        self._gap = range(self.next, self.next + 2) if resumed else range(0)
        if resumed:
            self.next = max(0, self.next - 2)
        self._mute = manner == "mute"
        self.limit = _CUT_AFTER if manner == "cut" else None
        """The maximum number of events to send; None for all."""
        self.sent = 0
        self.leaves_out_next = False
        self._version = _version(job)
        self._timeline = plan()

    def due_in(self, now: float) -> float | None:
        """Return the seconds until the next event may be due; None at the end of the stream."""
        job = self.job
        if self._version != (version := _version(job)):
            self._timeline, self._version = self._plan(), version
        if self._mute and job.cancelled is not None and self.next >= len(self._timeline) - 1:
            return math.inf
        if self.next < len(self._timeline):
            return self._timeline[self.next][0] - now
        return job.ended - now if job.running(now) else None

    def take(self) -> Event | None:
        """Advance past the next event and return it; None if the server leaves it out."""
        event = self._timeline[self.next][1]
        in_gap = self.next in self._gap and event["type"] not in _LAST_EVENTS
        left_out, self.leaves_out_next = in_gap or self.leaves_out_next, False
        self.next += 1
        self.sent += not left_out
        return None if left_out else event


@dataclass(slots=True)
class _Sending:
    """The sending of one stream. Its methods return False if the client has disconnected."""

    writer: Writer
    watch: Watch
    cursor: Cursor
    show: Callable[[Job, str], dict[str, Any]]

    async def send_all(self) -> bool:
        """Send the events and apply a stream fault."""
        fault = self.writer.fault
        if fault is None or fault.kind not in STREAM_KINDS:
            return await self._send()
        after = fault.after or 0
        if not await self._send(after):
            return False
        if self.cursor.sent < after and fault.kind != "silent":
            return True
        return await self._apply(fault)

    async def _apply(self, fault: Fault) -> bool:
        write = self.writer.write
        match fault.kind:
            case "silent":
                return not await self.writer.connection.gone_after(fault.seconds)
            case "error_event":
                event = {**_ERROR_EVENT, "sequence_number": self.cursor.next}
                return await write(to_sse(event))
            case "keepalive":
                return await write(_KEEPALIVE) and await self._send()
            case "gap":
                self.cursor.leaves_out_next = True
                return await self._send()
            case "no_deltas" | "empty_end":
                return await self._send()
        return True

    async def _send(self, until: int | None = None) -> bool:
        """Send events at their times, until `until` events are sent (None: all)."""
        cursor = self.cursor
        while cursor.sent not in (until, cursor.limit):
            seconds = cursor.due_in(time.time())
            if seconds is None:
                break
            if seconds > 0:
                wait = min(seconds, LONGEST_WAIT)
                if await self.writer.connection.gone_after(wait, self.watch):
                    return False
                continue
            event = cursor.take()
            if event and not await self.writer.write(to_sse(self._whole(event))):
                return False
        return True

    def _whole(self, event: Event) -> Event:
        if "response" not in event:
            return event
        response = self.show(self.cursor.job, event["response"]["status"])
        fault = self.writer.fault
        if fault and fault.kind == "empty_end" and event["type"] in _LAST_EVENTS:
            response["output"] = []
        return {**event, "response": response}


def _placeholder(status: str) -> dict[str, Any]:
    """Stand in for the response of a pending event; `_whole` replaces it when it is sent."""
    return {"status": status}


def _version(job: Job) -> tuple[object, ...]:
    return job.created, job.seconds, job.outcome, job.text, job.cancelled
