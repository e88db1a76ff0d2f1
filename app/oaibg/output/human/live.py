"""The live display of one running job: a status line, and the newest text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from oaibg.base.text import inert, one_line
from oaibg.contract import events
from oaibg.output.human.amounts import clock
from oaibg.output.human.names import FAINT, STRONG, plain, status_style, status_text
from oaibg.output.human.rows import CLIPPED, folded, shortened
from oaibg.output.human.steps import is_news, progress_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, ConsoleOptions, RenderResult

    from oaibg.output.human.streamed import Streamed

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND = 12.5

_NAME = 40
"""Maximum width of the name."""

_TAIL = 8
"""Maximum number of lines of a streamed text that are shown."""

_TAIL_KEPT = 2000


class JobStatus:
    """One job: name, status, elapsed time, countdown, retries, step and the newest text."""

    def __init__(self, now: Callable[[], float], streamed: Streamed) -> None:
        self._now, self._streamed = now, streamed
        self._began = now()
        self._name = "job"
        """The job's key or label, or else the model."""
        self._status = Text("checking")
        self._interval: float | None = None
        self._due: float | None = None
        self._retries = 0
        self._last: events.Progress | None = None
        self._step = ""

    def update(self, event: events.Event) -> None:
        """Update the display from an event."""
        now = self._now()
        self._began = now - getattr(event, "elapsed_seconds", now - self._began)
        self._name = event.known_as or self._name
        match event:
            case events.SubmitStart():
                self._name = event.known_as or event.job_key or event.model or self._name
                self._status, self._interval = Text("submitting"), event.poll_seconds
            case events.Submitted() | events.Poll():
                self._status, self._retries = status_text(event.status), 0
                pause = getattr(event, "next_poll_seconds", self._interval)
                self._due = None if pause is None else now + pause
            case events.SubmitError() | events.PollError():
                self._retries += 1
                self._due = now + event.retry_in_seconds
            case events.Progress():
                self._due = None  # a stream is not polled
                if event.item_type is None:
                    words = progress_words(event)
                    self._status = plain(words, status_style(words.replace(" ", "_")))
                elif is_news(event, self._last):
                    self._last, self._step = event, progress_words(event)
            case events.OutputTextDelta():
                self._due = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the newest text, and a status line, or more if it doesn't fit."""
        width, now = options.max_width, self._now()
        frame = _SPINNER[int(now * _FRAMES_PER_SECOND) % len(_SPINNER)]
        name = shortened(one_line(self._name), max(min(_NAME, width - 2), 2))
        retries = f"retry {self._retries}" if self._retries else ""
        more = (clock(now - self._began), self._countdown(now), retries, self._step)
        first = (Text(f"{frame} ").append(name, STRONG), self._status)
        rows = self._tail(console, width, min(_TAIL, options.size.height // 3))
        rows += folded((*first, *map(plain, filter(None, more))), width)
        yield CLIPPED.join(rows)

    def _tail(self, console: Console, width: int, most: int) -> list[Text]:
        """Return the last lines of the text that is not printed yet."""
        text = self._streamed.rest.strip("\n")
        if not text:
            return [Text()] if self._streamed.has_blocks else []
        # Earlier lines of the text can't be in the last rows.
        last = "\n".join(inert(text[-_TAIL_KEPT:]).expandtabs(4).split("\n")[-most:])
        wrapped = Text(last, FAINT).wrap(console, max(width - 4, 1), overflow="fold")
        return [Text(), *(Text("  ") + row for row in wrapped[-most:]), Text()]

    def _countdown(self, now: float) -> str:
        if self._due is None:
            return ""
        left, action = self._due - now, "retry" if self._retries else "poll"
        return f"next {action} in {clock(left + 1)}" if left > 0 else f"{action}ing"
