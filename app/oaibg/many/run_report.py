"""Shows a run over a jobs file from any process: its line, and the summary of its jobs."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from oaibg.base.text import timestamp
from oaibg.contract.errors import ExitCode
from oaibg.contract.events import Run
from oaibg.contract.speed import eta
from oaibg.many.run_jobs import RunJobs
from oaibg.many.tally import Tally

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.state.runs import RunRow


def show_run(run: RunRow, context: Context) -> list[Event]:
    """Return the events that show a run: its line, and the summary of its jobs.

    Raises `OaibgError` if the local state can't be read.
    """
    tally = Tally()
    jobs = RunJobs(run, tally, context)
    jobs.count_rest()
    done, per_minute = tally.counts.total() - tally.left, jobs.per_minute
    for job in jobs.running:
        tally.count(job.status or "unknown", ExitCode.STILL_RUNNING)
    warnings = [*jobs.note_unwritten(), *jobs.note_limit()]
    next_ = context.next_command.monitor([run.run_key])
    if not jobs.may_submit:
        again = run.argv or (next_ if jobs.running else None)
        next_ = again if jobs.running or jobs.is_unfinished else None
    path, key = existing_results(run), run.run_key
    summary = tally.summary(
        context, next_=next_, response_id=jobs.batch_id, results_file=path, job_key=key
    )
    if jobs.may_submit:
        summary = summary.but(hint=active_hint(run))
    shown = Run(
        response_id=jobs.batch_id,
        job_key=run.run_key,
        label=run.label,
        jobs_file=run.jobs_file,
        results_file=run.results_file,
        rerun=run.argv,
        total=run.total,
        counts=summary.counts,
        is_active=jobs.is_active,
        is_cancelled=run.is_cancelled,
        per_minute=per_minute,
        eta_seconds=eta(run.total - done, per_minute),
        usage=summary.usage,
        cost_usd=summary.cost_usd,
        created_at=timestamp(run.created_at),
        updated_at=timestamp(jobs.updated_at),
        base_url=run.base_url,
    )
    return [*warnings, shown, summary]


def active_hint(run: RunRow) -> str:
    """Return the hint for a run that another process is running."""
    follow = shlex.join(["oaibg", "monitor", run.run_key])
    return f"Another process is running it. `{follow}` waits for its jobs."


def existing_results(run: RunRow) -> str | None:
    """Return the run's results file; None if there is none yet, as for a table during the run."""
    path = run.results_file
    return path if path is not None and os.path.exists(path) else None  # noqa: PTH110
