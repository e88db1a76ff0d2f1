"""`oaibg show`: shows one job, or lists jobs; local copies are shown without an event loop."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from oaibg.cli.options import ShowOptions, check_id_or_key, output_of
from oaibg.contract.errors import UsageError
from oaibg.engine.job import Job
from oaibg.engine.run_options import Wait

if TYPE_CHECKING:
    import typer

    from oaibg.cli.session import Session


def run(context: typer.Context, options: ShowOptions) -> int:
    """Show a job or the list of jobs, and return the exit code."""
    session: Session = context.obj
    session.process.render(human=options.human, raw=options.output_text, several=options.list_)
    if options.human and options.output_text:
        raise UsageError("--human and --output-text can't be combined.")
    job = Job(options.response_id)
    session.begin(job, Wait(), output_of(options, show_output_text=options.output_text))
    if options.response_id is not None and options.job_key is not None:
        check_id_or_key([options.response_id], options.job_key)
    single = options.response_id or options.job_key or session.output.is_asked_for
    if options.list_ and single:
        raise UsageError("--list can only be combined with --limit and --human.")
    if options.limit is not None and not options.list_:
        raise UsageError("--limit needs --list.")

    from oaibg.engine.find import Target
    from oaibg.engine.show_local import list_jobs, show_local

    opened = session.open()
    with ExitStack() as stack:
        stack.callback(opened.store.close)
        if options.list_:
            return session.write(list_jobs(options.limit, job, opened))
        target = Target(response_id=options.response_id, job_key=options.job_key)
        events, is_whole = show_local(target, job, opened)
        code = session.write(events)
        if is_whole:
            return code
        stack.pop_all()

    from oaibg.engine import commands

    return session.run(lambda context: commands.show(job, context), opened)
