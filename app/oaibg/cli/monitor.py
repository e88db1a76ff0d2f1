"""`oaibg monitor`: follows one job, several jobs, or a batch and its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.api.payload import is_batch_id
from oaibg.cli.next_command import NextCommand, rerun_of
from oaibg.cli.options import MonitorOptions, check_id_or_key, output_of, wait_of
from oaibg.contract.errors import UsageError
from oaibg.engine.job import Job

if TYPE_CHECKING:
    import typer

    from oaibg.cli.session import Session


def run(context: typer.Context, options: MonitorOptions) -> int:
    """Follow jobs that were submitted earlier, and return the exit code."""
    session: Session = context.obj
    ids = options.response_ids
    several = ids.are_several
    for_batch = options.results_file is not None
    wait = wait_of(options)
    session.process.render(
        human=options.human,
        several=several or for_batch,
        brief=wait.events == "summary",
        waiting=True,
    )
    session.process.total = len(ids)
    job = Job(
        None if several or not ids else ids[0],
        is_run=several or for_batch,
        streams=wait.stream,
        last_number=wait.starting_after,
    )
    output = output_of(options)
    rerun = rerun_of(context) if for_batch else NextCommand(wait, output).monitor(ids)
    session.begin(job, wait, output, rerun)
    _check(options)
    if for_batch:
        from oaibg.many.run_as_batch import monitor_batch

        session.process.total = None  # an ID, but any number of jobs
        path = str(options.results_file)
        return session.run(lambda context: monitor_batch(ids[0], path, job, context))
    if several:
        from oaibg.many import several_ids

        rate = len(ids) / options.poll_seconds
        return session.run(lambda context: several_ids.monitor(job, ids, context), rate=rate)

    from oaibg.engine import commands
    from oaibg.engine.find import Target

    target = Target(response_id=job.response_id, job_key=options.job_key)
    return session.run(lambda context: commands.monitor(target, job, context))


def _check(options: MonitorOptions) -> None:
    ids = options.response_ids
    to_file = options.output_json_file or options.output_text_file
    check_id_or_key(ids, options.job_key)
    if ids.are_several and to_file:
        raise UsageError(
            "--output-json-file and --output-text-file can only be used with one job.",
            hint="Save the stored results one by one: `oaibg show ID --output-text-file PATH`.",
        )
    if ids.are_several and options.starting_after is not None:
        raise UsageError("--starting-after can only be used with one job.")
    one_batch = len(ids) == 1 and is_batch_id(ids[0]) and not to_file
    if options.results_file is not None and not one_batch:
        raise UsageError(
            "--results-file needs exactly one batch ID (batch_…), and can't be combined with "
            "--output-json-file or --output-text-file."
        )
