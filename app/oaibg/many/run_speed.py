"""How fast the jobs of a run end that another process runs, by their rows in the local state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.api.payload import TERMINAL
from oaibg.contract.speed import Speed
from oaibg.engine.recap import Recap
from oaibg.state.rows import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oaibg.state.rows import Row
    from oaibg.state.runs import RunRow

ENDED_ROW = TERMINAL | {NOT_FOUND}
"""The statuses in rows of jobs that have ended."""


def run_speed(run: RunRow, rows: Iterable[Row], now: float) -> float | None:
    """Return how many jobs end per minute, since the run was started or resumed."""
    steps: list[tuple[float, bool, int]] = []
    for row in rows:
        has_ended = row.status in ENDED_ROW
        if row.response_id is None or (has_ended and _ended_at(row) < run.updated_at):
            continue
        steps.append((max(row.created_at, run.updated_at), False, row.id))
        if has_ended:
            steps.append((max(row.updated_at, run.updated_at), True, row.id))
    speed = Speed()
    for time, is_end, job in sorted(steps):
        if is_end:
            speed.leave(job, time, ended=True)
        else:
            speed.follow(job, time)
    return speed.per_minute(now)


def _ended_at(row: Row) -> float:
    """Return when a job ended: a process that resumes its run learns of that only later."""
    recap = Recap.of_row(row)
    if recap is None or recap.job_seconds is None:
        return row.updated_at
    return row.created_at + recap.job_seconds
