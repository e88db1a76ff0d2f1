"""`monitor` of a run as a batch: how its jobs ended, without a change to the run's files."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, NamedTuple

from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Event, Poll
from oaibg.engine import commands, persist, report, report_end
from oaibg.engine.find import Target, find
from oaibg.engine.poll import End, PollTimes, follow
from oaibg.engine.written import Written
from oaibg.many.batch.files import Downloads, files_of, pieces
from oaibg.many.progress import BatchProgress
from oaibg.many.results.result_line import read_line
from oaibg.many.run_jobs import RunJobs
from oaibg.many.run_now import batch_jobs_of
from oaibg.many.run_report import existing_results
from oaibg.many.tally import Tally

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.many.results.result_line import ResultLine
    from oaibg.state.runs import RunRow


class _NoResults(NamedTuple):
    """The jobs of a batch of which no result was read yet, in place of a results file."""

    missing: set[str] | None
    statuses: dict[str, str]


async def monitor_run(run: RunRow, job: Job, context: Context) -> Event:
    """Follow the batch of a run to its end, and read its results; `job` is the batch."""
    return await commands.closing(_monitor_run(run, job, context), job, context)


async def _monitor_run(run: RunRow, job: Job, context: Context) -> Event:
    await find(Target(job_key=run.run_key), job, context)
    end = await _followed(run, job, context)
    if end is None:
        return report_end.timeout(job, context)
    payload = end.payload
    if not end.is_local:
        payload = await persist.remember_payload(payload, job, context)
    fetched = await _fetched(payload, job, context)
    if fetched is None:
        return report_end.timeout(job, context)
    final = report_end.final(job, payload, context, Written.ALL)
    await context.emit(final.of_many(None))
    tally = Tally()
    jobs = RunJobs(run, tally, context, fetched=fetched)
    if final.status != "completed":
        tally.note_why(final)  # that of the jobs without a result
    unwritten = jobs.unwritten()
    summary = tally.summary(
        context,
        next_=run.argv if unwritten else None,
        response_id=job.response_id,
        results_file=existing_results(run),
        job_key=run.run_key,
    )
    if not unwritten:
        return summary
    await context.emit(report.warning(job, "results_missing", unwritten))
    return summary.but(hint=unwritten)


async def _followed(run: RunRow, job: Job, context: Context) -> End | None:
    """Follow the batch; emit how far it is at the start, and whenever that has changed."""
    jobs = batch_jobs_of(run, context)
    known = _NoResults(None if jobs is None else set(jobs.replaced), {})
    progress = BatchProgress(Tally(), context, known, job, known.missing)
    last = progress.event()
    await context.emit(last)

    async def emit(event: Event) -> None:
        nonlocal last
        await context.emit(event)
        if not isinstance(event, Poll) or event.next_poll_seconds is None:
            return
        if (now := progress.event()).counts != last.counts:
            last = now
            await context.emit(last)

    times = PollTimes(context.wait.poll_seconds)
    return await follow(job, context.but(emit=emit), times, delay=times.first)


async def _fetched(batch: Payload, job: Job, context: Context) -> dict[str, ResultLine] | None:
    """Return the results in a batch's files by custom_id; None if the wait limit is reached."""
    downloads = Downloads(job, context)
    found: dict[str, ResultLine] = {}
    for file_id, name in files_of(batch).items():
        with tempfile.TemporaryFile() as content:
            try:
                if not await downloads.download(file_id, content):
                    return None
            except CallFailed as failure:
                message = f"The batch's {name} could not be downloaded: {failure.message}"
                await context.emit(report.warning(job, "file_unavailable", message))
                continue
            for raws in pieces(content):
                for line in filter(None, map(read_line, raws)):
                    found.setdefault(line.custom_id, line._replace(raw=b""))
    return found
