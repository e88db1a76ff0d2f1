"""The state's file: opening it, its locks, and what is wrong with it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "state.sqlite3"
VERSION = 1

_CHECKED_BYTES = 4 << 20


class StateError(Exception):
    """The state can't be used; `code` is that of the warning or error that says so."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def extend(self, text: str) -> None:
        """Add to the message what else is known."""
        self.message += text


class StateBusyError(StateError):
    """Another process is writing; the same call may succeed in a moment."""

    patience, interval = 5.0, 0.03
    """Seconds for which the call is worth repeating, and between two calls."""


class KeyBusyError(StateBusyError):
    """Another process is submitting this job key; its job is known in a moment."""

    patience, interval = 10.0, 0.1


def open_file(folder: Path, schema: str) -> sqlite3.Connection:
    """Open the state of a folder, and make it where there is none.

    Raises:
        StateError: `state_newer` (left alone), or `state_corrupt` (set aside under another name;
            opening again begins a new one).
        sqlite3.Error, OSError: as they come; `translated` makes `StateError` of them.
    """
    path = folder / FILE
    _make_private(path)
    try:
        return _opened(path, schema)
    except sqlite3.Error as error:
        if _is_corrupt(error) and (aside := _put_aside(path, folder)) is not None:
            raise StateError(
                "state_corrupt", f"The state in {path} can't be read ({error}); it is now {aside}."
            ) from error
        raise


def in_memory(schema: str) -> sqlite3.Connection:
    """A state of this process alone."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    _create(db, schema)
    return db


def file_set_aside(folder: Path) -> str | None:
    """The name of a corrupt file that was set aside and is still there."""
    return next((path.name for path in sorted(folder.glob(f"{FILE}.corrupt-*"))), None)


def lock_name(folder: Path, name: str, *, wait: bool = False) -> int | None:
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


@contextmanager
def changing(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction, or a part of the one that is under way.

    Raises `StateError`, and changes nothing then.
    """
    with translated():
        if db.in_transaction:
            yield db
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the file system and SQLite raise as `StateError`."""
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


def _opened(path: Path, schema: str) -> sqlite3.Connection:
    # A short wait, as a longer one keeps a signal waiting; callers ask again.
    db = sqlite3.connect(path, timeout=0.05, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = EXTRA")
        version = _version(db)
        if version > VERSION:
            raise StateError(  # noqa: TRY301 - the connection is closed below
                "state_newer", f"The state in {path} was written by a newer version of oaibg."
            )
        if version < VERSION:
            _create(db, schema)
        else:
            _check(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def _create(db: sqlite3.Connection, schema: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    if _version(db) < VERSION:  # else another process was faster
        for statement in schema.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Raise a corruption error for a file that is no sound state.

    Garbage in mid-file is seen by SQLite's own check alone, which reads all of it: large files
    are spared.
    """
    db.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()
    if path.stat().st_size < _CHECKED_BYTES:
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _CorruptError(found)


def _put_aside(path: Path, folder: Path) -> str | None:
    """Rename a corrupt file; None where another process has done so meanwhile."""
    lock = lock_name(folder, "the state itself", wait=True)
    try:
        if not path.exists() or _is_sound(path):
            return None
        aside = path.with_name(f"{FILE}.corrupt-{time.time_ns()}")
        path.rename(aside)
        return aside.name
    finally:
        if lock is not None:
            os.close(lock)


def _is_sound(path: Path) -> bool:
    db = sqlite3.connect(path, timeout=0.05, isolation_level=None)
    try:
        if _version(db) == VERSION:
            _check(db, path)
    except sqlite3.Error as error:
        if not _is_corrupt(error):
            raise
        return False
    finally:
        db.close()
    return True


class _CorruptError(sqlite3.DatabaseError):
    """What SQLite's check found."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _make_private(path: Path) -> None:
    """Make the database file with mode 0600; SQLite fills an empty file.

    Never open it when it exists: closing it again would drop SQLite's locks.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
