"""Listening to a job's stream between two polls.

The stream is a hint, and only polls are authoritative: whatever the stream does or leaves out, the
worst result is one more poll. Its events are numbered, so that it can be resumed after a break:
repeats are dropped, and a gap is requested once more.
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
"""Seconds between two lines of text at least."""

FRUITLESS_MAX = 3
"""After this many connections in a row without new events, the job is only polled."""

_REST_SECONDS, _LAG_SECONDS = 5.0, 0.5
"""Seconds without an event after which the rest of an ended job's stream is given up: on a stream
that is still to be opened, and on one that is open."""

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
    """Listens to one job; a failed stream is never the job's failure.

    `stream` is the one that the create opened.
    """

    def __init__(self, job: Job, context: Context, api: Calls, stream: Stream | None) -> None:
        self._job, self._context, self._api, self._stream = job, context, api, stream
        self._reading: asyncio.Task[StreamEvent | Payload] | None = None
        self._usable = True
        self._last = -1 if job.last_number is None else job.last_number
        """The number of the last event."""
        self._text: list[str] = []
        self._text_number: int | None = None
        """The deltas since the last line of text, and the number of the last of them."""
        self._line_at = -math.inf
        """When the next line of text may come."""
        self._unnumbered = False
        """Whether events came without numbers, so that repeats can't be recognized."""
        self._news = 0
        """New events that the present connection brought."""
        self._patience = Patience(context.clock)
        """Counts the connections in a row that brought nothing new."""
        self._connect_at = -math.inf
        self._asked_again = -2
        """The number after which a gap was found, and requested once more."""
        self._gaps = False
        """Whether a gap remains."""
        self._must_poll = False
        """Whether the loop has to look at the job now."""
        self._ended: Payload | None = None
        self.heard = False
        """Whether the last `listen` brought any event."""
        self.answer: Payload | None = None
        """The response, if the last `listen` was given it in place of a stream."""

    async def listen(
        self, seconds: float, limit: float, *, interval: float | None = None
    ) -> Payload | None:
        """Wait as the polling loop does between two polls, and emit what comes meanwhile.

        Returns the whole of the job if it has ended; None if it should be looked at: nothing came
        for `seconds` (or between two events for `interval`, by default that of the polls), the
        stream has broken off without bringing anything, what it brought is not all of it, or
        `limit` is reached, a time on the monotonic clock.
        """
        clock, interval = self._context.clock, interval or self._context.wait.poll_seconds
        self._must_poll, self.heard, self.answer = False, False, None
        silent = clock.monotonic() + seconds
        while not self._must_poll and self._ended is None:
            now = clock.monotonic()
            until = min(silent, limit)
            if now >= until:
                break
            if not self._usable or now < self._connect_at:
                await clock.sleep(min(until, self._connect_at if self._usable else until) - now)
                continue
            before = self._news
            if await self._comes((min(until, self._line_at) if self._text else until) - now):
                await self._take()
            else:
                await self._flush()
            if self._news > before:
                silent = max(silent, clock.monotonic() + interval)
            self._note_reported()
        await self._flush(now=True)
        self._note_reported()
        return self._ended

    async def hear_rest(self, limit: float) -> None:
        """Emit the rest of the stream of a job that a poll found ended, if it comes soon.

        If it emits no warning, the stream was read to its end.
        """
        self._connect_at = -math.inf
        while self._usable:
            patience = _REST_SECONDS if self._stream is None else _LAG_SECONDS
            await self.listen(patience, limit, interval=patience)
            if self._usable and not self._must_poll:
                await self._give_up("stream_lost", "its rest does not come")

    async def close(self) -> None:
        """Stop listening."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading}, timeout=_CLOSE_SECONDS)
            if reading.done() and not reading.cancelled():
                reading.exception()  # or asyncio reports that nobody asked for it
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        self._news = 0

    async def _comes(self, seconds: float) -> bool:
        """Whether something arrives within that time; if not, the read stays pending."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        nap = asyncio.ensure_future(self._context.clock.sleep(max(seconds, 0.0)))
        try:
            await asyncio.wait({self._reading, nap}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
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
            raise CallFailed("stream_ended", "it ends too early")
        return event

    async def _take(self) -> None:
        """Handle what `_comes` has received."""
        reading, self._reading = self._reading, None
        assert reading is not None  # noqa: S101 - `_comes` was asked
        try:
            brought = reading.result()
        except CallFailed as failure:
            await self._broken(failure)
            return
        self._context.note_answer(self._job)
        self.heard = True
        if isinstance(brought, Payload):
            self.answer = brought
            await self._give_up("stream_unavailable", "it was answered without one")
        else:
            await self._hear(brought)

    async def _broken(self, failure: CallFailed) -> None:
        """Handle a lost connection: reconnect later, or give up if that is hopeless."""
        news, patience = self._news, self._patience
        await self.close()
        if not is_transient(failure):
            await self._give_up("stream_unavailable", failure.message)
            return
        if news and not self._unnumbered:
            patience.answered()
            return
        patience.failed(failure)
        if patience.failures >= FRUITLESS_MAX or self._unnumbered:
            await self._give_up("stream_lost", failure.message)
            return
        self._connect_at = self._context.clock.monotonic() + patience.delay()
        self._must_poll = True

    async def _give_up(self, code: str, reason: str) -> None:
        self._usable, self._must_poll = False, True
        what = "can't be had" if code == "stream_unavailable" else "was lost"
        message = f"The job's stream {what} ({reason.rstrip('.')}); polls tell its state."
        await self._warn(code, message)

    async def _warn(self, code: str, message: str) -> None:
        await self._flush(now=True)
        await self._context.emit(report.warning(self._job, code, message))

    async def _hear(self, event: StreamEvent) -> None:
        kind, number = event.type, event.number
        if kind == "error":
            # Its number may be that of the event that would have come.
            await self._broken(CallFailed("stream_ended", "it ends with an error"))
            self._must_poll = True
            return
        if number is not None and number <= self._last:
            return
        first = max(self._last + 1, 1)  # some count from 1
        if number is not None and number > first and not self._gaps:
            if self._asked_again != self._last:
                self._asked_again = self._last
                await self.close()
                return
            self._gaps = True
            missing = f"the events from {self._last + 1} to {number - 1}"
            message = f"The job's stream leaves out {missing}; its result will be read whole."
            await self._warn("stream_gap", message)
        if not await self._report(event, kind):
            return
        if kind.startswith("response."):
            self._news += 1
            self._unnumbered = self._unnumbered or number is None
        if number is not None:
            self._last = number
        await self._note_state(event)

    async def _report(self, event: StreamEvent, kind: str) -> bool:
        """Emit what an event reports; False if it should be reported, but can't be read."""
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
        """Take the job's state from an event that has it."""
        job, payload = self._job, event.payload if _OF_THE_JOB.fullmatch(event.type) else None
        if event.type in _ENDS or (payload is not None and payload.ended):
            await self.close()
            self._usable = False
            if payload is not None and payload.is_whole and not self._gaps:
                self._ended = payload
                job.note_status(payload.status)
            else:
                self._must_poll = True  # the whole job has to be read
        elif payload is not None and payload.status not in (None, job.status):
            job.note_status(payload.status)
            await remember_payload(payload, job, self._context)

    async def _flush(self, *, now: bool = False) -> None:
        """Emit the text that has come since the last line of it, if that is due."""
        clock = self._context.clock
        if self._text and (now or clock.monotonic() >= self._line_at):
            delta, self._text = "".join(self._text), []
            self._line_at = clock.monotonic() + DELTA_INTERVAL
            await self._context.emit(report.text_delta(self._job, delta, self._text_number))

    def _note_reported(self) -> None:
        if self._last >= 0 and not self._text:
            self._job.note_reported(self._last)
