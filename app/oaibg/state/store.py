"""What must outlive the process: intents, ids, job keys, results. SQLite, and a file a result.

A submit goes through three steps, each durable before the next thing happens:
`intent` (nothing was sent) → `sending` (the request is going out) → `submitted` (the id is known).
A row that stays at `sending` after its process is gone means that the outcome is unknown.
Rows at `followed` were submitted elsewhere. Request bodies are never kept.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaibg.base.files import TEMPORARY, save
from oaibg.base.record import Record
from oaibg.state.file import (
    StateBusyError,
    StateError,
    changing,
    file_set_aside,
    in_memory,
    lock_name,
    open_file,
    translated,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

DAY = 86400.0

_PATIENCE = 5.0

_SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    base_url TEXT NOT NULL,
    step TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'submitted', 'followed')),
    job_key TEXT,
    custom_id TEXT,
    request_sha256 TEXT,
    model TEXT,
    completion_window TEXT,
    response_id TEXT,
    status TEXT,
    result TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (base_url, job_key)
    WHERE job_key IS NOT NULL AND NOT superseded;
CREATE INDEX jobs_by_response ON jobs (response_id);
CREATE INDEX jobs_by_result ON jobs (updated_at) WHERE result IS NOT NULL;
"""


def line_key(run_key: str, custom_id: str) -> str:
    """The job key of a line of a jobs file: no key of the user's own has a line end."""
    return f"{run_key}\n{custom_id}"


def lock_key(job_key: str) -> str:
    """The key whose lock whoever submits it holds: for the lines of a jobs file it is the run's."""
    run_key, of_run, _ = job_key.partition("\n")
    return line_key(run_key, "") if of_run else job_key


class Row(Record):
    """A job as the state knows it. Times are Unix seconds."""

    id: int
    base_url: str
    step: str
    job_key: str | None
    custom_id: str | None
    request_sha256: str | None
    model: str | None
    completion_window: str | None
    response_id: str | None
    status: str | None
    result: str | None
    created_at: float
    updated_at: float
    superseded: int


class Intent(Record):
    """What is written down before a job is submitted."""

    base_url: str
    request_sha256: str
    job_key: str | None = None
    custom_id: str | None = None
    model: str | None = None
    completion_window: str | None = None


