"""Which jobs the batch of a run has: all of its file's jobs, or in a retry those to submit again.

The state keeps the hash of each job's request, because a batch's row has one hash for all of them.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, NamedTuple

from oaibg.base.record import Record
from oaibg.contract.errors import UsageError
from oaibg.engine import report
from oaibg.engine.persist import commit
from oaibg.many.results.line_id import digest
from oaibg.many.results.result_line import MISSING, SUCCESSFUL
from oaibg.many.retry import check_changes
from oaibg.state.commits import patiently
from oaibg.state.rows import NOT_FOUND
from oaibg.state.store import Intent, line_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.many.plan import Plan
    from oaibg.many.results.results_file import ResultsFile
    from oaibg.request.jobs_file import Line
    from oaibg.state.store import Row

_DIGITS = 16
"""The number of digits that are kept of a request's hash."""


class BatchJobs(Record):
    """The jobs of a run in batches, as the state keeps them."""

    is_retry: bool
    """Whether the batch has only jobs that are submitted again."""
    requests: dict[str, str]
    """The hash of each job's request, by custom_id; also of jobs in earlier batches."""
    replaced: dict[str, str]
    """The marks of the result lines that the batch replaces, by the custom_ids of all its jobs."""

    @classmethod
    def of(cls, lines: Iterable[Line], replaced: dict[str, str] | None = None) -> BatchJobs:
        """Return the jobs of a batch: all lines, or in a retry the jobs in `replaced`."""
        requests = {line.custom_id: line.sha256[:_DIGITS] for line in lines}
        all_ = dict.fromkeys(requests, "")
        return cls(is_retry=replaced is not None, requests=requests, replaced=replaced or all_)

    @classmethod
    def read(cls, stored: str) -> BatchJobs:
        """Return the jobs that the state stores."""
        return cls(**json.loads(stored))

    def text(self) -> str:
        """Return the jobs as the state stores them."""
        return json.dumps(self.values())


class Attempt(NamedTuple):
    """The batch to submit or to follow."""

    row: Row | None
    sha256: str
    """Stands for the requests of the batch in the state, and in the mark that finds it."""
    custom_ids: Mapping[str, str]
    """The custom_ids of its jobs, and the marks of the result lines that they replace."""


async def read_jobs(plan: Plan, row: Row | None, context: Context) -> BatchJobs:
    """Return the jobs of the run's batch.

    Raises:
        UsageError: the jobs changed after version 0.4 submitted their batch.
    """
    base_url = context.base_url
    stored = await patiently(lambda: context.store.batch_jobs(base_url, plan.key), context.clock)
    if row is not None and stored is not None:
        return BatchJobs.read(stored)
    if row is not None and row.step != "intent" and row.request_sha256 != _sha256(plan.file.lines):
        raise _changed(plan)
    return BatchJobs.of(plan.file.lines)


async def earlier_batches(plan: Plan, context: Context) -> list[str]:
    """Return the IDs of the batches that the run's retries have replaced, oldest first."""
    store, base_url = context.store, context.base_url
    rows = await patiently(lambda: store.jobs(job_key=line_key(plan.key, "")), context.clock)
    return [
        row.response_id
        for row in reversed(rows)
        if row.superseded and row.base_url == base_url and row.response_id is not None
    ]


def check_batch(
    plan: Plan, row: Row | None, jobs: BatchJobs, results: ResultsFile
) -> Collection[str]:
    """Check the requests of a run; return the jobs to submit again, if the plan retries them.

    Raises:
        UsageError: a request has changed, and its job is not submitted again; or it is unknown
            whether the jobs to submit again have completed.
    """
    lines = plan.file.lines
    if jobs.requests.keys() - {line.custom_id for line in lines}:
        raise _changed(plan)
    changed = [line for line in lines if jobs.requests.get(line.custom_id) != line.sha256[:_DIGITS]]
    if row is None or row.step == "intent":
        earlier = jobs.requests.keys() - jobs.replaced.keys()
        check_changes(plan, [line for line in changed if line.custom_id in earlier], ())
        return ()
    retriable = _retriable(row, jobs, plan, results)
    check_changes(plan, changed, retriable)
    return retriable if plan.retry_failed else ()


