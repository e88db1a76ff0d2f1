"""How far a run over several jobs is: its `run_progress` events."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from oaibg.contract.events import Poll, RunProgress, Submitted
from oaibg.contract.run_status import ENDED

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.many.tally import Tally

INTERVAL = 60.0
"""Seconds between two `run_progress` events."""

RECENT = 300.0
"""The number of most recent seconds that `per_minute` covers."""

_MARKS = int(RECENT / INTERVAL) + 1


class Progress:
    """Knows how far a run is, from its tally and from the events of its jobs."""

    def __init__(self, tally: Tally, context: Context, total: int | None) -> None:
        self.tally, self.total = tally, total
        self._clock = context.clock
        self._running: dict[object, str] = {}
        """The last status of each job that is submitted and has not ended."""
        self._marks: deque[tuple[float, int]] = deque(maxlen=_MARKS)
        """The times of the last events, and the number of jobs that had ended then."""
        self._done_before = 0

    def see(self, job: object, event: Event) -> None:
        """Note the status in an event; `job` is what identifies the event's job."""
        if isinstance(event, Submitted | Poll) and event.status not in ENDED:
            self._running[job] = str(event.status)

    def leave(self, job: object) -> None:
        """Note that a job is no longer followed."""
        self._running.pop(job, None)

    def event(self) -> RunProgress:
        """Return the event that says how far the run is now."""
        ended, running = self._counts()
        done = ended.total() - self.tally.left
        per_minute = self._per_minute(done)
        left = None if self.total is None else max(self.total - ended.total(), 0)
        return RunProgress(
            response_id=self._response_id(),
            total=self.total,
            done=done,
            counts=dict(ended + running),
            in_flight=running.total(),
            per_minute=per_minute,
            eta_seconds=eta(left, per_minute),
            usage=self.tally.totals.usage,
            cost_usd=self.tally.totals.cost_usd,
        )

    def _response_id(self) -> str | None:
        return None

    def _counts(self) -> tuple[Counter[str], Counter[str]]:
        """Return the number of jobs per status: those in the tally, and those that are running."""
        return self.tally.counts.copy(), Counter(self._running.values())

    def _per_minute(self, done: int) -> float | None:
        """Return how many jobs ended per minute; None until a job has ended in this process."""
        now = self._clock.monotonic()
        if not self._marks:
            self._done_before = done
        self._marks.append((now, done))
        then, done_then = self._marks[0]
        if done == self._done_before or now == then:
            return None
        return round((done - done_then) / (now - then) * 60, 1)


def eta(left: int | None, per_minute: float | None) -> float | None:
    """Return the estimated seconds until the last job ends; None if that is unknown."""
    return round(left / per_minute * 60) if per_minute and left is not None else None


class Results(Protocol):
    """The results that are known: those of a results file, or none."""

    @property
    def statuses(self) -> Mapping[str, str]:
        """The status of each job that has a result, by custom_id."""

    @property
    def missing(self) -> Collection[str] | None:
        """The jobs without a result; None if they are not known."""


class BatchProgress(Progress):
    """Knows how far a batch is, from the `request_counts` of its last poll.

    `custom_ids` are the jobs of the batch, if they are known; the results file may have others.
    """

    def __init__(
        self,
        tally: Tally,
        context: Context,
        results: Results,
        batch: Job,
        custom_ids: Container[str] | None,
    ) -> None:
        known = results.missing
        total = None if known is None else len(known) + len(results.statuses)
        super().__init__(tally, context, total)
        self._results, self._batch = results, batch
        self._before = Counter(
            status
            for custom_id, status in results.statuses.items()
            if custom_ids is not None and custom_id not in custom_ids
        )
        """The number of jobs per status that earlier batches of the run had."""

    def _response_id(self) -> str | None:
        return self._batch.response_id

    def _counts(self) -> tuple[Counter[str], Counter[str]]:
        batch, known = self._batch, self._batch.request_counts
        self.total = self.total or known.get("total") or None  # 0 while the batch is validated
        ended = Counter({status: known.get(status, 0) for status in ("completed", "failed")})
        ended = +ended or Counter(self._results.statuses.values()) - self._before
        ended += self._before
        left = 0 if self.total is None or batch.response_id is None else self.total - ended.total()
        return ended, +Counter({str(batch.status): left})
