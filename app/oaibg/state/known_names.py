"""The keys and IDs in the state; for a shell's completion also without opening it for writing."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from oaibg.state.database import FILE

_SCANNED = 2000
"""The number of newest jobs that are searched."""


def known_names(folder: str, base_url: str, *, keys_only: bool = False) -> list[str]:
    """Return the keys of jobs and runs, and the response IDs, that a state has; newest first.

    The list is empty if there is no state, or if it can't be read.
    """
    path = Path(folder) / FILE
    with suppress(sqlite3.Error, ValueError, UnicodeError):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=0.05)) as db:
            return names_in(db, base_url, keys_only=keys_only)
    return []


def names_in(db: sqlite3.Connection, base_url: str, *, keys_only: bool = False) -> list[str]:
    """As `known_names`, for an open state; raises `sqlite3.Error`."""
    names: dict[str, None] = {}
    found = db.execute(
        "SELECT job_key, response_id FROM jobs WHERE base_url = ? AND step <> 'intent'"
        " ORDER BY id DESC LIMIT ?",
        (base_url, _SCANNED),
    )
    for job_key, response_id in found:
        run_key, of_run, _ = (job_key or "").partition("\n")
        shown = (run_key, None if of_run or keys_only else response_id)
        names |= dict.fromkeys(name for name in shown if name)
    return list(names)
