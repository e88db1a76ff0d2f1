"""The live display of several jobs: a progress bar, counts, the pace, and some of the jobs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from oaibg.base.text import one_line
from oaibg.contract import events
from oaibg.contract.run_status import ALIVE, run_status
from oaibg.contract.speed import Speed, eta
from oaibg.output.human.amounts import clock, cost, dollars, number_at, rate, time_left
from oaibg.output.human.names import (
    CAUTION,
    STRONG,
    job_name,
    plain,
    status_count,
    status_text,
)
from oaibg.output.human.rows import CLIPPED, folded, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, ConsoleOptions, RenderResult

_SPARE = 3
"""The rows of the terminal that the board leaves to the lines above it."""

_BAR = 40
"""Maximum width of the bar."""

_STATUS_WIDTH, _TIME_WIDTH = 11, 12


class _Row(NamedTuple):
    """A job that has not ended."""

    status: str | None
    created: float | None = None
    """The time of its create; None if an earlier command submitted it."""


class Board:
    """How far a run is. The first `run_progress` says what had ended before this command.

    The jobs of a batch have no events until it has ended, so each `run_progress` counts for it. A
    job's time runs from its create, so a job that an earlier command submitted has none.
    """

    def __init__(
        self,
        now: Callable[[], float],
        total: Callable[[], int | None],
        max_cost_usd: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._now, self._total, self._max_cost_usd = now, total, max_cost_usd
        self._began = now()
        self._first: events.RunProgress | None = None
        self._before: events.RunProgress | None = None
        """The event to which `_ended` is added."""
        self._batch: str | None = None
        self._running: dict[str, _Row] = {}
        """By job name."""
        self._ended: Counter[str] = Counter()
        self._speed = Speed()
        self._left = 0
        """The number of jobs that keep running, but are not followed any more."""
        self._tokens: int | None = None
        self._cost: float | None = None
        self._submits = False
        self._retries = 0
        self._trouble = ""

    def update(self, event: events.Event) -> None:
        """Update the display from an event."""
        if isinstance(event, events.RunProgress):
            self._note(event)
            return
        name = job_name(event)
        if name is None:
            return
        self._speed.see(name, event, self._now())
        match event:
            case events.Final() | events.CancelResult() | events.Error():
                self._running.pop(name, None)
                if name == self._batch:
                    return
                self._before = self._first
                self._ended[run_status(event)] += 1
                if isinstance(event, events.Final):
                    self._add(event.usage, event.cost_usd)
            case events.Timeout() | events.Interrupted() | events.Detached():
                self._left += self._running.pop(name, None) is not None
                self._speed.leave(name, self._now(), ended=False)
            case events.SubmitStart():
                self._submits = self._submits or event.of is not None  # a batch has no name
                self._running[name] = _Row("submitting")
            case events.Submitted() if event.reattached:
                self._running[name] = _Row(event.status)
            case events.Submitted():
                self._running[name] = _Row(event.status, self._now())
            case events.Poll() if event.next_poll_seconds is not None:
                created = self._running.get(name, _Row(None)).created
                self._running[name] = _Row(event.status, created)
            case events.Poll():
                pass  # the job has ended; the event of its end follows
            case events.SubmitError() | events.PollError():
                self._retries += 1
                self._trouble = f"{name}: {event.error.message}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the bar, the counts, the pace, and the jobs that were submitted first."""
        width = options.max_width
        # Copies, because Rich draws in a different thread than `update`.
        running, ended = list(self._running.items()), self._ended.copy()
        before = self._before
        done = ended.total() + (before.done if before else 0)
        if before is not None:
            ended.update({key: before.counts[key] for key in before.counts if key not in ALIVE})
        rows = [
            self._bar(done, width),
            *folded((status_count(*one) for one in ended.most_common()), width),
            *folded(self._alive(running, done), width),
            *folded(map(plain, filter(None, self._pace(done))), width),
        ]
        if self._trouble:
            rows.append(plain(f"Retries: {self._retries:,}; latest: {self._trouble}", CAUTION))
        room = max(options.size.height - _SPARE, 1)
        free = max(room - len(rows), 0)
        first = running if len(running) <= free else running[: max(free - 1, 0)]
        rows += self._jobs(first, width)
        if len(first) < len(running):
            rows.append(Text(f"… and {len(running) - len(first):,} more"))
        yield CLIPPED.join(rows[:room])

    def _note(self, event: events.RunProgress) -> None:
        if self._first is None:
            self._first = event
            self._add(event.usage, event.cost_usd)
        self._batch = job_name(event)
        self._before = event if self._batch else self._first

    def _add(self, usage: object, usd: float | None) -> None:
        total = number_at(usage, "total_tokens")
        if total is not None:
            self._tokens = (self._tokens or 0) + total
        if usd is not None:
            self._cost = (self._cost or 0.0) + usd

    def _count(self) -> int | None:
        """Return the number of jobs; `run_progress` has that of a batch."""
        return self._total() or (self._before.total if self._before else None)

    def _bar(self, done: int, width: int) -> Text:
        total, elapsed = self._count(), clock(self._now() - self._began)
        label = f"{done:,} done" if total is None else f"{done:,} of {total:,} done"
        row = Text(label, style=STRONG)
        if total:
            length = max(min(_BAR, width - len(label) - len(elapsed) - 4), 4)
            full = min(length * done // total, length)
            row = Text.assemble(row, "  ", ("━" * full, "green"), ("━" * (length - full), "dim"))
        return Text.assemble(row, "  ", elapsed)

    def _alive(self, running: list[tuple[str, _Row]], done: int) -> list[Text]:
        """Return how many jobs are running, and how many wait to be submitted."""
        counts = Counter(row.status for _, row in running)
        if self._batch and (total := self._count()):
            counts = Counter(dict.fromkeys(counts, total - done))  # the batch stands for its jobs
        parts = [status_count(*one) for one in counts.most_common()]
        waiting = (self._count() or 0) - done - len(running) - self._left
        if self._submits and waiting > 0:
            parts.append(Text(f"{waiting:,} to submit"))
        return parts

    def _pace(self, done: int) -> tuple[str, ...]:
        """Return the rate, the time left, and what the jobs used."""
        pace = self._speed.per_minute(self._now())
        left = (self._count() or 0) - done
        used = "" if self._tokens is None else f"{self._tokens:,} tokens"
        return (
            rate(pace),
            time_left(eta(left, pace) if left > 0 else None),
            used,
            self._costs(),
        )

    def _costs(self) -> str:
        """Return what the jobs cost, of the limit if there is one."""
        used, limit = cost(self._cost), self._max_cost_usd()
        return f"{used} of {dollars(limit)}" if used and limit is not None else used

    def _jobs(self, running: list[tuple[str, _Row]], width: int) -> list[Text]:
        """Return a row per job: its name, its status, and its time."""
        names = [one_line(name) for name, _ in running]
        longest = max(map(cell_len, names), default=0)
        has_times = any(row.created is not None for _, row in running)
        times = _TIME_WIDTH if has_times else 0
        room = min(longest, max(width - _STATUS_WIDTH - times - 3, 4))
        rows = []
        for name, (_, (status, created)) in zip(names, running, strict=True):
            shown = status_text(status)
            shown.truncate(max(_STATUS_WIDTH, shown.cell_len), pad=True)
            time = "" if created is None else clock(self._now() - created)
            row = Text.assemble(
                set_cell_size(shortened(name, room), room), "  ", shown, (f"{time:>{times}}", "dim")
            )
            row.rstrip()
            rows.append(row)
        return rows
