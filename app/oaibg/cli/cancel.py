"""`oaibg cancel`: cancels one or several jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.cli.option_checks import read_names
from oaibg.cli.options import CancelOptions, check_name_or_key, output_of
from oaibg.cli.which import several_of, single, which
from oaibg.engine.job import Job
from oaibg.engine.run_options import Wait

if TYPE_CHECKING:
    import typer

    from oaibg.cli.session import Session


def run(context: typer.Context, options: CancelOptions) -> int:
    """Cancel queued or running jobs, and return the exit code."""
    session: Session = context.obj
    names = options.names
    session.process.render(human=options.human, several=names.are_several)
    session.begin(Job(), Wait(), output_of(options))
    read_names(names)
    check_name_or_key(names, options.job_key)
    found = which(names, options.job_key, session)
    target = None if names.are_several else single(found)
    session.process.render(human=options.human, several=target is None)
    job = Job(None if target is None else target.response_id)
    session.begin(job, Wait(), session.output)
    if target is None:
        from oaibg.many import several_ids

        jobs = several_of(found)
        job.note_name(jobs.known_as)
        session.process.total = None if jobs.runs else jobs.total
        rate = float(jobs.total)
        return session.run(lambda context: several_ids.cancel(job, jobs, context), rate=rate)

    from oaibg.engine import commands

    return session.run(lambda context: commands.cancel(target, job, context))
