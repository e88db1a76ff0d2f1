"""The live display of one running job: a status line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from oaibg.base.text import inert
from oaibg.contract import events
from oaibg.output.human.amounts import clock
from oaibg.output.human.rows import CLIPPED, folded
from oaibg.output.human.words import STRONG, is_news, plain, progress_words, status_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, ConsoleOptions, RenderResult

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND = 12.5

_TAIL = 4
"""Lines of a streamed text that are shown."""

_TAIL_KEPT = 2000


class JobStatus:
    """One job: model, status, elapsed time, countdown, retries and the newest text."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._model: str | None = None
        self._status = "checking"
        self._interval: float | None = None
        self._due: float | None = None
        self._retries = 0
        self._last: events.Progress | None = None
        self._step = self._text = ""

    def update(self, event: events.Event) -> None:
        """Update the display from an event."""
        now = self._now()
        self._began = now - getattr(event, "elapsed_seconds", now - self._began)
        match event:
            case events.SubmitStart():
                self._model, self._status = event.model, "submitting"
                self._interval = event.poll_seconds
            case events.Submitted() | events.Poll():
                self._status, self._retries = status_words(event.status), 0
                pause = getattr(event, "next_poll_seconds", self._interval)
                self._due = None if pause is None else now + pause
            case events.SubmitError() | events.PollError():
                self._retries += 1
                self._due = now + event.retry_in_seconds
            case events.Progress():
                self._due = None  # a stream is not polled
                if event.item_type is None:
                    self._status = progress_words(event)
                elif is_news(event, self._last):
                    self._last, self._step = event, progress_words(event)
            case events.OutputTextDelta():
                self._due = None
                self._text = (self._text + event.delta)[-_TAIL_KEPT:]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render one line, or more if it doesn't fit."""
        width, now = options.max_width, self._now()
        frame = _SPINNER[int(now * _FRAMES_PER_SECOND) % len(_SPINNER)]
        retries = f"retry {self._retries}" if self._retries else ""
        more = (clock(now - self._began), self._countdown(now), retries, self._step)
        first = (plain(f"{frame} {self._model or 'job'}"), plain(self._status, STRONG))
        rows = folded((*first, *map(plain, filter(None, more))), width)
        if self._text:
            # Earlier lines of the text can't be in the last rows.
            last = "\n".join(inert(self._text).expandtabs(4).split("\n")[-_TAIL:])
            wrapped = Text(last, style="dim").wrap(console, max(width - 4, 1), overflow="fold")
            rows += (Text("  ") + row for row in wrapped[-_TAIL:])
        yield CLIPPED.join(rows)

    def _countdown(self, now: float) -> str:
        if self._due is None:
            return ""
        left, action = self._due - now, "retry" if self._retries else "poll"
        return f"next {action} in {clock(left + 1)}" if left > 0 else f"{action}ing"