async def begin_batch(
    plan: Plan,
    row: Row | None,
    jobs: BatchJobs,
    retried: Collection[str],
    results: ResultsFile,
    context: Context,
) -> Attempt:
    """Note the jobs of the batch to submit; raises `StateError`."""
    lines, store = plan.file.lines, context.store
    if row is None or row.step == "intent":
        return await _unsent(plan, row, jobs, context)
    if not retried:
        return Attempt(row, str(row.request_sha256), jobs.replaced)
    jobs = BatchJobs.of(lines, {name: results.marks.get(name, "") for name in retried})
    again = [line for line in lines if line.custom_id in retried]
    intent = Intent(
        base_url=context.base_url,
        job_key=line_key(plan.key, ""),
        # The earlier batch may have the same jobs, but must not have the same mark.
        request_sha256=digest(str(row.response_id), _sha256(again)),
        model=again[0].model,
        completion_window=plan.completion_window,
    )
    text, before = jobs.text(), row
    await commit(lambda: store.retry_batch(intent, before, plan.key, text), context)
    results.forget(retried)
    row = await patiently(
        lambda: store.by_key(context.base_url, str(intent.job_key)), context.clock
    )
    return Attempt(row, str(intent.request_sha256), jobs.replaced)


def in_earlier_batches(jobs: int, batch_ids: Sequence[str], path: str, job: Job) -> Event:
    """Return the warning that a results file lacks results of batches which a retry replaced."""
    commands = " or ".join(
        shlex.join(["oaibg", "monitor", one, "--results-file", path]) for one in batch_ids
    )
    message = (
        f"{path} lacks the results of {jobs:,} jobs from earlier batches. To fetch them, run: "
        f"{commands}"
    )
    return report.warning(job, "results_missing", message)


async def _unsent(plan: Plan, row: Row | None, jobs: BatchJobs, context: Context) -> Attempt:
    """Note the jobs of a batch of which no request was sent, so that they may still change."""
    lines, replaced = plan.file.lines, jobs.replaced
    if jobs.is_retry:
        added = [line.custom_id for line in lines if line.custom_id not in jobs.requests]
        replaced = {**replaced, **dict.fromkeys(added, "")}
    jobs = BatchJobs.of(lines, replaced if jobs.is_retry else None)
    store, text = context.store, jobs.text()
    await commit(lambda: store.note_batch_jobs(context.base_url, plan.key, text), context)
    is_retry = row is not None and jobs.is_retry
    sha256 = str(row.request_sha256) if row is not None and is_retry else _sha256(lines)
    return Attempt(row, sha256, jobs.replaced)


def _retriable(row: Row, jobs: BatchJobs, plan: Plan, results: ResultsFile) -> Collection[str]:
    """Return the jobs that may be submitted again: none until the batch's files have been read.

    A job whose result existed and is gone may have completed; only --resubmit-unknown pays for it
    again. Raises `UsageError` if there are only such jobs to retry.
    """
    names = [line.custom_id for line in plan.file.lines]
    without = {name for name in names if name not in results.statuses}
    unread, is_gone = without & jobs.replaced.keys(), row.status == NOT_FOUND
    if unread and not is_gone:
        return ()
    has_ended = row.recap is not None  # and so there were results
    unknown = {name for name, end in results.unsuccessful.items() if end.code == MISSING}
    unknown |= (without & jobs.requests.keys()) - (set() if has_ended else unread)
    failed = {name for name in names if results.statuses.get(name) not in SUCCESSFUL} - unknown
    if plan.retry_failed and unknown and not failed and not plan.resubmit_unknown:
        raise UsageError(
            f"{results.path} has no results for {len(unknown):,} jobs, and they can't be read from "
            f"the batch {row.response_id}. These jobs may have completed, and may be billed. "
            "Nothing was submitted.",
            hint="To submit them again, add --resubmit-unknown to --retry-failed. You may then pay "
            "twice.",
        )
    return failed | unknown if plan.resubmit_unknown else failed


def _sha256(lines: Iterable[Line]) -> str:
    return digest(*(line.custom_id + line.sha256 for line in lines))


def _changed(plan: Plan) -> UsageError:
    return UsageError(
        f"{plan.file.path}: the jobs changed after their batch was submitted.",
        code="job_key_reused",
        hint="To submit them, and pay again, start another run with --job-key KEY and another "
        "--results-file. Options that fill in the bodies also change jobs.",
    )
