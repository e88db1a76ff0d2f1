"""The plan of a run over a jobs file, and its lock."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import Unavailable, UsageError
from oaibg.engine.hints import BUSY_HINT
from oaibg.engine.persist import state_error
from oaibg.state.commits import patiently
from oaibg.state.runs import RunRow
from oaibg.state.store import line_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oaibg.engine.context import Context
    from oaibg.many.pacing.in_flight import InFlight
    from oaibg.request.jobs_file import JobsFile
    from oaibg.state.store import Row


_LOCK_SECONDS, _LOCK_INTERVAL = 0.5, 0.03
"""How long a run tries to get its lock, which `show` and `monitor` hold for a moment."""


class Plan(Record):
    """What a run does; `key` identifies the run if it is started again."""

    file: JobsFile
    key: str
    results_path: str
    max_in_flight: int
    completion_window: str | None
    resubmit_unknown: bool
    retry_failed: bool = False
    label: str | None = None
    max_cost_usd: float | None = None
    """Submit no further jobs if the run would cost more, in US dollars."""
    slots: InFlight | None = None
    """The places for jobs, if the run adapts their number; `max_in_flight` is the first one."""
    learns_polls: bool = False
    """Whether the jobs are polled as those that ended suggest."""


@asynccontextmanager
async def locked_run(plan: Plan, context: Context, *, batch: bool) -> AsyncIterator[dict[str, Row]]:
    """Hold a run's lock, and yield its rows in the state by custom_id; its batch is at "".

    Raises:
        UsageError: the run was started in the other mode, or the state can't be used, which a run
            needs to be resumed.
        StateError: the key belongs to a single job.
        Unavailable: another process is running it.
    """
    problem, store, base_url = context.state_problem, context.store, context.base_url
    if problem is not None and problem.code != "state_corrupt":
        raise state_error(problem)
    lock = await _lock(plan, context)
    if lock is None:
        raise Unavailable(
            f"Another process is running the jobs of {plan.key!r}.",
            code="job_key_busy",
            hint=BUSY_HINT,
            outcome="not_created",
        )
    try:
        await patiently(lambda: store.check_run_key(base_url, plan.key), context.clock)
        rows = await patiently(lambda: store.of_run(base_url, plan.key), context.clock)
        _check_mode(plan.file, rows, batch=batch)
        yield rows
    finally:
        store.unlock(lock)


async def _lock(plan: Plan, context: Context) -> int | None:
    clock, store = context.clock, context.store
    give_up = clock.monotonic() + _LOCK_SECONDS
    while True:
        lock = store.lock(context.base_url, line_key(plan.key, ""))
        if lock is not None or clock.monotonic() >= give_up:
            return lock
        await clock.sleep(_LOCK_INTERVAL)


async def note_run(plan: Plan, context: Context, *, batch: bool) -> None:
    """Store the run, so that every process can show and resume it; raises `StateError`."""
    argv, now = context.next_command.rerun(), context.clock.now()
    run = RunRow(
        base_url=context.base_url,
        run_key=plan.key,
        jobs_file=plan.file.path,
        results_file=plan.results_path,
        total=len(plan.file.lines),
        is_batch=int(batch),
        rerun=None if argv is None else json.dumps(argv),
        created_at=now,
        updated_at=now,
        label=plan.label,
    )
    await patiently(lambda: context.store.note_run(run), context.clock)


def _check_mode(file: JobsFile, rows: dict[str, Row], *, batch: bool) -> None:
    if rows and batch != ("" in rows):
        way = "as a batch; add" if "" in rows else "in background mode; omit"
        raise UsageError(
            f"{file.path}: this run was started {way} --completion-window 24h to continue it.",
            code="job_key_reused",
            hint="To submit the jobs again, and pay for them again, start another run with "
            "--job-key KEY and another --results-file.",
        )
