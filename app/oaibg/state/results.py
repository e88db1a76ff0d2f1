"""Results that are kept: a file for each, with the bytes that the API sent."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.base.files import TEMPORARY, save
from oaibg.state.file import changing, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from oaibg.state.rows import Row

DAY = 86400.0


class Results:
    """The result files of a state's folder, and the database column that names them.

    Nothing is kept without a folder, or if `keep_days` is 0.
    """

    def __init__(
        self, db: sqlite3.Connection, state: Path | None, keep_days: float, now: Callable[[], float]
    ) -> None:
        self._db, self._now = db, now
        self._folder = state / "results" if state is not None and keep_days else None
        self._keep_seconds = keep_days * DAY
        self._pruned = False

    def note(self, base_url: str, response_id: str) -> None:
        """Name a result's file in the row of its job."""
        if self._folder is None:
            return
        if not self._pruned:
            self._pruned = True
            self._prune(self._folder, self._now() - self._keep_seconds)
        with changing(self._db) as db:
            db.execute(
                "UPDATE jobs SET result = ?, updated_at = ? WHERE base_url = ? AND response_id = ?",
                (_name(base_url, response_id), self._now(), base_url, response_id),
            )

    def save(self, base_url: str, response_id: str, raw: bytes) -> None:
        """Write a result's file."""
        if self._folder is not None:
            with translated():
                self._folder.mkdir(mode=0o700, exist_ok=True)
                path = self._folder / f"{_name(base_url, response_id)}.json"
                save(str(path), raw, private=True)

    def read(self, row: Row) -> bytes | None:
        """A job's result; None if there is none, or if it has expired."""
        expired = row.updated_at < self._now() - self._keep_seconds
        if self._folder is not None and row.result is not None and not expired:
            with suppress(OSError):
                return (self._folder / f"{row.result}.json").read_bytes()
        return None

    def _prune(self, folder: Path, before: float) -> None:
        """Remove expired results, and half-written files that a killed process left."""
        with translated():
            expired = self._db.execute(
                "SELECT result FROM jobs WHERE result IS NOT NULL AND updated_at < ?", (before,)
            ).fetchall()
        abandoned = [path for path in folder.glob(TEMPORARY) if self._is_abandoned(path)]
        for path in [*(folder / f"{name}.json" for (name,) in expired), *abandoned]:
            with suppress(OSError):  # an old file that can't be removed keeps no new one out
                path.unlink()
        if expired:
            with changing(self._db) as db:
                db.execute(
                    "UPDATE jobs SET result = NULL WHERE result IS NOT NULL AND updated_at < ?",
                    (before,),
                )

    def _is_abandoned(self, path: Path) -> bool:
        with suppress(OSError):
            return path.stat().st_mtime < self._now() - 3600
        return False


def _name(base_url: str, response_id: str) -> str:
    return hashlib.sha256(f"{base_url}\n{response_id}".encode(errors="replace")).hexdigest()
