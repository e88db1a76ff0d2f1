"""`oaibg cancel`: cancels one or several jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.cli.options import CancelOptions, check_id_or_key, output_of
from oaibg.engine.job import Job
from oaibg.engine.run_options import Wait

if TYPE_CHECKING:
    import typer

    from oaibg.cli.session import Session


def run(context: typer.Context, options: CancelOptions) -> int:
    """Cancel queued or running jobs, and return the exit code."""
    session: Session = context.obj
    ids = options.response_ids
    several = ids.are_several
    session.process.render(human=options.human, several=several)
    session.process.total = len(ids)
    job = Job(None if several or not ids else ids[0])
    session.begin(job, Wait(), output_of(options))
    check_id_or_key(ids, options.job_key)
    if several:
        from oaibg.many import several_ids

        return session.run(
            lambda context: several_ids.cancel(job, ids, context), rate=float(len(ids))
        )

    from oaibg.engine import commands
    from oaibg.engine.find import Target

    target = Target(response_id=job.response_id, job_key=options.job_key)
    return session.run(lambda context: commands.cancel(target, job, context))
