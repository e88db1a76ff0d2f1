"""A jobs file's run through the Batch API: one upload, one batch, and its results.

https://platform.openai.com/docs/guides/batch. A batch costs money, so a run creates only one.
Unlike responses, batches can be listed: if the reply to the create is lost, the run finds its batch
by a mark in the metadata.
"""

from __future__ import annotations

import tempfile
from functools import partial
from typing import IO, TYPE_CHECKING

from oaibg.api.payload import Payload, is_response_id
from oaibg.contract.errors import ApiRefused, CallFailed, OaibgError, OutcomeUnknown, UsageError
from oaibg.engine import commands, persist, report, report_end
from oaibg.engine.claim import Submission
from oaibg.engine.create import Created, create_locked
from oaibg.engine.find import Target, find
from oaibg.engine.job import Job
from oaibg.engine.patience import with_retries
from oaibg.engine.poll import End, PollTimes, follow
from oaibg.engine.verdicts import CreateVerdict, is_transient, judge_create
from oaibg.many.batch.files import TRANSFER_SECONDS
from oaibg.many.batch.jobs import begin_batch, check_batch, earlier_batches, read_jobs
from oaibg.many.batch.owner import Owner, owner_of_batch, owner_of_run
from oaibg.many.batch.results import TMPDIR_HINT, BatchResults
from oaibg.many.plan import locked_run, note_run
from oaibg.many.results.line_id import digest
from oaibg.many.results.results_file import ResultsFile
from oaibg.many.results.results_table import ResultsTable
from oaibg.request.body import Request
from oaibg.state.commits import patiently
from oaibg.state.rows import BATCH_WINDOW
from oaibg.state.store import Intent, line_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container

    from oaibg.api.calls import Calls
    from oaibg.contract.events import Event
    from oaibg.engine.claim import Create
    from oaibg.engine.context import Context
    from oaibg.many.batch.jobs import Attempt
    from oaibg.many.plan import Plan
    from oaibg.request.jobs_file import JobsFile

_MARK = "oaibg"
"""The key of the mark in a batch's metadata."""

_SEARCHES, _SEARCH_INTERVAL = 3, 3.0
_SEARCH_PAGES = 20
"""Maximum number of pages that a search reads; a page has 100 batches."""


async def submit_batch(plan: Plan, own: Job, context: Context, *, detach: bool) -> Event:
    """Submit the jobs of a file as one batch, follow it to its end, and fetch the results.

    `own` stands for the run itself; with `detach` the run ends once the batch is submitted.
    """
    return await commands.closing(_submit_batch(plan, own, context, detach=detach), own, context)


async def monitor_batch(batch_id: str, results_path: str, own: Job, context: Context) -> Event:
    """Follow an existing batch to its end, and fetch the results."""
    return await commands.closing(_monitor_batch(batch_id, results_path, context), own, context)


async def _submit_batch(plan: Plan, own: Job, context: Context, *, detach: bool) -> Event:
    async with locked_run(plan, context, batch=True) as rows:
        row = rows.get("")
        jobs = await read_jobs(plan, row, context)
        ids = dict.fromkeys(line.custom_id for line in plan.file.lines)  # the API sets `id`
        table = ResultsTable(plan.results_path, plan.file)
        with await persist.in_thread(
            ResultsFile, table.lines_path, ids, jobs.replaced, lambda _: BATCH_WINDOW
        ) as results:
            is_first = row is None or (row.response_id is None and not jobs.is_retry)
            if results.statuses and is_first:
                raise UsageError(
                    f"{results.path}: the file contains results, but this run has no batch yet.",
                    hint="Use another --results-file, or rename this file.",
                )
            retried = check_batch(plan, row, jobs, results)
            owner = Owner(owner_of_run(plan.key, context), results, context)
            results.begin()
            await note_run(plan, context, batch=True)
            attempt = await begin_batch(plan, row, jobs, retried, results, context)
            del jobs  # it has the hashes of all requests
            earlier = await earlier_batches(plan, context)
            batch = BatchResults(results, table, owner, attempt.custom_ids, earlier)
            if not results.missing:
                await batch.save_finished(own, context)
                return await batch.end(own, context)
            # `next` fetches the results.
            job = Job(submitting=True, is_run=True, is_batch=True, job_key=plan.key)
            own.note_outcome(None)

            async def follow_created(context: Context) -> End | Event:
                created = await _create_or_find(plan, attempt, job, context)
                times = PollTimes(context.wait.poll_seconds)
                return await commands.await_end(created, job, context, times, detach=detach)

            return await batch.run(job, follow_created, context)


async def _monitor_batch(batch_id: str, results_path: str, context: Context) -> Event:
    wait = context.wait
    job = Job(
        batch_id,
        is_run=True,
        is_batch=True,
        streams=wait.stream,
        last_number=wait.starting_after,
    )

    async def follow_found(context: Context) -> End | Event:
        await find(Target(response_id=batch_id), job, context)
        if not job.is_batch:
            raise UsageError(f"{batch_id} is a response, not a batch. Omit --results-file.")
        times = PollTimes(context.wait.poll_seconds)
        return await follow(job, context, times, delay=0.0) or report_end.timeout(job, context)

    table = ResultsTable(results_path)
    opening = partial(ResultsFile, table.lines_path, window_of=lambda _: BATCH_WINDOW)
    with await persist.in_thread(opening) as results:
        owner = Owner(owner_of_batch(batch_id, context), results, context)
        results.begin()
        return await BatchResults(results, table, owner).run(job, follow_found, context)


