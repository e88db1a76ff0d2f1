"""Turns a job's stream events into `progress`, `output_text_delta` and their warnings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from oaibg.engine import report
from oaibg.engine.stream_steps import Steps, error_words
from oaibg.engine.streamed_output import StreamedOutput

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
        from_start = job.last_number is None
        self._steps = Steps(from_start=from_start)
        self._output = StreamedOutput(from_start=from_start)
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
            await self._add_text(text, event)
        if (step := self._steps.step(event)) is not None:
            await self.flush(now=True)
            await self._context.emit(report.progress(self._job, kind, event.number, *step))
        return True

    async def take_end(self, event: StreamEvent, payload: Payload) -> None:
        """Report the text of a whole result, if no event before it brought any."""
        await self._add_text(self._output.text_only_of(payload), event)

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
        """Note that the rest of the stream can't be read."""
        self._output.note_loss()

    def lacks_output(self, payload: Payload) -> bool:
        """Whether a job's result lacks output that was streamed."""
        return self._output.exceeds(payload)

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

    async def _add_text(self, text: str, event: StreamEvent) -> None:
        if text and self._context.wait.stream_text:
            self._text.append(text)
            self._text_number = event.number
            await self.flush()

    async def _warn_of_text(self) -> None:
        if self._context.wait.stream_text and not self._has_gap:
            self._has_gap = True
            message = "The streamed text differs from the job's text; the result has the job's."
            await self.warn("stream_gap", message)
