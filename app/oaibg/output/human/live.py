"""What a terminal shows while jobs run: one job in a line or two, or many in a board."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from oaibg.base.text import inert, one_line
from oaibg.contract import events
from oaibg.output.human.words import STRONG, clock, counted, name_of, state, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, ConsoleOptions, RenderResult

    from oaibg.contract.events import Event

_TAIL = 4
"""Lines of a streamed text that are shown while it is written."""

_TAIL_KEPT = 2000
_ROWS = 8
"""Jobs of many that are shown one by one."""

_STATES = {
    "in_progress": "cyan",
    "queued": "blue",
    "completed": "green",
    "failed": "red",
    "cancelled": "red",
    "expired": "red",
    "incomplete": "red",
}


def styled(status: str | None, unknown: str = "not known yet") -> Text:
    """A status in its colour."""
    return Text(one_line(state(status, unknown)), style=_STATES.get(str(status), ""))


class One:
    """A job that is waited for: model, state, elapsed time, countdown, retries, its newest text.

    Args:
        now: the monotonic time, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._model: str | None = None
        self._state = "asking"
        self._interval: float | None = None
        self._due: float | None = None
        self._retries = 0
        self._step = self._text = ""
        self._spinner = Spinner("dots")

    def see(self, event: Event) -> None:
        """Take in what an event tells."""
        now = self._now()
        match event:
            case events.SubmitStart():
                self._model, self._state = event.model, "submitting"
                self._interval = event.poll_seconds
            case events.Submitted():
                self._state, self._retries = state(event.status), 0
                self._due = None if self._interval is None else now + self._interval
            case events.Poll():
                self._began = now - event.elapsed_seconds
                self._state, self._retries = state(event.status), 0
                following = event.next_poll_seconds
                self._due = None if following is None else now + following
            case events.SubmitError() | events.PollError():
                self._began = now - event.elapsed_seconds
                self._retries += 1
                self._due = now + event.retry_in_seconds
            case events.Progress():
                self._due = None  # the stream tells, and is not asked
                if event.item_type is None:
                    self._state = state(event.type.removeprefix("response."))
                else:
                    self._step = step(event)
            case events.OutputTextDelta():
                self._due = None
                self._text = (self._text + event.delta)[-_TAIL_KEPT:]
            case _:
                pass

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line where it fits, else as many as are needed."""
        width = options.max_width
        parts = [Text(one_line(part)) for part in self._parts()]
        parts[1].stylize(STRONG)
        first = Text(" ").join((self._frame(console), parts.pop(0)))
        for part in parts:
            if cell_len(first.plain) + 3 + cell_len(part.plain) > width:
                yield _clipped(first)
                first = Text("  ") + part
            else:
                first = first.append(" · ", style="dim").append(part)
        yield _clipped(first)
        if self._text:
            # Nothing of what is before the last lines can be among them.
            last = "\n".join(inert(self._text).expandtabs(4).split("\n")[-_TAIL:])
            lines = Text(last, style="dim").wrap(console, max(width - 4, 1), overflow="fold")
            yield from (_clipped(Text("  ") + line) for line in lines[-_TAIL:])

    def _frame(self, console: Console) -> Text:
        frame = self._spinner.render(console.get_time())
        return frame if isinstance(frame, Text) else Text(" ")

    def _parts(self) -> list[str]:
        now = self._now()
        parts = [self._model or "job", self._state, clock(now - self._began)]
        if self._due is not None:
            left = self._due - now
            what = "trying again" if self._retries else "next look"
            parts.append(f"{what} in {clock(left + 1)}" if left > 0 else "looking")
        if self._retries:
            parts.append(f"retry {self._retries}")
        if self._step:
            parts.append(self._step)
        return parts


class Many:
    """A run over several jobs: how many are done, in which states, and some of them by name.

    Args:
        now: the monotonic time, in seconds.
        total: how many jobs there are; None while that is not known.
    """

    def __init__(self, now: Callable[[], float], total: Callable[[], int | None]) -> None:
        self._now, self._total = now, total
        self._began = now()
        self._alive: dict[str, tuple[str | None, float]] = {}
        """By name: the state, and since when the job is known."""
        self._ends: Counter[str | None] = Counter()
        self._retries = 0
        self._trouble = ""

    def see(self, event: Event) -> None:
        """Take in what an event tells."""
        name = name_of(event)
        if name is None:
            return
        match event:
            case events.Final() | events.CancelResult():
                self._end(name, str(event.status))
            case events.Error():
                self._end(name, event.code)
            case events.Timeout() | events.Interrupted() | events.Detached():
                self._alive.pop(name, None)
            case events.SubmitStart():
                self._alive[name] = ("submitting", self._now())
            case events.Poll() if event.next_poll_seconds is None:
                pass  # it has ended, and its end is told next
            case events.Submitted() | events.Poll():
                _, since = self._alive.pop(name, (None, self._now()))
                self._alive[name] = (event.status, since)
            case events.SubmitError() | events.PollError():
                self._retries += 1
                self._trouble = f"{name}: {event.error.message}"
            case _:
                pass

    def _end(self, name: str, status: str) -> None:
        self._alive.pop(name, None)
        self._ends[status] += 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The bar, the counts, and the jobs whose state was read last."""
        yield self._bar(options.max_width)
        # Copies, because another thread draws than the one that takes events in.
        alive = [state for state, _ in list(self._alive.values())]
        if counts := Counter(alive) + Counter(dict(self._ends)):
            yield _clipped(Text(one_line(counted(dict(counts.most_common())))))
        if self._trouble:
            told = f"{self._retries:,} retries, the last: {self._trouble}"
            yield _clipped(Text(one_line(told), style="yellow"))
        rows = min(_ROWS, max(options.size.height - 6, 0))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, min_width=11)
        table.add_column(no_wrap=True, justify="right", min_width=8)
        for name, (status, since) in list(self._alive.items())[-rows:] if rows else ():
            spent = clock(self._now() - since)
            table.add_row(Text(one_line(name)), styled(status), Text(spent, style="dim"))
        yield table

    def _bar(self, width: int) -> Table:
        done, spent = self._ends.total(), clock(self._now() - self._began)
        total = self._total()
        told = f"{done:,} done" if total is None else f"{done:,} of {total:,} done"
        grid = Table.grid(padding=(0, 2))
        length = max(min(40, width - len(told) - len(spent) - 4), 4)
        bar = ProgressBar(
            total=total, completed=done, width=length, pulse=total is None, complete_style="green"
        )
        grid.add_row(Text(told, style=STRONG, no_wrap=True), bar, Text(spent, no_wrap=True))
        return grid


def _clipped(text: Text) -> Text:
    """The text as one line, whatever the width."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