class Store:
    """The state of one folder, or of this process alone where `folder` is None.

    Every method commits before it returns.

    Args:
        folder: made with mode 0700 where it is missing.
        keep_days: how long results are kept; 0 keeps none.
        now: the Unix time in seconds.

    Raises:
        StateError: from every method, and from the constructor with the codes `state_unwritable`
            (folder or file), `state_corrupt` and `state_newer` (see `oaibg.statefile.open_file`).
    """

    def __init__(
        self, folder: str | None, *, keep_days: float = 30, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._keep_days = keep_days
        self._now = now
        self._pruned = False
        with translated():
            if self._folder is None:
                self._db = in_memory(_SCHEMA)
            else:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._db = open_file(self._folder, _SCHEMA)

    @property
    def is_durable(self) -> bool:
        """Whether it outlives this process."""
        return self._folder is not None

    def intent(self, intent: Intent) -> int:
        """Note a job before it is submitted; gives the row's number.

        A row of the same job key at the step `intent` was never sent: it is taken over. Callers
        with a job key hold its lock.
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
            cursor = db.execute(
                f"INSERT INTO jobs ({', '.join(values)}) VALUES ({_marks(values)})",  # noqa: S608
                tuple(values.values()),
            )
        return cursor.lastrowid or 0

    def sending(self, number: int, *, over: Row | None = None) -> None:
        """Note that the request is going out now: from here on the job may exist.

        Args:
            number: the row of `intent`.
            over: the job of unknown outcome whose job key this one takes.
        """
        with changing(self._db) as db:
            if over is not None:
                db.execute("UPDATE jobs SET superseded = 1 WHERE id = ?", (over.id,))
            cursor = db.execute(
                "UPDATE jobs SET step = 'sending', updated_at = ?, job_key = coalesce(job_key, ?)"
                " WHERE id = ?",
                (self._now(), over and over.job_key, number),
            )
            _check_found(cursor)

    def unsent(self, number: int, *, over: Row | None = None) -> None:
        """Step back to the intent: it is certain that nothing was created, and a try follows."""
        with changing(self._db) as db:
            db.execute(
                "UPDATE jobs SET step = 'intent', updated_at = ? WHERE id = ?",
                (self._now(), number),
            )
            self._give_back(db, number, over)

    def not_created(self, number: int, *, over: Row | None = None) -> None:
        """Take an intent back: it is certain that nothing was created."""
        with changing(self._db) as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (number,))
            self._give_back(db, number, over)

    def submitted(self, number: int, response_id: str, status: str | None) -> None:
        """Note the id that the API gave."""
        with changing(self._db) as db:
            cursor = db.execute(
                "UPDATE jobs SET step = 'submitted', response_id = ?, status = ?, updated_at = ?"
                " WHERE id = ?",
                (response_id, status, self._now(), number),
            )
            _check_found(cursor)

    def seen(self, base_url: str, response_id: str, status: str | None, model: str | None) -> None:
        """Note a job's status, as it was just read; of an unknown job, begin to keep one."""
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
        """Write several things in one transaction.

        Returns:
            What each write gave, or the `StateError` for which it alone was not done.
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

    def keep(self, base_url: str, response_id: str, raw: bytes) -> None:
        """Keep a result, as the API sent it; the job must have been seen."""
        # The row comes first: a file that no row names would never be removed.
        self.note_result(base_url, response_id)
        self.save_result(base_url, response_id, raw)

    def note_result(self, base_url: str, response_id: str) -> None:
        """The first half of `keep`: the row."""
        if self._folder is None or not self._keep_days:
            return
        self._prune()
        with changing(self._db) as db:
            db.execute(
                "UPDATE jobs SET result = ?, updated_at = ? WHERE base_url = ? AND response_id = ?",
                (_result_name(base_url, response_id), self._now(), base_url, response_id),
            )

    def save_result(self, base_url: str, response_id: str, raw: bytes) -> None:
        """The second half of `keep`: the file; may be called in any thread."""
        if self._folder is None or not self._keep_days:
            return
        with translated():
            results = self._folder / "results"
            results.mkdir(mode=0o700, exist_ok=True)
            name = _result_name(base_url, response_id)
            save(str(results / f"{name}.json"), raw, private=True)

    def result(self, row: Row) -> bytes | None:
        """The result that was kept of a job; None where there is none (any more)."""
        if self._folder is None or row.result is None or self._expired(row):
            return None
        try:
            return (self._folder / "results" / f"{row.result}.json").read_bytes()
        except OSError:
            return None

    def by_key(self, base_url: str, job_key: str) -> Row | None:
        """The job of a job key."""
        return self._one("base_url = ? AND job_key = ? AND NOT superseded", base_url, job_key)

    def of_run(self, base_url: str, run_key: str) -> dict[str, Row]:
        """The jobs of a run over a jobs file, by their custom_ids."""
        first, last = line_key(run_key, ""), f"{run_key}\n\U0010ffff"
        where = "base_url = ? AND job_key BETWEEN ? AND ? AND NOT superseded"
        rows = self._rows(where, base_url, first, last, limit=-1)
        return {row.custom_id or "": row for row in rows}

    def by_id(self, base_url: str, response_id: str) -> Row | None:
        """The job of an id at one base URL."""
        return self._one("base_url = ? AND response_id = ?", base_url, response_id)

    def elsewhere(self, base_url: str, response_id: str) -> Row | None:
        """The job of an id that was submitted to another base URL."""
        return self._one("base_url <> ? AND response_id = ?", base_url, response_id)

    def newest(self, base_url: str) -> Row | None:
        """The newest submit of a base URL, whatever became of it."""
        return self._one("base_url = ? AND step IN ('sending', 'submitted')", base_url)

    def jobs(self, limit: int | None = None) -> list[Row]:
        """The jobs that are known, newest first; what was never sent is no job."""
        return self._rows("step <> 'intent'", limit=-1 if limit is None else limit)

    def lock(self, base_url: str, job_key: str) -> int | None:
        """Take a job key's lock; None while another process has it.

        The lock ends with `unlock`, or with the process. Its file is never removed: a file that
        is removed and made again would be two locks.
        """
        if self._folder is None:
            raise StateError("state_unwritable", "A job key needs a state that can be written.")
        with translated():
            return lock_name(self._folder, f"{base_url}\n{job_key}")

    def unlock(self, lock: int) -> None:
        """Give a job key's lock back."""
        os.close(lock)

    def set_aside(self) -> str | None:
        """The name of a corrupt file that was set aside and is still there; its keys are lost."""
        return None if self._folder is None else file_set_aside(self._folder)

    def close(self) -> None:
        """Close the file; the store can't be used any more."""
        self._db.close()

    # Below: how it is done.

    @staticmethod
    def _give_back(db: sqlite3.Connection, number: int, over: Row | None) -> None:
        """Undo what `sending` did to the job whose key was taken."""
        if over is not None:
            db.execute("UPDATE jobs SET job_key = NULL WHERE id = ?", (number,))
            db.execute("UPDATE jobs SET superseded = 0 WHERE id = ?", (over.id,))

    def _one(self, where: str, *values: str) -> Row | None:
        return next(iter(self._rows(where, *values, limit=1)), None)

    def _rows(self, where: str, *values: str, limit: int) -> list[Row]:
        with translated():
            found = self._db.execute(
                f"SELECT {', '.join(Row.fields)} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608
                (*values, limit),
            )
            # All at once: an open cursor would keep every writer waiting.
            return [Row(**dict(zip(Row.fields, row, strict=True))) for row in found.fetchall()]

    def _expired(self, row: Row) -> bool:
        return row.updated_at < self._now() - self._keep_days * DAY

    def _prune(self) -> None:
        """Remove results that were kept long enough, once a process."""
        if self._pruned or self._folder is None:
            return
        self._pruned = True
        before = self._now() - self._keep_days * DAY
        results = self._folder / "results"
        with translated():
            old = self._db.execute(
                "SELECT result FROM jobs WHERE result IS NOT NULL AND updated_at < ?", (before,)
            ).fetchall()
        left = [path for path in results.glob(TEMPORARY) if self._is_left(path)]
        for path in [*(results / f"{name}.json" for (name,) in old), *left]:
            with suppress(OSError):  # what can't be removed is no reason to keep nothing new
                path.unlink()
        if old:
            with changing(self._db) as db:
                db.execute(
                    "UPDATE jobs SET result = NULL WHERE result IS NOT NULL AND updated_at < ?",
                    (before,),
                )

    def _is_left(self, path: Path) -> bool:
        """Whether a half-written file is of a process that is gone."""
        with suppress(OSError):
            return path.stat().st_mtime < self._now() - 3600
        return False


def open_store(
    folder: str, *, keep_days: float = 30, now: Callable[[], float] = time.time
) -> tuple[Store, StateError | None]:
    """The store of a folder, and what is wrong with it.

    A corrupt file is set aside, and a new one begun. Where the folder can't be used at all, the
    store is of this process alone, so that a run goes on; whoever promises more than that (a job
    key) must look at what is wrong.
    """
    problem: StateError | None = None
    give_up = time.monotonic() + _PATIENCE
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


def _check_found(cursor: sqlite3.Cursor) -> None:
    """Raise where a job's row is gone: what is written of it would be lost."""
    if cursor.rowcount != 1:
        raise StateError("state_unwritable", "The job's row in the state is gone.")


def _result_name(base_url: str, response_id: str) -> str:
    return hashlib.sha256(f"{base_url}\n{response_id}".encode(errors="replace")).hexdigest()


def _marks(values: dict[str, Any]) -> str:
    return ", ".join("?" * len(values))
