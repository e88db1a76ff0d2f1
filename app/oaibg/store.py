"""What must outlive the process: intents, ids, job keys, results. SQLite, and a file a result.

A submit goes through three steps, each durable before the next thing happens:
`intent` (nothing was sent) → `sending` (the request is going out) → `submitted` (the id is known).
A row that stays at `sending` after its process is gone means that the outcome is unknown.
Rows at `followed` were submitted elsewhere. Request bodies are never kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaibg.files import save
from oaibg.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = 1
FILE = "state.sqlite3"
DAY = 86400.0

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


class StateError(Exception):
    """The state can't be used; `code` is that of the warning or error that says so."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StateBusyError(StateError):
    """Another process is writing; the same call may succeed in a moment."""


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
            (folder or file), `state_corrupt` (the file was set aside; opening again begins a new
            one) and `state_newer` (written by a newer version; left alone).
    """

    def __init__(
        self, folder: str | None, *, keep_days: float = 30, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._keep_days = keep_days
        self._now = now
        self._pruned = False
        with _translated():
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = self._open()

    def intent(self, intent: Intent) -> int:
        """Note a job before it is submitted; gives the row's number.

        A row of the same job key at the step `intent` was never sent: it is taken over. Callers
        with a job key hold its lock.
        """
        now = self._now()
        with self._changing() as db:
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

    def sending(self, number: int) -> None:
        """Note that the request is going out now: from here on the job may exist."""
        self._update(number, step="sending")

    def not_created(self, number: int) -> None:
        """Take an intent back: it is certain that nothing was created."""
        with self._changing() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (number,))

    def unsent(self, number: int) -> None:
        """Step back to the intent: it is certain that nothing was created, and a try follows."""
        self._update(number, step="intent")

    def submitted(self, number: int, response_id: str, status: str | None) -> None:
        """Note the id that the API gave."""
        self._update(number, step="submitted", response_id=response_id, status=status)

    def supersede(self, number: int) -> None:
        """Free the row's job key, for a submit whose outcome the user no longer waits for."""
        self._update(number, superseded=1)

    def seen(self, base_url: str, response_id: str, status: str | None, model: str | None) -> None:
        """Note a job's status, as it was just read; of an unknown job, begin to keep one."""
        now = self._now()
        with self._changing() as db:
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

    def keep(self, base_url: str, response_id: str, raw: bytes) -> None:
        """Keep a result, as the API sent it; the job must have been seen."""
        if self._folder is None or not self._keep_days:
            return
        self._prune()
        name = hashlib.sha256(f"{base_url}\n{response_id}".encode(errors="replace")).hexdigest()
        with _translated():
            results = self._folder / "results"
            results.mkdir(mode=0o700, exist_ok=True)
            save(str(results / f"{name}.json"), raw, private=True)
        with self._changing() as db:
            db.execute(
                "UPDATE jobs SET result = ?, updated_at = ? WHERE base_url = ? AND response_id = ?",
                (name, self._now(), base_url, response_id),
            )

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

    def by_id(self, base_url: str, response_id: str) -> Row | None:
        """The job of an id at one base URL."""
        return self._one("base_url = ? AND response_id = ?", base_url, response_id)

    def elsewhere(self, base_url: str, response_id: str) -> Row | None:
        """The job of an id that was submitted to another base URL."""
        return self._one("base_url <> ? AND response_id = ?", base_url, response_id)

    def newest(self, base_url: str) -> Row | None:
        """The newest submit of a base URL, whatever became of it."""
        return self._one("base_url = ? AND step IN ('sending', 'submitted')", base_url)

    def jobs(self, limit: int | None = None) -> Iterator[Row]:
        """The jobs that are known, newest first; what was never sent is no job."""
        return self._rows("step <> 'intent'", limit=-1 if limit is None else limit)

    def lock(self, base_url: str, job_key: str) -> int | None:
        """Take a job key's lock; None while another process has it.

        The lock ends with `unlock`, or with the process. Its file is never removed: a file that
        is removed and made again would be two locks.
        """
        if self._folder is None:
            raise StateError("state_unwritable", "a job key needs a state that can be written")
        name = hashlib.sha256(f"{base_url}\n{job_key}".encode(errors="replace")).hexdigest()
        with _translated():
            locks = self._folder / "locks"
            locks.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    def unlock(self, lock: int) -> None:
        """Give a job key's lock back."""
        os.close(lock)

    def close(self) -> None:
        """Close the file; the store can't be used any more."""
        self._db.close()

    # Below: how it is done.

    def _open(self) -> sqlite3.Connection:
        if self._folder is None:
            db = sqlite3.connect(":memory:", isolation_level=None)
        else:
            path = self._folder / FILE
            _make_private(path)
            db = sqlite3.connect(path, timeout=2, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = EXTRA")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StateError(  # noqa: TRY301 - the connection is closed below
                    "state_newer",
                    f"The state in {self._folder} was written by a newer version of oaibg.",
                )
            if version < VERSION:
                self._create(db)
            else:
                db.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()
            # A short wait from here on, as a longer one keeps a signal waiting; callers ask again.
            db.execute("PRAGMA busy_timeout = 50")
        except BaseException as error:
            db.close()
            if isinstance(error, sqlite3.DatabaseError) and _is_corrupt(error):
                self._set_aside(error)
            raise
        return db

    def _create(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] < VERSION:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        if self._folder is None:
            return
        path = self._folder / FILE
        aside = path.with_name(f"{FILE}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
        path.rename(aside)
        raise StateError(
            "state_corrupt",
            f"The state in {path} can't be read ({error}); it was set aside as {aside.name}.",
        ) from error

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def _update(self, number: int, **values: Any) -> None:
        values["updated_at"] = self._now()
        changes = ", ".join(f"{name} = ?" for name in values)
        with self._changing() as db:
            db.execute(f"UPDATE jobs SET {changes} WHERE id = ?", (*values.values(), number))  # noqa: S608

    def _one(self, where: str, *values: str) -> Row | None:
        return next(self._rows(where, *values, limit=1), None)

    def _rows(self, where: str, *values: str, limit: int) -> Iterator[Row]:
        with _translated():
            found = self._db.execute(
                f"SELECT {', '.join(Row.fields)} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608
                (*values, limit),
            )
            for row in found:
                yield Row(**dict(zip(Row.fields, row, strict=True)))

    def _expired(self, row: Row) -> bool:
        return row.updated_at < self._now() - self._keep_days * DAY

    def _prune(self) -> None:
        """Remove results that were kept long enough, once a process."""
        if self._pruned or self._folder is None:
            return
        self._pruned = True
        before = self._now() - self._keep_days * DAY
        with self._changing() as db:
            old = db.execute(
                "SELECT result FROM jobs WHERE result IS NOT NULL AND updated_at < ?", (before,)
            ).fetchall()
            db.execute(
                "UPDATE jobs SET result = NULL WHERE result IS NOT NULL AND updated_at < ?",
                (before,),
            )
        for (name,) in old:
            (self._folder / "results" / f"{name}.json").unlink(missing_ok=True)


def open_store(
    folder: str, *, keep_days: float = 30, now: Callable[[], float] = time.time
) -> tuple[Store, StateError | None]:
    """The store of a folder, and what is wrong with it.

    Where the folder can't be used the store is of this process alone, so that a run goes on;
    whoever promises more than that (a job key) must look at what is wrong.
    """
    problem: StateError | None = None
    for _ in range(2):
        try:
            return Store(folder, keep_days=keep_days, now=now), problem
        except StateError as error:
            problem = error
            if error.code != "state_corrupt":
                break
    return Store(None, now=now), problem


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if _is_busy(error):
            raise StateBusyError("state_busy", "another process is writing the state") from error
        code = "state_corrupt" if _is_corrupt(error) else "state_unwritable"
        raise StateError(code, f"The state can't be used: {error}.") from error
    except OSError as error:
        raise StateError(
            "state_unwritable", f"The state can't be used: {error.strerror}: {error.filename}."
        ) from error


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_corrupt(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    """The primary result code: the extended ones have it in their low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make_private(path: Path) -> None:
    """Make the database file with mode 0600; SQLite fills an empty file.

    Never open it when it exists: closing it again would drop SQLite's locks.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _marks(values: dict[str, Any]) -> str:
    return ", ".join("?" * len(values))
