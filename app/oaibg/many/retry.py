"""`--retry-failed`: which jobs of a run to submit again, and which changed requests are accepted.

A retry replaces the unsuccessful result lines that its job has in the results file. A new line is
appended when the retry ends, and the last line of a job counts. The state knows which lines are
replaced, so that a rerun knows whether the retry has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import UsageError
from oaibg.engine.claim import is_unsuccessful
from oaibg.engine.persist import commit
from oaibg.engine.recap import REFUSED
from oaibg.many.results.result_line import SUCCESSFUL
from oaibg.state.commits import patiently
from oaibg.state.rows import NOT_FOUND
from oaibg.state.store import Intent, line_key

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from oaibg.engine.context import Context
    from oaibg.many.plan import Plan
    from oaibg.many.results.results_file import ResultsFile
    from oaibg.request.jobs_file import JobsFile, Line
    from oaibg.state.store import Row

_NAMED = 5
"""Maximum number of changed lines that an error names."""


def replaced_marks(rows: dict[str, Row]) -> dict[str, str]:
    """Return the marks of the unsuccessful lines that no longer count, by custom_id."""
    return {name: row.replaced for name, row in rows.items() if row.replaced}


def check_retry(plan: Plan, rows: dict[str, Row], results: ResultsFile) -> list[Line]:
    """Check the requests of a run; return the jobs to submit again, if the plan retries them.

    Raises:
        UsageError: the request of a job has changed, and the job is not submitted again.
    """
    failed = {
        line.custom_id
        for line in plan.file.lines
        if _has_failed(line, rows.get(line.custom_id), results)
    }
    changed = [line for line in plan.file.lines if _has_changed(line, rows, results)]
    check_changes(plan, changed, failed)
    retried = [line for line in plan.file.lines if plan.retry_failed and line.custom_id in failed]
    results.forget(line.custom_id for line in retried)
    return retried


async def replaced_rows(
    plan: Plan, retried: Sequence[Line], rows: dict[str, Row], context: Context
) -> list[Row]:
    """Return the rows of the jobs that retries replaced, and those that are now submitted again."""
    store, key = context.store, plan.key
    found = await patiently(lambda: store.replaced_in_run(context.base_url, key), context.clock)
    return [*found, *(rows[line.custom_id] for line in retried if line.custom_id in rows)]


async def begin_retry(
    plan: Plan,
    retried: Sequence[Line],
    rows: dict[str, Row],
    results: ResultsFile,
    context: Context,
) -> dict[str, Row]:
    """Note that jobs are submitted again; return the new rows.

    Raises `StateError`, also if another process has begun the same retry.
    """
    if not retried:
        return rows

    def last_mark(name: str) -> str | None:
        return results.marks.get(name) or (rows[name].response_id if name in rows else None)

    intents = [
        (
            Intent(
                base_url=context.base_url,
                job_key=line_key(plan.key, line.custom_id),
                custom_id=line.custom_id,
                request_sha256=line.sha256,
                model=line.model,
                completion_window=line.completion_window,
                replaced=last_mark(line.custom_id),
            ),
            rows.get(line.custom_id),
        )
        for line in retried
    ]
    await commit(lambda: context.store.retry(intents), context)
    return await patiently(lambda: context.store.of_run(context.base_url, plan.key), context.clock)


def check_changes(plan: Plan, changed: Sequence[Line], retriable: Collection[str]) -> None:
    """Raise `UsageError` if a request has changed, unless it is retried."""
    wrong = [line for line in changed if line.custom_id not in retriable]
    if not changed or (plan.retry_failed and not wrong):
        return
    hint = "Give a changed request a new custom_id, or start another run with --job-key KEY and "
    hint += "another --results-file. Options that fill in the bodies also change requests."
    if not wrong:
        hint = "These jobs did not succeed. To submit the changed requests, add --retry-failed; "
        hint += "you pay again."
    raise _changed(plan.file, wrong if plan.retry_failed else changed, hint)


def _changed(file: JobsFile, lines: Sequence[Line], hint: str) -> UsageError:
    named = ", ".join(f"{line.custom_id!r} ({file.place(line)})" for line in lines[:_NAMED])
    more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return UsageError(
        f"{file.path}: these requests differ from those that were submitted: {named}{more}.",
        code="job_key_reused",
        hint=hint,
    )


def _has_failed(line: Line, row: Row | None, results: ResultsFile) -> bool:
    """Return whether a job has ended without success, by its result or else by its row."""
    status = results.statuses.get(line.custom_id)
    # The row of a refused job is deleted: another row belongs to a later submit. If the API has
    # lost a job, its row says whether it had completed.
    knows_more = row is not None and (row.is_unknown or status in (REFUSED, NOT_FOUND))
    return is_unsuccessful(row) if status is None or knows_more else status not in SUCCESSFUL


def _has_changed(line: Line, rows: dict[str, Row], results: ResultsFile) -> bool:
    row = rows.get(line.custom_id)
    if row is not None and row.step != "intent":
        return row.request_sha256 != line.sha256
    return line.custom_id in results.changed
