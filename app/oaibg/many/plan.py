"""What a run over a jobs file is to do, and the checks before it does anything."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import Unavailable, UsageError
from oaibg.engine.persist import state_error
from oaibg.state.commits import patiently
from oaibg.state.store import line_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oaibg.engine.context import Context
    from oaibg.request.jobs_file import JobsFile
    from oaibg.state.store import Row


class Plan(Record):
    """What a run is to do; `key` is what it is known by when it is begun again."""

    file: JobsFile
    key: str
    results_path: str
    max_in_flight: int
    completion_window: str | None
    resubmit_unknown: bool


@asynccontextmanager
async def locked_run(plan: Plan, context: Context, *, batch: bool) -> AsyncIterator[dict[str, Row]]:
    """Hold a run's lock; yields its jobs in the state, by their custom_ids. Its batch is at "".

    Raises:
        UsageError: the file is not the one that the run was begun with, or the state can't be used,
            without which a run can't be continued.
        Unavailable: another process is running it.
    """
    problem, store, base_url = context.state_problem, context.store, context.base_url
    if problem is not None and problem.code != "state_corrupt":
        raise state_error(problem)
    lock = store.lock(base_url, line_key(plan.key, ""))
    if lock is None:
        raise Unavailable(
            f"Another process is running the jobs of {plan.key!r} right now.",
            code="job_key_busy",
            outcome="not_created",
        )
    try:
        rows = await patiently(lambda: store.of_run(base_url, plan.key), context.clock)
        _check_file(plan.file, rows, batch=batch)
        yield rows
    finally:
        store.unlock(lock)


def digest(*texts: str) -> str:
    """The SHA-256 of texts, in hexadecimal."""
    return hashlib.sha256("\n".join(texts).encode(errors="replace")).hexdigest()


def _check_file(file: JobsFile, rows: dict[str, Row], *, batch: bool) -> None:
    """Refuse a run that was begun the other way, or with other bodies."""
    if rows and batch != ("" in rows):
        way = "as a batch (--completion-window 24h)" if "" in rows else "in background mode"
        raise UsageError(
            f"{file.path}: this run was begun {way}, and goes on that way.",
            code="job_key_reused",
            hint="--job-key KEY, with a results file of its own, begins another run of the same "
            "file, which is paid for again.",
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
            f"{file.path}: another request was submitted under the same custom_id: {named}{more}.",
            code="job_key_reused",
            hint="Give a changed request a new custom_id, or begin another run with --job-key KEY "
            "and a results file of its own. The options that fill the bodies count, too.",
        )
