"""Turns a job's stream events into `progress`, `output_text_delta` and their warnings."""

from __future__ import annotations

import math
from io import StringIO
from typing import TYPE_CHECKING

from oaibg.api.payload import WITH_OUTPUT
from oaibg.api.streamed_output import StreamedOutput
from oaibg.engine import report
from oaibg.engine.stream_steps import Steps, error_words

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.api.stream import StreamEvent
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

DELTA_INTERVAL = 0.35
"""Minimum number of seconds between two `output_text_delta` events."""


class StreamReport:
    """Reports the stream events of one job, each of which is passed in once and in order."""

    def __init__(self, job: Job, context: Context) -> None:
        self._job, self._context = job, context
        self._from_start = from_start = job.last_number is None
        self._steps = Steps(from_start=from_start)
        self._output = StreamedOutput(from_start=from_start)
        self._whole_text = StringIO()
        """The text that has been emitted, or will be."""
        self._text: list[str] = []
        self._text_number: int | None = None
        """The text that is not emitted yet, and the sequence_number of its last event."""
        self._text_due = -math.inf
        self.error: str | None = None
        """The words of the last error that the stream reported."""
        self._has_gap = False
        """Whether the emitted text lacks some, and a warning says so."""

    @property
    def has_text(self) -> bool:
        """Whether some text is not emitted yet."""
        return bool(self._text)

    @property
    def flush_at(self) -> float:
        """When the next `output_text_delta` is due, on the monotonic clock."""
        return self._text_due if self._text else math.inf

    async def take(self, event: StreamEvent) -> bool:
        """Report an event; return False if it is malformed and should be requested again."""
        kind = event.type
        if kind == "response.output_text.delta" and not isinstance(event.get("delta"), str):
            return False
        text = self._output.take(event)
        if text is None:
            await self._warn_of_text()
        else:
            await self._add_text(text, event.number)
        if (step := self._steps.step(event)) is not None:
            await self.flush(now=True)
            await self._context.emit(report.progress(self._job, kind, event.number, *step))
        return True

    async def take_end(self, payload: Payload, number: int | None) -> None:
        """Report the text of a result that no event brought, or that it contradicts the events.

        `number` is that of the last event. If an earlier process read a part of the stream, only
        the text after what this one emitted is reported: the rest may have been emitted before.
        """
        if self._context.wait.stream_text and not self._has_gap:
            rest = self._rest_of(payload)
            if rest is not None:
                await self._add_text(rest, number)
            elif payload.status in WITH_OUTPUT:
                await self._warn_of_text()
            await self.flush(now=True)

    def note_error(self, event: StreamEvent) -> None:
        """Note the words of an event that reports an error."""
        self.error = error_words(event) or self.error

    async def flush(self, *, now: bool = False) -> None:
        """Emit the text that has arrived, if the next `output_text_delta` is due."""
        clock = self._context.clock
        if self._text and (now or clock.monotonic() >= self._text_due):
            delta, self._text = "".join(self._text), []
            self._text_due = clock.monotonic() + DELTA_INTERVAL
            await self._context.emit(report.text_delta(self._job, delta, self._text_number))

    async def warn(self, code: str, message: str) -> None:
        """Emit a warning after the text that has arrived before it."""
        await self.flush(now=True)
        await self._context.emit(report.warning(self._job, code, message))

    async def note_gap(self, missing: str) -> None:
        """Note that events are missing permanently, with a warning."""
        self._has_gap = True
        self._output.note_loss()
        message = f"The job's stream lacks {missing}; the complete result will be retrieved."
        await self.warn("stream_gap", message)

    def note_lost(self) -> None:
        """Note that the rest of the stream can't be read; a warning says so."""
        self._has_gap = True
        self._output.note_loss()

    def lacks_output(self, payload: Payload) -> bool:
        """Whether a job's result lacks output that was streamed, or items that were begun."""
        return self._output.began_more(payload) or self._output.exceeds(payload)

    async def completed(self, payload: Payload) -> Payload:
        """Return a job's result, with the streamed output if the server's lacks some, and warn.

        If the job failed and the result doesn't say why, the stream's words are a warning, too.
        """
        if self.error and payload.status == "failed" and payload.object("error") is None:
            await self.warn("stream_error", f"The job's stream reported an error: {self.error}")
        if not self._output.exceeds(payload):
            return payload
        try:
            restored = self._output.restored(payload)
        except ValueError:
            return payload
        message = "The server's result lacks output that it streamed; the streamed output is used."
        await self.warn("output_from_stream", message)
        return restored

    def _rest_of(self, payload: Payload) -> str | None:
        """What follows the emitted text in a result's text; None if the result contradicts it."""
        emitted = self._whole_text.getvalue()
        if not payload.text or not (emitted or self._from_start):
            return ""
        # Commentary is not in the answer's text, but may have been emitted.
        for text in (payload.text, payload.answer.text_of_all):
            if self._from_start and text.startswith(emitted):
                return text[len(emitted) :]
            if not self._from_start and emitted in text:
                rest = text.partition(emitted)[2]
                return "" if emitted in rest else rest
        return None

    async def _add_text(self, text: str, number: int | None) -> None:
        if text and self._context.wait.stream_text:
            self._whole_text.write(text)
            self._text.append(text)
            self._text_number = number
            await self.flush()

    async def _warn_of_text(self) -> None:
        if self._context.wait.stream_text and not self._has_gap:
            self._has_gap = True
            message = "The streamed text differs from the job's text; the result has the job's."
            await self.warn("stream_gap", message)
