"""Checks that a job key names one piece of work: a single job, or a run over a jobs file.

The transactions that write an intent or a run call these checks, so that of two processes that use
the same key for different work, only one submits.
"""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from oaibg.state.database import KeyReusedError
from oaibg.state.rows import keys_of, user_key

if TYPE_CHECKING:
    import sqlite3

_RUN = """
SELECT total FROM runs WHERE base_url = ? AND run_key = ?
UNION ALL SELECT count(*) FROM jobs
WHERE base_url = ? AND job_key BETWEEN ? AND ? AND step <> 'intent' AND NOT superseded
HAVING count(*)
"""
"""The number of jobs of the run with a key; without a row of its own for an older run."""

_JOB = """
SELECT 1 FROM jobs WHERE base_url = ? AND job_key = ? AND step <> 'intent' AND NOT superseded
"""


def check_job_key(db: sqlite3.Connection, base_url: str, job_key: str) -> None:
    """Raise `KeyReusedError` if the key of a single job belongs to a run."""
    is_of_run = user_key(job_key) != job_key
    if not is_of_run and (found := _run_of(db, base_url, job_key)) is not None:
        what = "a run of 1 job" if found == 1 else f"a run of {found:,} jobs"
        raise _reused(job_key, what)


def check_run_key(db: sqlite3.Connection, base_url: str, run_key: str) -> None:
    """Raise `KeyReusedError` if the key of a new run belongs to a single job."""
    if _run_of(db, base_url, run_key) is None and db.execute(_JOB, (base_url, run_key)).fetchone():
        raise _reused(run_key, "a single job")


def _run_of(db: sqlite3.Connection, base_url: str, run_key: str) -> int | None:
    """Return the number of jobs of the run with a key; None if there is none."""
    values = base_url, run_key, base_url, *keys_of(run_key)
    found = db.execute(_RUN, values).fetchone()
    return None if found is None else int(found[0])


def _reused(key: str, what: str) -> KeyReusedError:
    command = f"oaibg show --job-key {quote(key)}"
    message = f"The job key {key!r} belongs to {what}; `{command}` shows it."
    return KeyReusedError("job_key_reused", message)
