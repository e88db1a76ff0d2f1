"""Reads a job's stream between two polls.

The stream is a hint, and only polls are authoritative: whatever the stream does or omits, the worst
result is one more poll. Its events are numbered, so that it can be resumed when it breaks off:
repeated events are dropped, and missing ones are requested once more.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING

from oaibg.api.payload import Payload
from oaibg.contract.errors import CallFailed
from oaibg.engine import report
from oaibg.engine.patience import REQUEST_TIMEOUT, Patience
from oaibg.engine.persist import remember_payload
from oaibg.engine.verdicts import is_transient

if TYPE_CHECKING:
    from oaibg.api.calls import Calls, Stream
    from oaibg.api.stream import StreamEvent
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

DELTA_INTERVAL = 0.35
"""Minimum number of seconds between two `output_text_delta` events."""

EMPTY_CONNECTIONS_MAX = 3
"""After this many connections in a row without new events, the job is only polled."""

_REST_SECONDS, _LAG_SECONDS = 5.0, 0.5
"""Seconds without an event after which the rest of an ended job's stream is abandoned: if the
stream has yet to be opened, and if it is open."""

_CLOSE_SECONDS = 0.5

_ENDS = frozenset(
    f"response.{how}" for how in ("completed", "failed", "incomplete", "cancelled", "expired")
)
_STATES = frozenset({"response.queued", "response.in_progress"})
_ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
_OF_THE_JOB = re.compile(r"response\.[a-z_]{1,60}")
_OF_A_CALL = re.compile(r"response\.([a-z_]{1,60}_call)\.(?!delta)[a-z_]{1,60}")
_ITEM_TYPE_LENGTH = 100


class Listener:
    """Reads the stream of one job; a failed stream is never the job's failure.

    `stream` is the one that the create opened.
    """

    def __init__(self, job: Job, context: Context, api: Calls, stream: Stream | None) -> None:
        self._job, self._context, self._api, self._stream = job, context, api, stream
        self._reading: asyncio.Task[StreamEvent | Payload] | None = None
        self._usable = True
        self._last = -1 if job.last_number is None else job.last_number
        """The sequence_number of the last event."""
        self._text: list[str] = []
        self._text_number: int | None = None
        """The deltas that are not emitted yet, and the sequence_number of the last of them."""
        self._text_due = -math.inf
        """When the next `output_text_delta` may be emitted."""
        self._unnumbered = False
        """Whether events came without numbers, so that repeated ones can't be recognized."""
        self._new_events = 0
        """The number of new events that the current connection brought."""
        self._patience = Patience(context.clock)
        """Counts the connections in a row that brought nothing new."""
        self._connect_at = -math.inf
        self._gap_requested = -2
        """The sequence_number after which a gap was found, and requested once more."""
        self._has_gap = False
        """Whether events are missing permanently."""
        self._must_poll = False
        """Whether the job has to be polled now."""
        self._ended: Payload | None = None
        self.received = False
        """Whether the last `listen` received anything."""
        self.reply: Payload | None = None
        """The response, if the server replied with it instead of a stream in the last `listen`."""

    async def listen(
        self, seconds: float, limit: float, *, interval: float | None = None
    ) -> Payload | None:
        """Wait until the next poll is due, and emit the events that arrive meanwhile.

        Returns the whole response if the job has ended. Returns None if the job should be polled:
        no event came for `seconds` (after the first event: for `interval`, which is by default the
        poll interval), the connection brought nothing new, the last event lacks parts of the
        response, or `limit` (a time on the monotonic clock) is reached.
        """
        clock, interval = self._context.clock, interval or self._context.wait.poll_seconds
        self._must_poll, self.received, self.reply = False, False, None
        silent_until = clock.monotonic() + seconds
        while not self._must_poll and self._ended is None:
            now = clock.monotonic()
            until = min(silent_until, limit)
            if now >= until:
                break
            if not self._usable or now < self._connect_at:
                await clock.sleep(min(until, self._connect_at if self._usable else until) - now)
                continue
            before = self._new_events
            if await self._arrives((min(until, self._text_due) if self._text else until) - now):
                await self._receive()
            else:
                await self._flush()
            if self._new_events > before:
                silent_until = max(silent_until, clock.monotonic() + interval)
            self._note_reported()
        await self._flush(now=True)
        self._note_reported()
        return self._ended

    async def read_rest(self, limit: float) -> None:
        """Emit the rest of the stream after a poll found that the job has ended.

        Emits a warning if the rest does not arrive soon.
        """
        self._connect_at = -math.inf
        while self._usable:
            patience = _REST_SECONDS if self._stream is None else _LAG_SECONDS
            await self.listen(patience, limit, interval=patience)
            if self._usable and not self._must_poll:
                await self._give_up("stream_lost", "the remaining events did not arrive")

    async def close(self) -> None:
        """Close the connection."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading}, timeout=_CLOSE_SECONDS)
            if reading.done() and not reading.cancelled():
                reading.exception()  # otherwise asyncio logs that it was never retrieved
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        self._new_events = 0

    async def _arrives(self, seconds: float) -> bool:
        """Whether something arrives within `seconds`; if not, the read stays pending."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        timer = asyncio.ensure_future(self._context.clock.sleep(max(seconds, 0.0)))
        try:
            await asyncio.wait({self._reading, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return self._reading.done()

    async def _read(self) -> StreamEvent | Payload:
        if self._stream is None:
            after = None if self._last < 0 else self._last
            opened = await self._api.stream(str(self._job.response_id), after, REQUEST_TIMEOUT)
            if isinstance(opened, Payload):
                return opened
            self._stream = opened
        event = await self._stream.next()
        if event is None:
            raise CallFailed("stream_ended", "the stream ended too early")
        return event

    async def _receive(self) -> None:
        reading, self._reading = self._reading, None
        assert reading is not None  # noqa: S101 - `_arrives` was true
        try:
            received = reading.result()
        except CallFailed as failure:
            await self._reconnect(failure)
            return
        self._context.note_answer(self._job)
        self.received = True
        if isinstance(received, Payload):
            self.reply = received
            await self._give_up("stream_unavailable", "the server replied without a stream")
        else:
            await self._handle(received)

    async def _reconnect(self, failure: CallFailed) -> None:
        """After a lost connection, schedule the next one, or give up if it would not help."""
        new_events, patience = self._new_events, self._patience
        await self.close()
        if not is_transient(failure):
            await self._give_up("stream_unavailable", failure.message)
            return
        if new_events and not self._unnumbered:
            patience.answered()
            return
        patience.failed(failure)
        if patience.failures >= EMPTY_CONNECTIONS_MAX or self._unnumbered:
            await self._give_up("stream_lost", failure.message)
            return
        self._connect_at = self._context.clock.monotonic() + patience.delay()
        self._must_poll = True

    async def _give_up(self, code: str, reason: str) -> None:
        self._usable, self._must_poll = False, True
        what = "job can't be streamed" if code == "stream_unavailable" else "job's stream was lost"
        message = f"The {what} ({reason.rstrip('.')}); it is polled instead."
        await self._warn(code, message)

    async def _warn(self, code: str, message: str) -> None:
        await self._flush(now=True)
        await self._context.emit(report.warning(self._job, code, message))

    async def _handle(self, event: StreamEvent) -> None:
        kind, number = event.type, event.number
        if kind == "error":
            # Its number is not noted: a resumed stream may use it for another event.
            words = event.error.words if event.error is not None else None
            message = f"the stream ended with an error{f': {words}' if words else ''}"
            await self._reconnect(CallFailed("stream_ended", message))
            self._must_poll = True
            return
        if number is not None and number <= self._last:
            return
        first = max(self._last + 1, 1)  # some servers count from 1
        if number is not None and number > first and not self._has_gap:
            if self._gap_requested != self._last:
                self._gap_requested = self._last
                await self.close()
                return
            self._has_gap = True
            missing = f"the events from {self._last + 1} to {number - 1}"
            message = f"The job's stream lacks {missing}; the complete result will be retrieved."
            await self._warn("stream_gap", message)
        if not await self._report(event, kind):
            return
        if kind.startswith("response."):
            self._new_events += 1
            self._unnumbered = self._unnumbered or number is None
        if number is not None:
            self._last = number
        await self._note_state(event)

    async def _report(self, event: StreamEvent, kind: str) -> bool:
        """Report a stream event; return False if it is malformed and should be requested again."""
        if kind == "response.output_text.delta":
            delta = event.get("delta")
            if not isinstance(delta, str):
                return False
            if self._context.wait.stream_text:
                self._text.append(delta)
                self._text_number = event.number
            await self._flush()
            return True
        item_type: str | None = None
        if kind in _ITEMS:
            item = event.get("item")
            value = item.get("type") if isinstance(item, dict) else None
            item_type = value[:_ITEM_TYPE_LENGTH] if isinstance(value, str) else None
        elif call := _OF_A_CALL.fullmatch(kind):
            item_type = call[1]
        elif kind not in _STATES:
            return True
        await self._flush(now=True)
        await self._context.emit(report.progress(self._job, kind, item_type, event.number))
        return True

    async def _note_state(self, event: StreamEvent) -> None:
        job, payload = self._job, event.payload if _OF_THE_JOB.fullmatch(event.type) else None
        if event.type in _ENDS or (payload is not None and payload.ended):
            await self.close()
            self._usable = False
            if payload is not None and payload.is_whole and not self._has_gap:
                self._ended = payload
                job.note_status(payload.status)
            else:
                self._must_poll = True  # the event lacks parts of the response
        elif payload is not None and payload.status not in (None, job.status):
            job.note_status(payload.status)
            await remember_payload(payload, job, self._context)

    async def _flush(self, *, now: bool = False) -> None:
        """Emit the text that has arrived, if the next `output_text_delta` is due."""
        clock = self._context.clock
        if self._text and (now or clock.monotonic() >= self._text_due):
            delta, self._text = "".join(self._text), []
            self._text_due = clock.monotonic() + DELTA_INTERVAL
            await self._context.emit(report.text_delta(self._job, delta, self._text_number))

    def _note_reported(self) -> None:
        if self._last >= 0 and not self._text:
            self._job.note_reported(self._last)
