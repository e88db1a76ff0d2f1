"""The state's database file: opening, locks, transactions and errors."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from threading import RLock
from typing import TYPE_CHECKING

from oaibg.state import own_files
from oaibg.state.rows import ADDED, ADDED_TABLES, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = own_files.FILE
VERSION = 1

_CHECKED_BYTES = 4 << 20
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
_OWN_IDS = "AUTOINCREMENT"

_IN_USE = RLock()
"""Held by the thread that uses the connection, of which a process has one. Without it, two threads
may get the same prepared statement, and one reads the other's rows."""


class StateError(Exception):
    """The state can't be used. `code` is the code of the warning or error that reports this."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def extend(self, text: str) -> None:
        """Append a text to the message."""
        self.message += text


class IdTakenError(StateError):
    """The ID of a new job is that of another job."""


class StateBusyError(StateError):
    """Another process is writing; the same call may succeed in a moment."""

    patience, interval = 5.0, 0.03
    """Seconds for which to repeat the call, and seconds between two calls."""


class KeyBusyError(StateBusyError):
    """Another process is submitting this job key; the job will be known in a moment."""

    patience, interval = 10.0, 0.1


class KeyTakenError(StateError):
    """Another process has begun to submit this job key; nothing was changed."""


class KeyReusedError(StateError):
    """The job key belongs to other work: a job's key to a run, or a run's key to a job."""


class RunCancelledError(StateError):
    """The run of a job was cancelled, so that its request must not be sent."""


def open_database(folder: Path | None) -> sqlite3.Connection:
    """Open the state in a folder, which is created if missing; None opens one in memory.

    Raises:
        StateError: `state_newer` (the file is not changed), or `state_corrupt` (the file was
            renamed; opening again creates a new one).
        sqlite3.Error, OSError: all other errors; `translated` turns these into `StateError`.
    """
    if folder is None:
        db = _connect(":memory:")
        _create(db)
        return db
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE
    with suppress(FileExistsError):
        # Create an empty file with this mode for SQLite to fill. An existing file is never opened
        # here, because closing it would release SQLite's locks.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        return _opened(path)
    except sqlite3.Error as error:
        if _is_corrupt(error) and (aside := _put_aside(path)) is not None:
            message = f"The local state in {path} is damaged ({error}). It was renamed to {aside}."
            raise StateError("state_corrupt", message) from error
        raise


def lock_name(folder: Path, name: str, *, wait: bool = False) -> int:
    """Lock a name in a folder; raises `BlockingIOError` if another process holds the lock.

    Where the file system has no locks, this succeeds without one.
    """
    locks = folder / own_files.LOCKS
    locks.mkdir(mode=0o700, exist_ok=True)
    path = locks / hashlib.sha256(name.encode(errors="replace")).hexdigest()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in NO_LOCKS:
            return descriptor
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A transaction, or a part of the thread's open one.

    A `StateError` means that nothing changed. Other threads wait.
    """
    with translated(), _IN_USE:
        if db.in_transaction:
            yield
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


@contextmanager
def reading() -> Iterator[None]:
    """A read that needs no transaction of its own. Other threads wait."""
    with translated(), _IN_USE:
        yield


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of SQLite and the file system into `StateError`."""
    try:
        yield
    except sqlite3.Error as error:
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            message = "Another process is writing to the local state."
            raise StateBusyError("state_busy", message) from error
        code = "state_corrupt" if _is_corrupt(error) else "state_unwritable"
        raise StateError(code, f"The local state can't be used: {error}.") from error
    except (UnicodeError, OverflowError) as error:
        message = f"The local state can't store this value ({type(error).__name__})."
        raise StateError("state_unwritable", message) from error
    except OSError as error:
        message = f"The local state can't be used: {error.filename}: {error.strerror}."
        raise StateError("state_unwritable", message) from error


def _opened(path: Path) -> sqlite3.Connection:
    # The timeout is short because it delays signals; callers retry.
    db = _connect(path, timeout=0.05)
    try:
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute("PRAGMA fullfsync = ON")  # for macOS; see `oaibg.base.files.sync`
        version = _version(db)
        if version > VERSION:
            message = f"The local state in {path} was written by a newer version of oaibg."
            raise StateError("state_newer", message)  # noqa: TRY301 - closed below
        if version < VERSION:
            _create(db)
        else:
            _check(db, path)
            _add(db)
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path | str, timeout: float = 5.0) -> sqlite3.Connection:
    # Several threads use it, but never two at the same time.
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    if _version(db) < VERSION:  # otherwise another process created it first
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        _add(db)
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _add(db: sqlite3.Connection) -> None:
    """Add the columns and the tables that an older version did not create."""
    _add_columns(db, "jobs")
    if _OWN_IDS not in _jobs_table(db):
        _keep_ids_unique(db)
    for statement in ADDED_TABLES.split(";"):
        db.execute(statement)
    _add_columns(db, "runs")


def _add_columns(db: sqlite3.Connection, table: str) -> None:
    columns = ADDED[table]
    missing = columns.keys() - {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
    if missing:
        with transaction(db):
            for name in missing:
                with suppress(sqlite3.OperationalError):  # another process added it
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")


def _jobs_table(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs'").fetchone()[0])


def _keep_ids_unique(db: sqlite3.Connection) -> None:
    """Copy the jobs into a table whose IDs are never used again, not even after a deletion."""
    with transaction(db):
        table = _jobs_table(db)
        if _OWN_IDS in table:
            return  # another process did it
        table = table.replace("INTEGER PRIMARY KEY", f"INTEGER PRIMARY KEY {_OWN_IDS}", 1)
        db.execute(table.replace("jobs", "copied_jobs", 1))
        db.execute("INSERT INTO copied_jobs SELECT * FROM jobs")
        db.execute("DROP TABLE jobs")
        db.execute("ALTER TABLE copied_jobs RENAME TO jobs")
        for statement in SCHEMA.split(";")[1:]:
            db.execute(statement)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check(db: sqlite3.Connection, path: Path) -> None:
    db.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()
    # Only SQLite's own check finds damage in the middle of the file. It reads the whole file.
    if path.stat().st_size < _CHECKED_BYTES:
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error


def _put_aside(path: Path) -> str | None:
    """Rename a corrupt file; returns None if another process has already replaced it."""
    lock = lock_name(path.parent, "the state itself", wait=True)
    try:
        if path.exists():
            _opened(path).close()
    except sqlite3.Error as error:
        if not _is_corrupt(error):
            raise
        aside = path.with_name(f"{FILE}.corrupt-{time.time_ns()}")
        path.rename(aside)
        return aside.name
    finally:
        os.close(lock)
    return None


def _is_corrupt(error: sqlite3.Error) -> bool:
    damaged = _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return damaged or "no such table" in str(error)


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code: the low byte of the extended code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
