"""How far a run over several jobs is: its `run_progress` events."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from oaibg.contract.events import Poll, RunProgress, Submitted
from oaibg.contract.run_status import ENDED
from oaibg.contract.speed import Speed, eta

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.many.tally import Tally

INTERVAL = 60.0
"""Seconds between two `run_progress` events."""


class Progress:
    """Knows how far a run is, from its tally and from the events of its jobs."""

    def __init__(self, tally: Tally, context: Context, total: int | None) -> None:
        self.tally, self.total = tally, total
        self._clock = context.clock
        self._running: dict[object, str] = {}
        """The last status of each job that is submitted and has not ended."""
        self._speed = Speed()

    def see(self, job: object, event: Event) -> None:
        """Note the status in an event; `job` is what identifies the event's job."""
        if isinstance(event, Submitted | Poll) and event.status not in ENDED:
            self._running[job] = str(event.status)
        self._speed.see(job, event, self._clock.monotonic())

    def leave(self, job: object) -> None:
        """Note that a job is no longer followed."""
        self._running.pop(job, None)
        self._speed.leave(job, self._clock.monotonic(), ended=False)

    def event(self) -> RunProgress:
        """Return the event that says how far the run is now."""
        ended, running = self._counts()
        done = ended.total() - self.tally.left
        per_minute = self._per_minute(done, running.total())
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

    def _per_minute(self, _done: int, _running: int) -> float | None:
        return self._speed.per_minute(self._clock.monotonic())


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

    def see(self, job: object, event: Event) -> None:
        """Do nothing: the events are those of the batch, not of its jobs."""

    def _per_minute(self, done: int, running: int) -> float | None:
        now = self._clock.monotonic()
        self._speed.count(now, ended=done, running=running)
        return self._speed.per_minute(now)
