"""The plan of a run over a jobs file, and the checks before the run starts."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import Unavailable, UsageError
from oaibg.engine.hints import BUSY_HINT
from oaibg.engine.persist import state_error
from oaibg.state.commits import patiently
from oaibg.state.store import line_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oaibg.engine.context import Context
    from oaibg.many.in_flight import InFlight
    from oaibg.request.jobs_file import JobsFile
    from oaibg.state.store import Row


class Plan(Record):
    """What a run does; `key` identifies the run if it is started again."""

    file: JobsFile
    key: str
    results_path: str
    max_in_flight: int
    completion_window: str | None
    resubmit_unknown: bool
    slots: InFlight | None = None
    """The places for jobs, if the run adapts their number; `max_in_flight` is the first one."""
    learns_polls: bool = False
    """Whether the jobs are polled as those that ended suggest."""


@asynccontextmanager
async def locked_run(plan: Plan, context: Context, *, batch: bool) -> AsyncIterator[dict[str, Row]]:
    """Hold a run's lock, and yield its rows in the state by custom_id; its batch is at "".

    Raises:
        UsageError: the run was started in the other mode or with other requests, or the state can't
            be used, which a run needs to be resumed.
        Unavailable: another process is running it.
    """
    problem, store, base_url = context.state_problem, context.store, context.base_url
    if problem is not None and problem.code != "state_corrupt":
        raise state_error(problem)
    lock = store.lock(base_url, line_key(plan.key, ""))
    if lock is None:
        raise Unavailable(
            f"Another process is running the jobs of {plan.key!r}.",
            code="job_key_busy",
            hint=BUSY_HINT,
            outcome="not_created",
        )
    try:
        rows = await patiently(lambda: store.of_run(base_url, plan.key), context.clock)
        _check_file(plan.file, rows, batch=batch)
        yield rows
    finally:
        store.unlock(lock)


def digest(*texts: str) -> str:
    """Return the SHA-256 of texts, in hexadecimal."""
    return hashlib.sha256("\n".join(texts).encode(errors="replace")).hexdigest()


def _check_file(file: JobsFile, rows: dict[str, Row], *, batch: bool) -> None:
    if rows and batch != ("" in rows):
        way = "as a batch; add" if "" in rows else "in background mode; omit"
        raise UsageError(
            f"{file.path}: this run was started {way} --completion-window 24h to continue it.",
            code="job_key_reused",
            hint="To submit the jobs again, and pay for them again, start another run with "
            "--job-key KEY and another --results-file.",
        )
    changed = [
        f"{line.custom_id!r} (line {line.number})"
        for line in file.lines
        if line.custom_id in rows and rows[line.custom_id].request_sha256 != line.sha256
    ]
    if changed:
        named = ", ".join(changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise UsageError(
            f"{file.path}: these requests differ from those that were submitted: {named}{more}.",
            code="job_key_reused",
            hint="Give a changed request a new custom_id, or start another run with --job-key KEY "
            "and another --results-file. Options that fill in the bodies also change requests.",
        )
