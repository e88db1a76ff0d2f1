"""The live display of running jobs: a status line for one job, a board for several."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oaibg.base.text import inert
from oaibg.contract import events
from oaibg.output.human.words import (
    CAUTION,
    STRONG,
    clock,
    counted,
    end_status,
    is_news,
    job_name,
    plain,
    progress_words,
    status_text,
    status_words,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, ConsoleOptions, RenderResult

_CLIPPED = Text("\n", no_wrap=True, overflow="ellipsis")
"""Joins lines and cuts them at the terminal's width."""

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND = 12.5

_TAIL = 4
"""Lines of a streamed text that are shown."""

_TAIL_KEPT = 2000
_ROWS = 8
"""Maximum number of jobs with a row on the board."""


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
        rows = [plain(f"{frame} {self._model or 'job'}")]
        retries = f"retry {self._retries}" if self._retries else ""
        more = (clock(now - self._began), self._countdown(now), retries, self._step)
        for part in (plain(self._status, STRONG), *map(plain, filter(None, more))):
            if rows[-1].cell_len + 3 + part.cell_len > width:
                rows.append(Text("  ") + part)
            else:
                rows[-1].append(" · ", style="dim").append(part)
        if self._text:
            # Earlier lines of the text can't be in the last rows.
            last = "\n".join(inert(self._text).expandtabs(4).split("\n")[-_TAIL:])
            folded = Text(last, style="dim").wrap(console, max(width - 4, 1), overflow="fold")
            rows += (Text("  ") + row for row in folded[-_TAIL:])
        yield _CLIPPED.join(rows)

    def _countdown(self, now: float) -> str:
        if self._due is None:
            return ""
        left, action = self._due - now, "retry" if self._retries else "poll"
        return f"next {action} in {clock(left + 1)}" if left > 0 else f"{action}ing"


class Board:
    """Several jobs: a progress bar, counts by status, and rows for some of the jobs."""

    def __init__(self, now: Callable[[], float], total: Callable[[], int | None]) -> None:
        self._now, self._total = now, total
        self._began = now()
        self._running: dict[str, tuple[str | None, float]] = {}
        """By job name: the status, and the time of the job's first event."""
        self._ended: Counter[str | None] = Counter()
        self._retries = 0
        self._trouble = ""

    def update(self, event: events.Event) -> None:
        """Update the display from an event."""
        name = job_name(event)
        if name is None:
            return
        match event:
            case events.Final() | events.CancelResult() | events.Error():
                self._running.pop(name, None)
                self._ended[end_status(event)] += 1
            case events.Timeout() | events.Interrupted() | events.Detached():
                self._running.pop(name, None)
            case events.SubmitStart():
                self._running[name] = ("submitting", self._now())
            case events.Poll() if event.next_poll_seconds is None:
                pass  # the job has ended; the event of its end follows
            case events.Submitted() | events.Poll():
                _, since = self._running.pop(name, (None, self._now()))
                self._running[name] = (event.status, since)
            case events.SubmitError() | events.PollError():
                self._retries += 1
                self._trouble = f"{name}: {event.error.message}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the bar, the counts, and the jobs that were polled last."""
        yield self._bar(options.max_width)
        # Copies, because Rich draws in a different thread than `update`.
        running = list(self._running.items())
        counts = Counter(status for _, (status, _) in running) + self._ended.copy()
        if counts:
            yield _CLIPPED.join([plain(counted(dict(counts.most_common())))])
        if self._trouble:
            words = f"Retries: {self._retries:,}; latest: {self._trouble}"
            yield _CLIPPED.join([plain(words, CAUTION)])
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, min_width=11)
        table.add_column(no_wrap=True, justify="right", min_width=8)
        rows = min(_ROWS, max(options.size.height - 6, 0))
        for name, (status, since) in running[-rows:] if rows else ():
            elapsed = clock(self._now() - since)
            table.add_row(plain(name), status_text(status), Text(elapsed, style="dim"))
        yield table

    def _bar(self, width: int) -> Table:
        done, elapsed = self._ended.total(), clock(self._now() - self._began)
        total = self._total()
        label = f"{done:,} done" if total is None else f"{done:,} of {total:,} done"
        length = max(min(40, width - len(label) - len(elapsed) - 4), 4)
        bar = ProgressBar(
            total=total, completed=done, width=length, pulse=total is None, complete_style="green"
        )
        grid = Table.grid(padding=(0, 2))
        grid.add_row(Text(label, style=STRONG, no_wrap=True), bar, Text(elapsed, no_wrap=True))
        return grid
