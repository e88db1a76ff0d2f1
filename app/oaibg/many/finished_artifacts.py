"""Saves the images and files of jobs that had results before a run was given `--artifacts-dir`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.api.payload import Payload
from oaibg.contract.errors import ExitCode
from oaibg.engine.artifacts import save_artifacts
from oaibg.engine.job import Job
from oaibg.engine.written import Written
from oaibg.many.results.result_line import code_of, ending_of
from oaibg.many.side_by_side import side_by_side

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.many.progress import Progress
    from oaibg.many.results.result_line import ResultLine
    from oaibg.many.results.results_file import ResultsFile


async def save_finished_artifacts(
    results: ResultsFile, progress: Progress, context: Context
) -> None:
    """Save what the responses in the results file have; skip jobs that have a folder already.

    A folder means that an earlier run has saved what there is: it wrote the result after that.
    """
    if context.output.artifacts_dir is None or not results.statuses:
        return

    async def steps(context: Context) -> None:
        last = {line.custom_id: end for line, end in results.lines()}
        for line, end in results.lines():
            if last[line.custom_id] == end and line.custom_id in results.statuses:
                await _save(line, progress, context)

    quiet = context.but(wait=context.wait.but(events="all"))  # not progress of the run
    await side_by_side(iter([(Job(), steps)]), progress, quiet, at_once=1)


async def save_line_artifacts(line: ResultLine, job: Job, context: Context) -> Written:
    """Save the images and files of a result line, with events that have its custom_id."""

    async def emit(event: Event) -> None:
        await context.emit(event.of_many(line.custom_id))

    ending = ending_of(Payload(line.raw).data)
    output = ending.payload.data.get("output") if ending and ending.payload else None
    return await save_artifacts(output, job, context.but(emit=emit))


async def _save(line: ResultLine, progress: Progress, context: Context) -> None:
    job = Job(line.response_id, custom_id=line.custom_id)
    folder = os.path.join(str(context.output.artifacts_dir), context.folder_of(job))  # noqa: PTH118
    if os.path.lexists(folder):  # noqa: ASYNC240
        return
    saved, tally = await save_line_artifacts(line, job, context), progress.tally
    if saved is not Written.ALL:
        tally.count(line.status, code_of(line.status) or ExitCode.LOCAL_IO, jobs=0)
    if saved is Written.RETRY:
        tally.note_unwritten()
        with suppress(OSError):  # nothing was saved: a rerun tries again
            os.rmdir(folder)  # noqa: PTH106
