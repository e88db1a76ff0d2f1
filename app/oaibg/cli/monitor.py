"""`oaibg monitor`: follows one job, several jobs, or a batch and its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.cli.next_command import NextCommand, rerun_of
from oaibg.cli.option_checks import read_names
from oaibg.cli.options import MonitorOptions, check_name_or_key, output_of, wait_of
from oaibg.cli.path_options import check_paths
from oaibg.cli.which import batch_run_of, several_of, single, which
from oaibg.contract.errors import UsageError
from oaibg.engine.job import Job

if TYPE_CHECKING:
    import typer

    from oaibg.cli.session import Session


def run(context: typer.Context, options: MonitorOptions) -> int:
    """Follow jobs that were submitted earlier, and return the exit code."""
    session: Session = context.obj
    names, key = options.names, options.job_key
    for_batch = options.results_file is not None
    several = names.are_several
    wait, output = wait_of(options), output_of(options)
    brief = wait.events == "summary"
    session.process.render(human=options.human, several=several or for_batch, brief=brief)
    session.begin(Job(is_run=several or for_batch), wait, output)
    read_names(names, session.deadline)
    rerun = rerun_of(context) if for_batch else NextCommand(wait, output).monitor(names)
    session.begin(Job(is_run=several or for_batch), wait, output, rerun)
    check_name_or_key(names, key, newest=True)
    _check_for_batch(options)
    check_paths(options)
    found = which(names, key, session)
    target = None if several else single(found)
    batch_run = None if for_batch or wait.stream or output.writes_files else batch_run_of(found)
    session.process.render(
        human=options.human,
        several=target is None or for_batch or batch_run is not None,
        brief=brief,
        waiting=True,
    )
    job = Job(
        None if target is None else target.response_id,
        is_run=target is None or for_batch,
        streams=wait.stream,
        last_number=wait.starting_after,
    )
    session.begin(job, wait, output, rerun)
    if for_batch:
        from oaibg.many.batch.run_as_batch import monitor_batch

        session.process.total = None  # an ID, but any number of jobs
        if target is None or target.response_id is None:
            raise _not_one_batch()
        path, batch_id = str(options.results_file), target.response_id
        return session.run(lambda context: monitor_batch(batch_id, path, job, context))
    if target is None:
        from oaibg.many import several_ids

        _check_several(options)
        jobs = several_of(found)
        if rerun is None and jobs.run is not None:
            rerun = NextCommand(wait, output).monitor([jobs.run.run_key])
            session.begin(job, wait, output, rerun)
        job.note_name(jobs.known_as)
        session.process.total = None if jobs.runs else jobs.total
        rate = jobs.total / options.poll_seconds
        return session.run(lambda context: several_ids.monitor(job, jobs, context), rate=rate)

    if batch_run is not None:
        from oaibg.many.batch.monitor_run import monitor_run

        session.process.total = None  # as above
        return session.run(lambda context: monitor_run(batch_run, job, context))

    from oaibg.engine import commands

    return session.run(lambda context: commands.monitor(target, job, context))


def _check_several(options: MonitorOptions) -> None:
    if options.output_json_file or options.output_text_file:
        raise UsageError(
            "--output-json-file and --output-text-file can only be used with one job.",
            hint="Save the stored results one by one: `oaibg show ID --output-text-file PATH`.",
        )
    if options.starting_after is not None:
        raise UsageError("--starting-after can only be used with one job.")


def _check_for_batch(options: MonitorOptions) -> None:
    names, to_file = options.names, options.output_json_file or options.output_text_file
    one_batch = len(names) == 1 and not names[0].startswith("resp_") and not to_file
    if options.results_file is not None and not one_batch:
        raise _not_one_batch()


def _not_one_batch() -> UsageError:
    return UsageError(
        "--results-file needs exactly one batch ID (such as batch_…), and can't be combined with "
        "--output-json-file or --output-text-file."
    )
