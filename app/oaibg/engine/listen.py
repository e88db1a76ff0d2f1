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
from oaibg.engine.patience import REQUEST_TIMEOUT, Patience
from oaibg.engine.persist import remember_payload
from oaibg.engine.stream_report import StreamReport
from oaibg.engine.verdicts import is_transient

if TYPE_CHECKING:
    from oaibg.api.calls import Calls, Stream
    from oaibg.api.stream import StreamEvent
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

EMPTY_CONNECTIONS_MAX = 3
"""After this many connections in a row without new events, the job is only polled."""

_REST_SECONDS, _LAG_SECONDS = 5.0, 0.5
"""Seconds without an event after which the rest of an ended job's stream is abandoned: if the
stream has yet to be opened, and if it is open."""

_CLOSE_SECONDS = 0.5

_ALIVE_SECONDS = 60.0
"""Seconds without a byte after which an open stream may be dead."""

_ENDS = frozenset(
    f"response.{how}" for how in ("completed", "failed", "incomplete", "cancelled", "expired")
)
_OF_THE_JOB = re.compile(r"response\.[a-z_]{1,60}")


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
        self._report = StreamReport(job, context)
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
        self._heard, self._heard_at = 0, -math.inf
        """The bytes of the current connection, and when some were last found to have arrived."""
        self._ended: Payload | None = None
        self._end: Payload | None = None
        """The response in the stream's last event, even if it lacks parts."""
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
            if await self._arrives(min(until, self._report.flush_at) - now):
                await self._receive()
            else:
                await self._report.flush()
            if self._new_events > before:
                silent_until = max(silent_until, clock.monotonic() + interval)
            self._note_reported()
        await self._report.flush(now=True)
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

    async def completed(self, payload: Payload) -> Payload:
        """Return the result of a job that has ended, with any output that only the stream had.

        Emits a warning about that, and about an error that only the stream reported.
        """
        ended = self._ended
        if ended and ended.status == payload.status and payload.is_emptier_than(ended):
            payload = ended
        else:
            payload = await self._report.completed(payload)
        await self._report.take_end(payload, None if self._last < 0 else self._last)
        return payload

    async def last_resort(self) -> Payload | None:
        """Return the result as the stream had it, for a job that can't be retrieved any more."""
        if self._end is None or not self._end.ended:
            return None
        payload = await self._report.completed(self._end)
        return None if payload.succeeded and not payload.is_whole else payload

    def is_alive(self) -> bool:
        """Whether the stream is in use, and has received something recently; comments count."""
        self._note_heard()
        silence = self._context.clock.monotonic() - self._heard_at
        return self._usable and silence <= _ALIVE_SECONDS

    async def close(self) -> None:
        """Close the connection."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading}, timeout=_CLOSE_SECONDS)
            if reading.done() and not reading.cancelled():
                reading.exception()  # otherwise asyncio logs that it was never retrieved
        self._note_heard()
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        self._new_events = self._heard = 0

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
            job, after = self._job, None if self._last < 0 else self._last
            opened = await self._api.stream(
                str(job.response_id), after, REQUEST_TIMEOUT, job.include
            )
            if isinstance(opened, Payload):
                return opened
            self._stream, self._heard_at = opened, self._context.clock.monotonic()
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
        self._report.note_lost()
        what = "job can't be streamed" if code == "stream_unavailable" else "job's stream was lost"
        message = f"The {what} ({reason.rstrip('.')}); it is polled instead."
        if self._report.error:
            message += f" The stream reported an error: {self._report.error}"
        await self._report.warn(code, message)

    async def _handle(self, event: StreamEvent) -> None:
        kind, number = event.type, event.number
        if event.error is not None:
            # Its number is not noted: a resumed stream may use it for another event.
            self._report.note_error(event)
            await self._reconnect(CallFailed("stream_ended", "the stream ended with an error"))
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
            await self._report.note_gap(f"the events from {self._last + 1} to {number - 1}")
        if not await self._report.take(event):
            return
        if kind.startswith("response."):
            self._new_events += 1
            self._unnumbered = self._unnumbered or number is None
        if number is not None:
            self._last = number
        await self._note_state(event)

    async def _note_state(self, event: StreamEvent) -> None:
        job, payload = self._job, event.payload if _OF_THE_JOB.fullmatch(event.type) else None
        if event.type in _ENDS or (payload is not None and payload.ended):
            await self.close()
            self._usable, self._end = False, payload
            self._report.note_error(event)
            if payload is not None and payload.is_whole and not self._is_incomplete(payload):
                self._ended = payload
                job.note_status(payload.status)
            else:
                self._must_poll = True
        elif payload is not None and payload.status not in (None, job.status):
            job.note_status(payload.status)
            await remember_payload(payload, job, self._context)

    def _is_incomplete(self, payload: Payload) -> bool:
        """Whether the last event lacks events before it, or output that the job should have."""
        return self._has_gap or payload.is_empty or self._report.lacks_output(payload)

    def _note_heard(self) -> None:
        if self._stream is not None and self._stream.heard > self._heard:
            self._heard, self._heard_at = self._stream.heard, self._context.clock.monotonic()
            self._context.note_answer(self._job)

    def _note_reported(self) -> None:
        if self._last >= 0 and not self._report.has_text:
            self._job.note_reported(self._last)
