"""The pace of a run that another process runs: `show` takes it from the local state."""

from __future__ import annotations

from typing import Any

from oaibg.engine.recap import Recap
from oaibg.many.run_speed import run_speed
from oaibg.state.rows import Row
from oaibg.state.runs import RunRow

STARTED = 1000.0
RUN = RunRow(
    base_url="http://a.test",
    run_key="k",
    jobs_file=None,
    results_file=None,
    total=500,
    is_batch=0,
    rerun=None,
    created_at=0.0,
    updated_at=STARTED,
)


def row(number: int, created: float, noted: float | None = None, seconds: float = 10.0) -> Row:
    """Return a job's row; `noted` is when the process learned of its end, if it has ended."""
    values: dict[str, Any] = dict.fromkeys(Row.fields)
    recap = Recap(status="completed", job_seconds=seconds).text()
    values |= {"id": number, "response_id": f"resp_{number}", "created_at": created}
    values |= {"status": "in_progress", "updated_at": created}
    if noted is not None:
        values |= {"status": "completed", "updated_at": noted, "recap": recap}
    return Row(**values)


def test_jobs_that_ended_while_no_process_ran() -> None:
    """After a resume, results that had been waiting are not jobs that ended at that pace."""
    late = [row(number, STARTED - 600, STARTED + 2) for number in range(50)]
    assert run_speed(RUN, late, STARTED + 10) is None
    running = [row(number, STARTED + 1) for number in range(50, 100)]
    assert run_speed(RUN, [*late, *running], STARTED + 10) is None


def test_jobs_that_end_since_the_start() -> None:
    """The pace is that of the jobs that the process saw running."""
    ended = [row(number, STARTED, STARTED + 12) for number in range(50)]
    running = [row(number, STARTED + 12.1) for number in range(50, 99)]
    assert run_speed(RUN, [*ended, *running], STARTED + 20) == 150
