"""Lists the jobs and the runs in the local state, without an event loop."""

from __future__ import annotations

from collections import Counter
from functools import partial
from heapq import merge
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from oaibg.base.record import Record
from oaibg.base.text import timestamp
from oaibg.contract.advice import FIRST_JOB, OTHER_STATE
from oaibg.contract.errors import ExitCode
from oaibg.contract.events import ListedJob, Run, Summary
from oaibg.engine import report
from oaibg.engine.cost import cost_of
from oaibg.engine.persist import state_error, state_warnings
from oaibg.engine.recap import REFUSED
from oaibg.engine.totals import Totals
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.state.runs import RunPart, RunRow

_PAGE = 1000
"""The number of jobs that are read at once."""


class Listing(Record):
    """Which lines to list, and at most how many."""

    job_key: str | None = None
    """The key of a job, or of a run: its jobs are listed then."""
    status: str | None = None
    limit: int | None = None


def list_jobs(listing: Listing, job: Job, context: Context) -> Iterator[Event]:
    """Yield the runs and the other jobs, newest first, and a summary; `job` represents them all.

    Raises `OaibgError` if the local state can't be read, as an empty list would be wrong.
    """
    problem = context.state_problem
    if problem is not None:
        if problem.code != "state_corrupt":
            raise state_error(problem)
        yield from state_warnings(problem, job, context)
    counts, totals, is_empty = Counter[str](), Totals(), True
    runs = _runs(listing, context) if listing.job_key is None else iter(())
    lines: Iterator[Run | ListedJob] = merge(
        runs, _jobs(listing, context), key=lambda line: line.created_at, reverse=True
    )
    try:
        for line in islice(lines, listing.limit):
            counts.update(_counts(line))
            totals.add(line.usage, line.cost_usd)
            is_empty = False
            yield line
    except StateError as error:
        raise state_error(error) from error
    hint = _nothing_found(listing, context) if is_empty else None
    if hint is not None:
        yield report.warning(job, "state_empty", hint)
    yield Summary(
        response_id=None,
        counts=dict(counts),
        elapsed_seconds=context.elapsed(),
        usage=totals.usage,
        cost_usd=totals.cost_usd,
        job_key=listing.job_key,
        hint=hint,
        exit_code=ExitCode.OK,
        next=None,
    )


def _counts(line: Run | ListedJob) -> dict[str, int]:
    if isinstance(line, Run):
        return line.counts
    return {} if line.replaced else {str(line.status): 1}


def _nothing_found(listing: Listing, context: Context) -> str:
    """Return why a list is empty: nothing in the state matches, or there is nothing in it."""
    place = context.store.place
    if next(chain(_jobs(Listing(), context), _runs(Listing(), context)), None) is None:
        return f"There are no jobs yet in {place}. {FIRST_JOB} {OTHER_STATE}"
    named = {"key": listing.job_key, "status": listing.status}
    which = " and ".join(f"the {name} {value!r}" for name, value in named.items() if value)
    message = f"No job in the local state in {place} has {which}."
    if listing.status == REFUSED:
        message += " Requests that the API refused are not listed; `show KEY` of a run counts them."
    return message


def _jobs(listing: Listing, context: Context) -> Iterator[ListedJob]:
    last: int | None = None
    while True:
        page = partial(
            context.store.jobs,
            job_key=listing.job_key,
            status=listing.status,
            before=last,
            limit=_PAGE,
        )
        rows = patiently_blocking(page, context.clock)
        yield from map(report.listed, rows)
        if len(rows) < _PAGE:
            return
        last = rows[-1].id


def _runs(listing: Listing, context: Context) -> Iterator[Run]:
    store, clock = context.store, context.clock
    for run in patiently_blocking(store.runs, clock):
        parts = patiently_blocking(partial(store.run_parts, run), clock)
        listed = _listed(run, parts)
        if listing.status is None or listing.status in listed.counts:
            yield listed


def _listed(run: RunRow, parts: list[RunPart]) -> Run:
    counts, totals = Counter[str](), Totals()
    for part in parts:
        if part.jobs:
            counts[part.status] += run.total if run.is_batch else part.jobs
        totals.add(part.usage, _cost(part))
    batch_id = next((part.response_id for part in parts if run.is_batch and part.jobs), None)
    return Run(
        response_id=batch_id,
        job_key=run.run_key,
        label=run.label,
        jobs_file=run.jobs_file,
        results_file=run.results_file,
        rerun=run.argv,
        total=run.total,
        counts=dict(counts),
        is_cancelled=run.is_cancelled,
        usage=totals.usage,
        cost_usd=totals.cost_usd,
        created_at=timestamp(run.created_at),
        updated_at=timestamp(max([run.updated_at, *(part.updated_at for part in parts)])),
        base_url=run.base_url,
    )


def _cost(part: RunPart) -> float | None:
    """Return the cost of some jobs: the stored one, or else that of an average job.

    The cost of an average job is used because prices depend on a job's size.
    """
    if part.usage is None or part.cost_usd is not None:
        return part.cost_usd
    average = _divided(part.usage, part.attempts)
    cost = cost_of(average, part.model, part.service_tier, part.completion_window)
    return None if cost is None else cost * part.attempts


def _divided(usage: dict[str, Any], count: int) -> dict[str, Any]:
    return {
        key: _divided(value, count) if isinstance(value, dict) else round(value / count)
        for key, value in usage.items()
    }
