"""`oaibg show`: one look at a job, or the list of jobs; what is known here needs no event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.cli.checks import check_id_or_key, output_of
from oaibg.contract.errors import UsageError
from oaibg.contract.events import exit_code_of
from oaibg.engine.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable

    import typer

    from oaibg.cli.options import ShowOptions
    from oaibg.cli.session import Session
    from oaibg.contract.events import Event


def run(context: typer.Context, options: ShowOptions) -> int:
    """Look once at a job; returns the exit code."""
    session: Session = context.obj
    session.process.render(human=options.human, raw=options.output_text, several=options.list_)
    if options.human and options.output_text:
        raise UsageError("--human and --output-text exclude each other.")
    job = Job(options.response_id)
    session.begin(job, output=output_of(options, show_output_text=options.output_text))
    if options.response_id is not None and options.job_key is not None:
        check_id_or_key([options.response_id], options.job_key)
    single = options.response_id or options.job_key or session.output.is_asked_for
    if options.list_ and single:
        raise UsageError("--list is of all jobs; it goes with --limit and --human alone.")
    if options.limit is not None and not options.list_:
        raise UsageError("--limit goes with --list.")

    from oaibg.engine import local
    from oaibg.engine.find import Target

    opened = session.open()
    if options.list_:
        return _write(local.list_jobs(options.limit, job, opened.context), session)
    target = Target(response_id=options.response_id, job_key=options.job_key)
    shown = local.show_local(target, job, opened.context)
    code = _write(shown.events, session)
    if shown.is_whole:
        return code

    from oaibg.engine import commands

    return session.run(lambda context: commands.show(job, context), opened)


def _write(events: Iterable[Event], session: Session) -> int:
    """Show events; returns the exit code of the last one."""
    code = 0
    for event in events:
        session.process.write(event)
        code = exit_code_of(event) or 0
    return code
