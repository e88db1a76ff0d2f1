"""What must outlive the process: intents, ids, job keys and results.

A submit goes through three steps, and each is durable before the next begins: `intent` (nothing
was sent) → `sending` (the request is going out) → `submitted` (the id is known). A row that is
still at `sending` after its process ended means that the outcome is unknown. Rows at `followed`
were submitted elsewhere. Request bodies are never kept.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaibg.state.file import (
    FILE,
    StateBusyError,
    StateError,
    changing,
    lock_name,
    open_database,
    translated,
)
from oaibg.state.results import Results
from oaibg.state.rows import Intent, Row, line_key, lock_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["Intent", "Row", "Store", "line_key", "lock_key", "open_store"]

_PATIENCE_SECONDS = 5.0


def open_store(
    folder: str, *, keep_days: float = 30, now: Callable[[], float] = time.time
) -> tuple[Store, StateError | None]:
    """Open the store of a folder.

    Returns:
        The store, and what is wrong with it. A corrupt file is set aside, and a new one created.
        If the folder can't be used at all, the store ends with this process, so that the run can
        continue; callers that promise more (a job key) must check what is wrong.
    """
    problem: StateError | None = None
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return Store(folder, keep_days=keep_days, now=now), problem
        except StateBusyError as error:
            if time.monotonic() >= give_up:
                return Store(None, now=now), error
        except StateError as error:
            if error.code != "state_corrupt" or problem is not None:
                return Store(None, now=now), error
            problem = error
        time.sleep(0.02)


class Store:
    """The state in a folder, or one that ends with this process if `folder` is None.

    Every method commits before it returns.

    Args:
        folder: created with mode 0700 if it is missing.
        keep_days: how long results are kept; 0 keeps none.
        now: the Unix time in seconds.

    Raises:
        StateError: from every method and the constructor; see `open_database`.
    """

    def __init__(
        self, folder: str | None, *, keep_days: float = 30, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._now = now
        with translated():
            self._db = open_database(self._folder)
        self._results = Results(self._db, self._folder, keep_days, now)

    @property
    def is_durable(self) -> bool:
        """Whether it outlives this process."""
        return self._folder is not None

    def intent(self, intent: Intent) -> int:
        """Write a job down before it is submitted, and return its row's number.

        A row with the same job key that is still at the step `intent` was never sent: this one
        replaces it. Callers with a job key hold its lock.
        """
        now = self._now()
        with changing(self._db) as db:
            if intent.job_key is not None:
                db.execute(
                    "DELETE FROM jobs WHERE base_url = ? AND job_key = ? AND step = 'intent'"
                    " AND NOT superseded",
                    (intent.base_url, intent.job_key),
                )
            values = {**intent.values(), "step": "intent", "created_at": now, "updated_at": now}
            marks = ", ".join("?" * len(values))
            cursor = db.execute(
                f"INSERT INTO jobs ({', '.join(values)}) VALUES ({marks})",  # noqa: S608
                tuple(values.values()),
            )
        return cursor.lastrowid or 0

    def sending(self, number: int, *, over: Row | None = None) -> None:
        """Note that the request is going out: from now on the job may exist.

        Its job key is taken from `over`, a job of unknown outcome, if that is given.
        """
        with changing(self._db) as db:
            if over is not None:
                db.execute("UPDATE jobs SET superseded = 1 WHERE id = ?", (over.id,))
            key = over.job_key if over is not None else None
            self._set(number, "step = 'sending', job_key = coalesce(job_key, ?)", key)

    def unsent(self, number: int, *, over: Row | None = None) -> None:
        """Return to the intent: it is certain that nothing was created, and a retry follows."""
        with changing(self._db) as db:
            db.execute(
                "UPDATE jobs SET step = 'intent', updated_at = ? WHERE id = ?",
                (self._now(), number),
            )
            _give_key_back(db, number, over)

    def not_created(self, number: int, *, over: Row | None = None) -> None:
        """Remove an intent: it is certain that nothing was created."""
        with changing(self._db) as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (number,))
            _give_key_back(db, number, over)

    def submitted(self, number: int, response_id: str, status: str | None) -> None:
        """Note the id that the API gave."""
        changes = "step = 'submitted', response_id = ?, status = ?"
        self._set(number, changes, response_id, status)

    def seen(self, base_url: str, response_id: str, status: str | None, model: str | None) -> None:
        """Note the status of a job that was just read; add the job if it is not known yet."""
        now = self._now()
        with changing(self._db) as db:
            cursor = db.execute(
                "UPDATE jobs SET status = ?, model = coalesce(?, model), updated_at = ?"
                " WHERE base_url = ? AND response_id = ?",
                (status, model, now, base_url, response_id),
            )
            if not cursor.rowcount:
                db.execute(
                    "INSERT INTO jobs (base_url, step, response_id, status, model, created_at,"
                    " updated_at) VALUES (?, 'followed', ?, ?, ?, ?, ?)",
                    (base_url, response_id, status, model, now, now),
                )

    def together(self, writes: list[Callable[[], Any]]) -> list[Any]:
        """Perform several writes in one transaction.

        Returns:
            What each write returned, or the `StateError` that undid it alone.
        """
        outcomes: list[Any] = []
        with changing(self._db) as db:
            for write in writes:
                db.execute("SAVEPOINT one")
                try:
                    outcomes.append(write())
                except StateError as error:
                    db.execute("ROLLBACK TO one")
                    outcomes.append(error)
                db.execute("RELEASE one")
        return outcomes

    def note_result(self, base_url: str, response_id: str) -> None:
        """Note a job's result before it is saved: a file without a row would never be removed."""
        self._results.note(base_url, response_id)

    def save_result(self, base_url: str, response_id: str, raw: bytes) -> None:
        """Save a result as the API sent it; may be called in any thread."""
        self._results.save(base_url, response_id, raw)

    def result(self, row: Row) -> bytes | None:
        """The result that was kept of a job; None if there is none (any more)."""
        return self._results.read(row)

    def by_key(self, base_url: str, job_key: str) -> Row | None:
        """The job with a job key."""
        return self._first("base_url = ? AND job_key = ? AND NOT superseded", base_url, job_key)

    def of_run(self, base_url: str, run_key: str) -> dict[str, Row]:
        """The jobs of a jobs file's run, by `custom_id`."""
        rows = self._rows(
            "base_url = ? AND job_key BETWEEN ? AND ? AND NOT superseded",
            *(base_url, line_key(run_key, ""), line_key(run_key, "\U0010ffff")),
            limit=-1,
        )
        return {row.custom_id or "": row for row in rows}

    def by_id(self, base_url: str, response_id: str) -> Row | None:
        """The job with an id at one base URL."""
        return self._first("base_url = ? AND response_id = ?", base_url, response_id)

    def elsewhere(self, base_url: str, response_id: str) -> Row | None:
        """The job with an id that was submitted to another base URL."""
        return self._first("base_url <> ? AND response_id = ?", base_url, response_id)

    def newest(self, base_url: str) -> Row | None:
        """The newest submit to a base URL, whatever its outcome."""
        return self._first("base_url = ? AND step IN ('sending', 'submitted')", base_url)

    def jobs(self, limit: int | None = None) -> list[Row]:
        """All jobs, newest first, without those that were never sent."""
        return self._rows("step <> 'intent'", limit=-1 if limit is None else limit)

    def lock(self, base_url: str, job_key: str) -> int | None:
        """Take a job key's lock; None if another process holds it.

        The lock ends with `unlock` or with the process. Its file is never removed: removed and
        created again, it would be two locks.
        """
        if self._folder is None:
            raise StateError("state_unwritable", "A job key needs a state that can be written.")
        with translated():
            return lock_name(self._folder, f"{base_url}\n{job_key}")

    def unlock(self, lock: int) -> None:
        """Release a job key's lock."""
        os.close(lock)

    def set_aside(self) -> str | None:
        """The name of a corrupt file that was set aside and is still there; its keys are lost."""
        found = sorted(self._folder.glob(f"{FILE}.corrupt-*")) if self._folder is not None else []
        return found[0].name if found else None

    def close(self) -> None:
        """Close the file; the store can't be used any more."""
        self._db.close()

    def _set(self, number: int, changes: str, *values: str | None) -> None:
        """Change a job's row, or raise if it is gone: what is noted of it would be lost."""
        with changing(self._db) as db:
            cursor = db.execute(
                f"UPDATE jobs SET {changes}, updated_at = ? WHERE id = ?",  # noqa: S608
                (*values, self._now(), number),
            )
            if cursor.rowcount != 1:
                raise StateError("state_unwritable", "The job's row in the state is gone.")

    def _first(self, where: str, *values: str) -> Row | None:
        return next(iter(self._rows(where, *values, limit=1)), None)

    def _rows(self, where: str, *values: str, limit: int) -> list[Row]:
        with translated():
            found = self._db.execute(
                f"SELECT {', '.join(Row.fields)} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608
                (*values, limit),
            )
            # All at once: an open cursor would keep every writer waiting.
            return [Row(**dict(zip(Row.fields, row, strict=True))) for row in found.fetchall()]


def _give_key_back(db: sqlite3.Connection, number: int, over: Row | None) -> None:
    """Undo what `sending` did to the job whose key was taken."""
    if over is not None:
        db.execute("UPDATE jobs SET job_key = NULL WHERE id = ?", (number,))
        db.execute("UPDATE jobs SET superseded = 0 WHERE id = ?", (over.id,))
