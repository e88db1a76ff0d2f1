"""The results in the store, and when they are removed.

A result is a file with the bytes that the API sent; the job's row contains its name. It is removed
when the state has become older by `keep_days` since it was saved. The age of the state grows from
run to run, by at most a quarter of `keep_days` each. So a clock that was wrong in one run, or while
a result was saved, removes nothing: it takes several runs to agree that a result has expired.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from oaibg.base.files import TEMPORARY, save
from oaibg.base.secrets import masked_bytes
from oaibg.state.database import transaction, translated
from oaibg.state.own_files import RESULTS
from oaibg.state.rows import BY_ID

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from oaibg.state.rows import Row


class StoredResults:
    """The part of the store that has the results."""

    _db: sqlite3.Connection
    _now: Callable[[], float]
    _update: Callable[..., Any]

    def keep_results(self, folder: Path | None, seconds: float) -> None:
        """Keep results in the state's folder; none without a folder, or for 0 seconds."""
        self._results = folder / RESULTS if folder is not None and seconds else None
        self._keep_seconds = seconds
        self._age: float | None = None

    def note_result(self, base_url: str, response_id: str) -> None:
        """Note a job's result before it is saved; a file without a row is never removed."""
        if self._results is None:
            return
        if self._age is None:
            self._age = self._prune(self._results)
        name = _result_name(base_url, response_id)
        self._update("result = ?, kept_at = ?", BY_ID, name, self._age, base_url, response_id)

    def save_result(self, base_url: str, response_id: str, raw: bytes) -> None:
        """Save a result as the API sent it. Any thread may call this."""
        if self._results is not None:
            with translated():
                self._results.mkdir(mode=0o700, exist_ok=True)
                path = self._results / f"{_result_name(base_url, response_id)}.json"
                save(str(path), masked_bytes(raw), private=True)

    def result(self, row: Row) -> bytes | None:
        """Return a job's stored result; None if there is none."""
        if self._results is not None and row.result is not None:
            with suppress(OSError):
                return (self._results / f"{row.result}.json").read_bytes()
        return None

    def _prune(self, folder: Path) -> float:
        """Remove expired results, and incomplete files of killed processes; return the age."""
        with transaction(self._db):
            age = self._grow()
            new = "UPDATE jobs SET kept_at = ? WHERE result IS NOT NULL AND kept_at IS NULL"
            self._db.execute(new, (age,))  # an older version saved it
            expired = "result IS NOT NULL AND kept_at <= ?"
            values = (age - self._keep_seconds,)
            found = self._db.execute(f"SELECT result FROM jobs WHERE {expired}", values).fetchall()  # noqa: S608
            self._db.execute(f"UPDATE jobs SET result = NULL WHERE {expired}", values)  # noqa: S608
        for (name,) in found:
            with suppress(OSError):  # the new result can be saved anyway
                (folder / f"{name}.json").unlink()
        for path in folder.glob(TEMPORARY):
            with suppress(OSError):
                if path.stat().st_mtime < self._now() - 3600:
                    path.unlink()
        return age

    def _grow(self) -> float:
        """Add the time since the last run to the age of the state, and return the age in seconds.

        A run after a longer pause than a quarter of `keep_days`, or after a jump of the clock, adds
        that quarter; one with an earlier clock adds nothing.
        """
        now = self._now()
        age, seen_at = self._db.execute("SELECT seconds, seen_at FROM age").fetchone() or (0.0, now)
        age += min(max(now - seen_at, 0.0), self._keep_seconds / 4)
        self._db.execute("DELETE FROM age")
        self._db.execute("INSERT INTO age VALUES (?, ?)", (age, now))
        return float(age)


def _result_name(base_url: str, response_id: str) -> str:
    return hashlib.sha256(f"{base_url}\n{response_id}".encode(errors="replace")).hexdigest()
