"""The end of a run over several jobs: what ended and how, what failed and why, and what to do."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from oaibg.contract import events
from oaibg.contract.run_status import ALIVE, run_status
from oaibg.output.human.amounts import duration
from oaibg.output.human.names import BAD, CAUTION, FAINT, counted, job_name, plain
from oaibg.output.human.reasons import Why, failed, grouped, named, retries, retry_words
from oaibg.output.human.tables import end_table
from oaibg.output.human.words import Ended, by_signal, spent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TABLE = 20
"""Maximum number of jobs in the table."""

_REASONS = 10
"""Maximum number of reasons."""


_SIGNALS = 128
"""The exit code of a signal is its number and this one."""


class RunEnd:
    """Collects how the jobs of a run end.

    `rerun` returns the argv that repeats a submit; None if it can't be repeated.
    """

    def __init__(self, rerun: Callable[[], list[str] | None]) -> None:
        self._rerun = rerun
        self._ended = 0
        self._ends: list[Ended] = []
        self._why: dict[str | None, Why] = {}
        """By job name."""

    def note(self, event: Ended) -> None:
        """Note how a job ended."""
        self._ended += 1
        if self._ended <= _TABLE:
            self._ends.append(event)
        if (why := _why(event)) is not None:
            self._why[job_name(event)] = why

    def table(self, event: events.Summary, width: int) -> Text | None:
        """Return a table of the jobs that ended; None if there are none, or many."""
        ends = [end for end in self._ends if job_name(end) != job_name(event)]  # the batch
        return end_table(ends, width) if ends and self._ended <= _TABLE else None

    def lines(self, event: events.Summary) -> Iterator[Text]:
        """Yield the reasons of failures, the totals, and what keeps running."""
        if self._ended:
            yield Text()
        reasons = [*self._reasons(event)]
        yield from [*reasons, Text()] if reasons else []
        left = [*_alive(event)]
        ends = counted(sorted(event.counts.items(), key=_order))
        if self._ended or left or event.results_file is None:
            # The counts include the jobs of earlier commands.
            ends.append(f". This command took {duration(event.elapsed_seconds)}.")
        else:
            yield plain("All jobs had already ended; nothing was submitted.")
        yield ends
        if used := spent(event.usage, event.cost_usd):
            yield used
        if event.results_file is not None:
            yield plain(f"Results: {event.results_file}")
        yield from left

    def retries(self, event: events.Summary) -> Iterator[str]:
        """Yield how to submit again what did not succeed, if a repeated command can do so."""
        rerun = self._rerun()
        for words, option in retries(event):
            yield retry_words(words, option, rerun)

    def _reasons(self, event: events.Summary) -> Iterator[Text]:
        """Yield each reason with its number of jobs, most frequent first, and some of the jobs."""
        by_name = {
            one.custom_id or one.response_id: Why(one.status, one.code, one.message)
            for one in event.unsuccessful
        } | self._why
        batch = by_name.pop(job_name(event), None)
        if batch is not None and not by_name:
            by_name[job_name(event)] = batch  # no job of the batch has a reason of its own
        shown = Counter[str]()
        for why, names in grouped(by_name)[:_REASONS]:
            # A batch that was not created has no name, and stands for all its jobs.
            count = event.counts.get(why.status, 1) if names == [None] else len(names)
            shown[why.status] += count
            yield why.counted(count)
            if jobs := named(names, count):
                yield plain(f"  {jobs}", FAINT)
        cancelled = event.counts.get("cancelled", 0) - shown["cancelled"]
        rest = failed(event.counts) - failed(shown) - cancelled
        if rest > 0 and event.results_file is not None and job_name(event) not in by_name:
            more = " more" if shown else ""
            words = plain(f"{rest:,}{more} failed", BAD)
            yield words.append("; their reasons are in the results file.")


def _why(event: Ended) -> Why | None:
    """Return why a job did not succeed; None if it did, or could not be cancelled."""
    status = run_status(event)
    if isinstance(event, events.Error):
        return Why(status, event.code, event.message)
    if not isinstance(event, events.Final) or event.ok:
        return None
    if event.error is not None:
        code, message = event.error.get("code"), event.error.get("message")
        return Why(status, code and str(code), message and str(message))
    reason = (event.incomplete_details or {}).get("reason")
    if reason is None and event.refusal is not None:
        reason = "refusal"
    elif reason is None and event.calls:
        reason = "tool_calls"
    return Why(status, reason and str(reason), None)


def _order(status_and_count: tuple[str, int]) -> tuple[bool, bool, int]:
    """Sort completed jobs first, and jobs that have not ended last."""
    status, count = status_and_count
    return status in (*ALIVE, "not_submitted"), status != "completed", -count


def _alive(event: events.Summary) -> Iterator[Text]:
    """Yield what is left of a run that ended before its jobs did, if something is."""
    running = sum(event.counts.get(status, 0) for status in ALIVE)
    waiting = event.counts.get("not_submitted", 0)
    keep = "1 job keeps running" if running == 1 else f"{running:,} jobs keep running"
    parts = [keep] if running else []
    if waiting:
        parts.append(f"{waiting:,} {'was' if waiting == 1 else 'were'} not submitted")
    if event.exit_code > _SIGNALS:
        name = signal.Signals(event.exit_code - _SIGNALS).name
        left = ", ".join(parts) or "no job is running"
        yield plain("Interrupted", CAUTION).append(f"{by_signal(name)}; {left}.")
    elif parts:
        yield plain(f"{', '.join(parts)}.")
