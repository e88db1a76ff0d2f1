"""Listening to a job's stream between two polls.

The stream is a hint, and the polling loop the truth: whatever the stream does or leaves out, the
worst that comes of it is a poll more. Its events are numbered, so that it can be taken up where it
broke off: repeats are dropped, and a gap is asked for once more.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING

from oaibg.api.payload import Payload
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import OutputTextDelta, Progress
from oaibg.engine import retry as polling
from oaibg.engine.context import remember_seen
from oaibg.engine.verdicts import is_passing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oaibg.api.calls import Calls
    from oaibg.api.stream import StreamEvent
    from oaibg.base.clock import Clock
    from oaibg.contract.events import Event
    from oaibg.engine.context import Tools
    from oaibg.engine.job import Job

DELTA_INTERVAL = 0.35
"""Seconds between two lines of text at least."""

FRUITLESS_MAX = 3
"""Connections in a row that brought nothing new, after which the job is polled alone."""

_REST_SECONDS, _LAG_SECONDS = 5.0, 0.5
"""Seconds without news after which a job that has ended has no more to tell: on a stream that is
still to be opened, and on one that is open."""

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

    Args:
        job: whose stream it is; the one that its create opened is taken over.
        tools: the clock and the state.
        api: opens streams.
    """

    def __init__(self, job: Job, tools: Tools, api: Calls) -> None:
        self._job, self._tools, self._api = job, tools, api
        self._stream, job.stream = job.stream, None
        self._reading: asyncio.Task[StreamEvent | Payload | None] | None = None
        self._text = _Text(tools.clock)
        self._usable = True
        self._last = -1 if job.told_number is None else job.told_number
        """The number of the last event."""
        self._unnumbered = False
        """Whether events came that can't be told from their repeats."""
        self._news = 0
        """New events that the present connection brought."""
        self._fruitless = 0
        self._connect_at = -math.inf
        self._asked_again = -2
        """The number after which a gap was seen, and was asked for once more."""
        self._gaps = False
        """Whether there are gaps that stayed."""
        self._look = False
        """Whether it is for the loop to look at the job now."""
        self.heard = False
        """Whether the last `listen` brought any event."""
        self.answer: Payload | None = None
        """The response, where the last `listen` was given it in place of a stream."""
        self.ended: Payload | None = None
        """The whole of the job, once it has ended."""

    async def listen(
        self, seconds: float, limit: float, *, interval: float | None = None
    ) -> AsyncIterator[Event]:
        """Wait as the polling loop does between two polls, and tell what comes meanwhile.

        Ends when the job has ended (`ended` has its payload then) or should be looked at: nothing
        came for `seconds`, the stream has broken off without bringing anything, or what it
        brought is not all of it.

        Args:
            seconds: how long nothing may come at first.
            limit: when to end in any case, on the monotonic clock.
            interval: how long nothing may come between two events, if not as between polls.
        """
        clock, interval = self._tools.clock, interval or self._job.wait.poll_seconds
        self._look, self.heard, self.answer = False, False, None
        silent = clock.monotonic() + seconds
        while not self._look and self.ended is None:
            now = clock.monotonic()
            until = min(silent, limit)
            if now >= until:
                break
            if not self._usable or now < self._connect_at:
                await clock.sleep(min(until, self._connect_at if self._usable else until) - now)
                continue
            if not await self._comes(min(until, self._text.due) - now):
                for event in self._flushed():
                    yield event
            else:
                before = self._news
                for event in await self._take():
                    yield event
                if self._news > before:
                    silent = max(silent, clock.monotonic() + interval)
            self._note_told()
        for event in self._flushed(now=True):
            yield event
        self._note_told()

    async def rest(self, limit: float) -> AsyncIterator[Event]:
        """What there is still to tell of a job that a poll has seen ended, if it comes soon.

        Where no warning was told, the stream was heard to its end.
        """
        self._connect_at = -math.inf
        while self._usable:
            patience = _REST_SECONDS if self._stream is None else _LAG_SECONDS
            async for event in self.listen(patience, limit, interval=patience):
                yield event
            if self._usable and not self._look:
                for event in self._give_up("stream_lost", "its rest does not come"):
                    yield event

    async def close(self) -> None:
        """Stop listening."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading}, timeout=_CLOSE_SECONDS)
            if reading.done() and not reading.cancelled():
                reading.exception()  # taken notice of
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        self._news = 0

    async def _comes(self, seconds: float) -> bool:
        """Whether something can be taken within that time; what is awaited stays awaited."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        nap = asyncio.ensure_future(self._tools.clock.sleep(max(seconds, 0.0)))
        try:
            await asyncio.wait({self._reading, nap}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
        return self._reading.done()

    async def _read(self) -> StreamEvent | Payload | None:
        if self._stream is None:
            after = None if self._last < 0 else self._last
            opened = await self._api.stream(
                str(self._job.response_id), after, polling.REQUEST_TIMEOUT
            )
            if isinstance(opened, Payload):
                return opened
            self._stream = opened
        return await self._stream.next()

    async def _take(self) -> list[Event]:
        """What `_comes` said has come; gives what there is to tell of it."""
        reading, self._reading = self._reading, None
        assert reading is not None  # noqa: S101 - `_comes` was asked
        try:
            brought = reading.result()
        except CallFailed as failure:
            return await self._broken(failure.message, failure)
        if brought is None:
            return await self._broken("it ends too early")
        self._job.answered = self.heard = True
        if isinstance(brought, Payload):
            self.answer = brought
            return self._give_up("stream_unavailable", "it was answered without one")
        return await self._hear(brought)

    async def _broken(self, reason: str, failure: CallFailed | None = None) -> list[Event]:
        """The connection is over; another one follows, unless there is no hope of it."""
        news = self._news
        await self.close()
        refused = failure is not None and failure.http_status is not None
        if failure is not None and refused and not is_passing(failure):
            return self._give_up("stream_unavailable", reason)
        if news and not self._unnumbered:
            self._fruitless = 0
            return []
        self._fruitless += 1
        if self._fruitless >= FRUITLESS_MAX or self._unnumbered:
            return self._give_up("stream_lost", reason)
        clock = self._tools.clock
        asked = polling.retry_after(failure.retry_after, clock.now()) if failure else None
        delay = polling.create_delay(self._fruitless, asked, clock.random())
        self._connect_at = clock.monotonic() + delay
        self._look = True
        return []

    def _give_up(self, code: str, reason: str) -> list[Event]:
        self._usable, self._look = False, True
        what = "can't be had" if code == "stream_unavailable" else "was lost"
        message = f"The job's stream {what} ({reason.rstrip('.')}); polls tell its state."
        return [*self._flushed(now=True), self._job.warning(code, message)]

    async def _hear(self, event: StreamEvent) -> list[Event]:
        kind, number = event.type, event.number
        if kind == "error":
            # Its number may be that of the event that would have come.
            events = await self._broken("it ends with an error")
            self._look = True
            return events
        if number is not None and number <= self._last:
            return []
        told: list[Event] = []
        if number is not None and number > max(self._last + 1, 1):  # some count from 1
            if not self._gaps and self._asked_again != self._last:
                self._asked_again = self._last
                await self.close()
                return []
            told += self._gap(number)
        content = self._content(event, kind)
        if content is None:
            return told
        told += content
        if kind.startswith("response."):
            self._news += 1
            self._unnumbered = self._unnumbered or number is None
        if number is not None:
            self._last = number
        payload = event.payload if _OF_THE_JOB.fullmatch(kind) else None
        if kind in _ENDS or (payload is not None and payload.ended):
            await self._end(payload)
        elif payload is not None and payload.status not in (None, self._job.status):
            self._job.status = payload.status
            await remember_seen(payload, self._job, self._tools)
        return told

    def _gap(self, number: int) -> list[Event]:
        if self._gaps:
            return []
        self._gaps = True
        missing = f"the events from {self._last + 1} to {number - 1}"
        message = f"The job's stream leaves out {missing}; its result will be read whole."
        return [*self._flushed(now=True), self._job.warning("stream_gap", message)]

    def _content(self, event: StreamEvent, kind: str) -> list[Event] | None:
        """What there is to tell of an event; None where it should be told and can't be read."""
        if kind == "response.output_text.delta":
            delta = event.get("delta")
            if not isinstance(delta, str):
                return None
            if self._job.wait.stream_text:
                self._text.add(delta, event.number)
            return self._flushed()
        item_type: str | None = None
        if kind in _ITEMS:
            item = event.get("item")
            value = item.get("type") if isinstance(item, dict) else None
            item_type = value[:_ITEM_TYPE_LENGTH] if isinstance(value, str) else None
        elif call := _OF_A_CALL.fullmatch(kind):
            item_type = call[1]
        elif kind not in _STATES:
            return []
        progress = Progress(
            response_id=self._job.response_id,
            type=kind,
            item_type=item_type,
            sequence_number=event.number,
        )
        return [*self._flushed(now=True), progress]

    async def _end(self, payload: Payload | None) -> None:
        """The stream's last event: it has the whole job, or the whole job is to be read."""
        await self.close()
        self._usable = False
        if payload is not None and payload.is_whole and not self._gaps:
            self.ended, self._job.status = payload, payload.status
        else:
            self._look = True

    def _flushed(self, *, now: bool = False) -> list[Event]:
        """The text that has come since the last line of it, where that is due."""
        if not self._text.is_due(now=now):
            return []
        delta, number = self._text.take()
        line = OutputTextDelta(
            response_id=self._job.response_id, delta=delta, sequence_number=number
        )
        return [line]

    def _note_told(self) -> None:
        if self._last >= 0 and not self._text.waits:
            self._job.told_number = self._last


class _Text:
    """Deltas that are put together, so that there are a few lines of them a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pieces: list[str] = []
        self._number: int | None = None
        self._next = -math.inf

    @property
    def waits(self) -> bool:
        """Whether there is any."""
        return bool(self._pieces)

    @property
    def due(self) -> float:
        """When there is a line to be told, on the monotonic clock."""
        return self._next if self._pieces else math.inf

    def is_due(self, *, now: bool) -> bool:
        """Whether it is time for a line, or for all that is there `now`."""
        return self.waits and (now or self._clock.monotonic() >= self._next)

    def add(self, delta: str, number: int | None) -> None:
        """Take one more."""
        self._pieces.append(delta)
        self._number = number

    def take(self) -> tuple[str, int | None]:
        """All that is there, and the number of the last."""
        text, self._pieces = "".join(self._pieces), []
        self._next = self._clock.monotonic() + DELTA_INTERVAL
        return text, self._number
