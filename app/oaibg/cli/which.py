"""Finds which jobs and runs a command names: by IDs, keys, or the paths of a run's files."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from oaibg.cli import environment

_NAMED = 5
"""Maximum number of keys that a warning names."""

if TYPE_CHECKING:
    from oaibg.cli.session import Session
    from oaibg.contract.event import Event
    from oaibg.engine.find import Target
    from oaibg.engine.names import Named
    from oaibg.many.several_ids import Several
    from oaibg.state.runs import RunRow


def which(names: list[str], job_key: str | None, session: Session) -> list[Named]:
    """Return what the names stand for, or the key, or the newest submit; raises as `Names.of`."""
    from oaibg.engine.names import Names, as_ids

    if names and (ids := as_ids(names)) is not None:
        return ids

    from oaibg.base.clock import RealClock
    from oaibg.engine.find import Target

    base_url = environment.without_credentials(environment.base_url())
    store, problem = session.open_store()
    with closing(store):
        known = Names(store, problem, base_url, RealClock())
        if job_key is not None:
            return [known.of_key(job_key)]
        found = known.of(names) if names else [known.newest()]
        for name, one in zip(names, found, strict=False):
            if not isinstance(one, Target) and (others := known.others(name, one)):
                session.process.write(_several_runs(name, one, others, session))
        return found


def _several_runs(name: str, run: RunRow, others: list[str], session: Session) -> Event:
    """Return the warning that a file belongs to several runs, of which one was chosen."""
    from oaibg.engine import report

    more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
    message = (
        f"{name} belongs to {len(others) + 1:,} runs; this is the newest, {run.run_key}. For "
        f"another one, give its key: {', '.join(others[:_NAMED])}{more}."
    )
    return report.warning(session.job, "several_runs", message)


def several_of(found: list[Named]) -> Several:
    """Return the jobs and runs of a command over several jobs, each once."""
    from oaibg.engine.find import Target
    from oaibg.many.several_ids import Several

    targets, runs = [], []
    for one in dict.fromkeys(found):
        if (target := single([one])) is not None:
            targets.append(target)
        elif not isinstance(one, Target):
            runs.append(one)
    return Several(targets=targets, runs=runs)


def single(found: list[Named]) -> Target | None:
    """Return the only job that is named; None for several jobs, or for a run over a jobs file.

    A run as a batch is a single job: the batch.
    """
    from oaibg.engine.find import Target

    if len(found) != 1:
        return None
    (one,) = found
    if isinstance(one, Target):
        return one
    return Target(job_key=one.run_key) if one.is_batch else None


def batch_run_of(found: list[Named]) -> RunRow | None:
    """Return the run whose batch is the only job that is named."""
    from oaibg.engine.find import Target

    if len(found) != 1 or isinstance(found[0], Target):
        return None
    return found[0] if found[0].is_batch else None
