"""What a run over a jobs file is to do, and the checks before it does anything."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from oaibg.base.record import Record
from oaibg.contract.errors import Unavailable, UsageError
from oaibg.engine.persist import state_error
from oaibg.state.commits import patiently
from oaibg.state.store import line_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.engine.context import Context
    from oaibg.request.jobs_file import JobsFile
    from oaibg.state.store import Row


class Plan(Record):
    """What a run is to do.

    Args:
        file: the jobs.
        key: what the run is known by when it is begun again.
        results_path: where the results go.
        max_in_flight: how many jobs may be alive at the API.
        completion_window: what the jobs ask for.
        resubmit_unknown: whether to submit again what may have been submitted.
    """

    file: JobsFile
    key: str
    results_path: str
    max_in_flight: int
    completion_window: str | None
    resubmit_unknown: bool


@contextmanager
def locked_run(key: str, context: Context) -> Iterator[None]:
    """Hold a run's lock.

    Raises:
        UsageError: the state can't be used, without which a run can't be taken up again.
        Unavailable: another process is at this run.
    """
    problem = context.state_problem
    if problem is not None and problem.code != "state_corrupt":
        raise state_error(problem)
    lock = context.store.lock(context.base_url, line_key(key, ""))
    if lock is None:
        raise Unavailable(
            f"Another process is running the jobs of {key!r} right now.",
            code="job_key_busy",
            outcome="not_created",
        )
    try:
        yield
    finally:
        context.store.unlock(lock)


async def rows_of(plan: Plan, context: Context, *, batch: bool) -> dict[str, Row]:
    """What the state knows of a run's jobs, by their custom_ids; the batch's own is at "".

    Raises:
        UsageError: the file is not the one that the run was begun with: a body was changed, or the
            run was begun the other way.
        StateError: the state can't be read.
    """
    key, file = plan.key, plan.file
    rows = await patiently(lambda: context.store.of_run(context.base_url, key), context.clock)
    if rows and batch != ("" in rows):
        way = "as a batch (--completion-window 24h)" if "" in rows else "in background mode"
        raise UsageError(
            f"{file.path}: this run was begun {way}, and goes on that way.",
            code="job_key_reused",
            hint="--job-key KEY, with a results file of its own, begins another run of the same "
            "file, which is paid for again.",
        )
    changed = [
        line
        for line in file.lines
        if line.custom_id in rows and rows[line.custom_id].request_sha256 != line.sha256
    ]
    if changed:
        named = ", ".join(f"{line.custom_id!r} (line {line.number})" for line in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise UsageError(
            f"{file.path}: another request was submitted under the same custom_id: {named}{more}.",
            code="job_key_reused",
            hint="Give a changed request a new custom_id, or begin another run with --job-key KEY "
            "and a results file of its own. The options that fill the bodies count, too.",
        )
    return rows
