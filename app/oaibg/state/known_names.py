"""The keys, IDs and models in the state; for shell completion also without opening it to write."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oaibg.state.database import FILE

if TYPE_CHECKING:
    from collections.abc import Callable

Ids = Literal["all", "unkeyed", "none"]
"""Which response IDs to return besides the keys: `unkeyed` are those of jobs without a key."""

_SCANNED = 2000
"""The number of newest jobs that are searched."""


def known_names(folder: str, base_url: str, ids: Ids = "all") -> list[str]:
    """Return the keys of jobs and runs, then the response IDs, that a state has; newest first.

    The list is empty if there is no state, or if it can't be read.
    """
    return _read(folder, lambda db: names_in(db, base_url, ids))


def known_models(folder: str, base_url: str) -> list[str]:
    """Return the models of the newest jobs, newest first; none as for `known_names`."""
    query = (
        "SELECT model FROM (SELECT id, model FROM jobs WHERE base_url = ? ORDER BY id DESC LIMIT ?)"
        " WHERE model IS NOT NULL GROUP BY model ORDER BY max(id) DESC"
    )
    return _read(folder, lambda db: [row[0] for row in db.execute(query, (base_url, _SCANNED))])


def names_in(db: sqlite3.Connection, base_url: str, ids: Ids = "all") -> list[str]:
    """As `known_names`, for an open state; raises `sqlite3.Error`."""
    keys: dict[str, None] = {}
    others: list[str] = []
    found = db.execute(
        "SELECT job_key, response_id FROM jobs WHERE base_url = ? AND step <> 'intent'"
        " ORDER BY id DESC LIMIT ?",
        (base_url, _SCANNED),
    )
    for job_key, response_id in found:
        run_key, of_run, _ = (job_key or "").partition("\n")
        if run_key:
            keys[run_key] = None
        if response_id and not of_run and (ids == "all" or (ids == "unkeyed" and not run_key)):
            others.append(response_id)
    return [*keys, *others]


def _read(folder: str, find: Callable[[sqlite3.Connection], list[str]]) -> list[str]:
    path = Path(folder) / FILE
    with suppress(sqlite3.Error, ValueError, UnicodeError):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=0.05)) as db:
            return find(db)
    return []