async def _create_or_find(plan: Plan, attempt: Attempt, job: Job, context: Context) -> Created:
    row, sha256, custom_ids = attempt
    model = plan.file.lines[0].model
    request = Request(body={"model": model}, sha256=sha256)
    await context.emit(report.submit_start(request, plan.key, context.wait.poll_seconds))
    mark = digest(context.base_url, plan.key, sha256)
    submission = Submission(
        request=request,
        model=model,
        job_key=line_key(plan.key, ""),
        resubmit_unknown=plan.resubmit_unknown,
        create=_create(plan.file, custom_ids, mark, context),
    )
    sent = row is not None and row.is_unknown
    if sent:
        job.note_outcome("unknown")
        # Another batch may be created only if the API confirms that there is none.
        insist = plan.resubmit_unknown
        if await _find_again(mark, submission, job, context, searches=1, insist=insist):
            return Created()
        job.note_outcome("not_created")
    try:
        return await create_locked(submission, row, job, context)
    except OutcomeUnknown:
        if sent and not plan.resubmit_unknown:
            raise  # the search above did not find it
        if await _find_again(mark, submission, job, context, searches=_SEARCHES, insist=False):
            return Created()
        raise


def _create(file: JobsFile, custom_ids: Container[str], mark: str, context: Context) -> Create:
    """Return the create of a batch with these jobs; its first attempt uploads the file."""
    file_id: str | None = None

    async def create(
        api: Calls, on_sending: Callable[[], Awaitable[None]], timeout: float
    ) -> Payload:
        nonlocal file_id
        try:
            file_id = file_id or await _upload(file, custom_ids, api, context)
            return await api.create_batch(file_id, {_MARK: mark}, on_sending, timeout=timeout)
        except CallFailed as failure:
            # An upload starts no job, so its failure is always certain.
            is_sure = file_id is None or judge_create(failure) is not CreateVerdict.UNKNOWN
            if failure.http_status not in (404, 405) or not is_sure:
                raise
            raise ApiRefused.of(
                failure,
                hint="The server may have no Batch API. Omit --completion-window 24h to run the "
                "jobs in background mode.",
                outcome="not_created",
            ) from failure

    return create


async def _upload(file: JobsFile, custom_ids: Container[str], api: Calls, context: Context) -> str:
    """Upload the file. An upload starts no job, so it can be repeated."""
    left = context.deadline - context.clock.monotonic()
    try:
        with await persist.in_thread(_content, file, custom_ids) as content:
            return await api.upload("jobs.jsonl", content, min(left, TRANSFER_SECONDS))
    except CallFailed as failure:
        if judge_create(failure) is CreateVerdict.UNKNOWN:
            if not is_transient(failure) and failure.http_status not in (404, 405):
                raise ApiRefused.of(failure, outcome="not_created") from failure
            failure.note_unsent()
        raise
    except OSError as error:
        raise UsageError(
            f"The temporary file to upload could not be written: {error.strerror}.",
            hint=TMPDIR_HINT,
            outcome="not_created",
        ) from error


def _content(file: JobsFile, custom_ids: Container[str]) -> IO[bytes]:
    content = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    for line in file.requests(custom_ids):
        content.write(line)
    content.seek(0)
    return content


async def _find_again(
    mark: str, submission: Submission, job: Job, context: Context, *, searches: int, insist: bool
) -> bool:
    """Search the API for the run's batch and record it; return whether it was found.

    If the API can't be reached, the batch counts as not found; with `insist` this raises instead.
    """
    clock = context.clock
    for search in range(searches):
        if search:
            if clock.monotonic() + _SEARCH_INTERVAL > context.deadline:
                break
            await clock.sleep(_SEARCH_INTERVAL)
        try:
            batch = await _search(mark, context)
        except OaibgError:
            if insist:
                raise
            break
        if batch is not None:
            job.note_created(str(batch.id), batch.status)
            job.note_row(await _row_number(submission, context))
            await persist.remember_id(job, context)
            return True
    return False


async def _search(mark: str, context: Context) -> Payload | None:
    """Return the batch with a mark, if it is among the API's newest."""
    api, after = await context.connect(), None
    for _ in range(_SEARCH_PAGES):
        try:
            page = await with_retries(partial(api.list_batches, after), context.clock)
        except CallFailed:
            return None
        for batch in map(Payload.of, page):
            has_mark = (batch.object("metadata") or {}).get(_MARK) == mark
            if has_mark and batch.id is not None and is_response_id(batch.id):
                return batch
        if not page:
            return None
        after = str(page[-1].get("id"))
    return None


async def _row_number(submission: Submission, context: Context) -> int:
    """Return the ID of the batch's row in the state; add a row if the state has lost it."""
    store, base_url, job_key = context.store, context.base_url, str(submission.job_key)
    row = await patiently(lambda: store.by_key(base_url, job_key), context.clock)
    if row is not None:
        return row.id
    intent = Intent(
        base_url=base_url,
        request_sha256=submission.request.sha256,
        job_key=job_key,
        model=submission.model,
        completion_window=submission.window,
    )
    return await patiently(lambda: store.intent(intent), context.clock)
