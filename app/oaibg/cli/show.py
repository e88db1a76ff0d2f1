"""`oaibg show`: shows a job or a run, or lists them; an event loop only runs for requests."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from oaibg.cli.options import ShowOptions, check_name_or_key, output_of, part_of
from oaibg.cli.path_options import check_paths
from oaibg.cli.which import which
from oaibg.contract.errors import UsageError
from oaibg.engine.job import Job
from oaibg.engine.run_options import Wait

if TYPE_CHECKING:
    import typer

    from oaibg.cli.session import Session
    from oaibg.state.runs import RunRow


def run(context: typer.Context, options: ShowOptions) -> int:
    """Show a job or a run, or the list of them, and return the exit code."""
    session: Session = context.obj
    session.process.render(human=options.human, raw=options.output_text, several=options.list_)
    if options.human and options.output_text:
        raise UsageError("--human and --output-text can't be combined.")
    job = Job()
    session.begin(job, Wait(), output_of(options, show_output_text=options.output_text))
    _check(options, session)
    check_paths(options)

    from oaibg.engine.find import Target
    from oaibg.engine.list_jobs import Listing, list_jobs
    from oaibg.engine.show_local import show_local

    names = [] if options.name is None else [options.name]
    target, listing = Target(), part_of(options, Listing)
    if names or options.job_key or not options.list_:
        (found,) = which(names, options.job_key, session)
        if isinstance(found, Target):
            target = found
        elif options.list_:
            listing = listing.but(job_key=found.run_key)
        else:
            return _show_run(found, options, session)
    opened = session.open()
    with ExitStack() as stack:
        stack.callback(opened.store.close)
        if options.list_:
            return session.write(list_jobs(listing, job, opened))
        events, is_whole = show_local(target, job, opened)
        code = session.write(events)
        if is_whole:
            return code
        stack.pop_all()

    from oaibg.engine import commands

    return session.run(lambda context: commands.show(job, context), opened)


def _check(options: ShowOptions, session: Session) -> None:
    names = [] if options.name is None else [options.name]
    check_name_or_key(names, options.job_key, newest=True)
    if options.list_ and (options.name is not None or session.output.is_asked_for):
        raise UsageError(
            "--list can only be combined with --job-key, --status, --limit and --human."
        )
    if not options.list_ and (options.limit is not None or options.status is not None):
        raise UsageError("--limit and --status need --list.")


def _show_run(run: RunRow, options: ShowOptions, session: Session) -> int:
    """Show a run from the local state and its results file."""
    output = session.output
    if output.is_asked_for or output.include:
        raise UsageError(
            f"{run.run_key!r} is a run of {run.total:,} jobs; --output-text, --output-json-file, "
            "--output-text-file, --artifacts-dir and --include are for one job.",
            hint=f"The results are in {run.results_file or 'the results file'}. For one job, give "
            "its response ID: `oaibg show --list --job-key KEY` lists them.",
        )

    from contextlib import closing

    from oaibg.many.run_report import show_run

    session.process.render(human=options.human, several=True)
    session.job.note_name(run.known_as)
    opened = session.open()
    with closing(opened.store):
        return session.write(show_run(run, opened))
