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
_PATIENCE = 5.0
FILE = "state.sqlite3"
DAY = 86400.0
_CHECKED_BYTES = 4 << 20

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

    def sending(self, number: int, *, over: Row | None = None) -> None:
        """Note that the request is going out now: from here on the job may exist.

        Args:
            number: the row of `intent`.
            over: the job of unknown outcome whose job key this one takes.
        """
        with self._changing() as db:
            if over is not None:
                db.execute("UPDATE jobs SET superseded = 1 WHERE id = ?", (over.id,))
            db.execute(
                "UPDATE jobs SET step = 'sending', updated_at = ?, job_key = coalesce(job_key, ?)"
                " WHERE id = ?",
                (self._now(), over and over.job_key, number),
            )

    def unsent(self, number: int, *, over: Row | None = None) -> None:
        """Step back to the intent: it is certain that nothing was created, and a try follows."""
        with self._changing() as db:
            db.execute(
                "UPDATE jobs SET step = 'intent', updated_at = ? WHERE id = ?",
                (self._now(), number),
            )
            self._give_back(db, number, over)

    def not_created(self, number: int, *, over: Row | None = None) -> None:
        """Take an intent back: it is certain that nothing was created."""
        with self._changing() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (number,))
            self._give_back(db, number, over)

    def submitted(self, number: int, response_id: str, status: str | None) -> None:
        """Note the id that the API gave."""
        with self._changing() as db:
            db.execute(
                "UPDATE jobs SET step = 'submitted', response_id = ?, status = ?, updated_at = ?"
                " WHERE id = ?",
                (response_id, status, self._now(), number),
            )

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
            raise StateError("state_unwritable", "A job key needs a state that can be written.")
        with _translated():
            return _lock(self._folder, f"{base_url}\n{job_key}")

    def unlock(self, lock: int) -> None:
        """Give a job key's lock back."""
        os.close(lock)

    def set_aside(self) -> str | None:
        """The name of a corrupt file that was set aside and is still there; its keys are lost."""
        if self._folder is None:
            return None
        return next((path.name for path in sorted(self._folder.glob(f"{FILE}.corrupt-*"))), None)

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
            # A short wait, as a longer one keeps a signal waiting; callers ask again.
            db = sqlite3.connect(path, timeout=0.05, isolation_level=None)
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
                _check(db, self._folder)
        except BaseException as error:
            db.close()
            if isinstance(error, sqlite3.Error) and _is_corrupt(error):
                self._put_aside(error)
            raise
        return db

    def _create(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] < VERSION:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")

    def _put_aside(self, error: sqlite3.Error) -> None:
        """Move a file that can't be read out of the way, unless another process has done so."""
        if self._folder is None:
            return
        path = self._folder / FILE
        lock = _lock(self._folder, "the state itself", wait=True)
        try:
            db = sqlite3.connect(path, timeout=0.05)
            try:
                _check(db, self._folder)
            except sqlite3.Error as still:
                if not _is_corrupt(still):
                    raise
            else:
                return
            finally:
                db.close()
            aside = path.with_name(f"{FILE}.corrupt-{time.time_ns()}")
            path.rename(aside)
        finally:
            if lock is not None:
                os.close(lock)
        raise StateError(
            "state_corrupt", f"The state in {path} can't be read ({error}); it is now {aside.name}."
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

    @staticmethod
    def _give_back(db: sqlite3.Connection, number: int, over: Row | None) -> None:
        """Undo what `sending` did to the job whose key was taken."""
        if over is not None:
            db.execute("UPDATE jobs SET job_key = NULL WHERE id = ?", (number,))
            db.execute("UPDATE jobs SET superseded = 0 WHERE id = ?", (over.id,))

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


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if _is_busy(error):
            raise StateBusyError("state_busy", "Another process is writing the state.") from error
        code = "state_corrupt" if _is_corrupt(error) else "state_unwritable"
        raise StateError(code, f"The state can't be used: {error}.") from error
    except (UnicodeError, OverflowError) as error:
        raise StateError(
            "state_unwritable", f"The state can't hold this ({type(error).__name__})."
        ) from error
    except OSError as error:
        raise StateError(
            "state_unwritable", f"The state can't be used: {error.strerror}: {error.filename}."
        ) from error


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_corrupt(error: sqlite3.Error) -> bool:
    damaged = _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return damaged or "no such table" in str(error)


def _code(error: sqlite3.Error) -> int:
    """The primary result code: the extended ones have it in their low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _check(db: sqlite3.Connection, folder: Path | None) -> None:
    """Raise a corruption error for a file that is no sound state.

    Garbage in mid-file is seen by SQLite's own check alone, which reads all of it: large files
    are spared.
    """
    db.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()
    if folder is not None and (folder / FILE).stat().st_size < _CHECKED_BYTES:
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _CorruptError(found)


class _CorruptError(sqlite3.DatabaseError):
    """What SQLite's check found."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _lock(folder: Path, name: str, *, wait: bool = False) -> int | None:
    """Take the lock of a name in a folder; None where another process has it."""
    locks = folder / "locks"
    locks.mkdir(mode=0o700, exist_ok=True)
    path = locks / hashlib.sha256(name.encode(errors="replace")).hexdigest()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_private(path: Path) -> None:
    """Make the database file with mode 0600; SQLite fills an empty file.

    Never open it when it exists: closing it again would drop SQLite's locks.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _marks(values: dict[str, Any]) -> str:
    return ", ".join("?" * len(values))
