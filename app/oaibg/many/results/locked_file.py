"""A file of lines that one process appends to, each line synced to disk."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from typing import Self

from oaibg.base.files import sync, sync_folder
from oaibg.base.secrets import masked_bytes
from oaibg.contract.errors import Unavailable, UsageError
from oaibg.engine.hints import BUSY_HINT
from oaibg.state.database import NO_LOCKS


class LockedFile:
    """A file that is locked and read first; nothing changes before `begin`.

    Subclasses read it with `_read`, which returns the size of its complete lines in bytes, and
    repair it with `_mend` if another program has changed it.

    Raises:
        UsageError: the file can't be used.
        Unavailable: another process is writing to the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._size = 0
        """The size of the file's complete lines in bytes."""
        self._torn = False
        """Whether the file may end with part of a line that could not be removed."""
        self._is_changed = False
        """Whether something else has changed the file since it was opened."""
        self._descriptor: int | None = None
        with suppress(FileNotFoundError):
            self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Create the file if it is missing, and remove a last line that was cut off.

        Raises like the class.
        """
        try:
            if self._descriptor is None:
                self._open(os.O_CREAT)
            os.ftruncate(self._file, self._size)
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}.") from error
        sync_folder(os.path.dirname(self.path))  # noqa: PTH120

    def first_line(self) -> str | None:
        """Return the first line of the file; None if the file is empty or missing."""
        if self._descriptor is None:
            return None
        os.lseek(self._file, 0, os.SEEK_SET)
        with open(self._file, "rb", closefd=False) as file:
            return file.readline().decode(errors="replace").rstrip("\n") or None

    def is_intact(self) -> bool:
        """Return whether the file at the path is the one that was written, and as long."""
        try:
            there = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return False
        is_same = os.path.samestat(there, os.fstat(self._file))
        is_as_long = self._torn or there.st_size == self._size
        return is_same and is_as_long and not self._is_changed

    @property
    def _file(self) -> int:
        assert self._descriptor is not None, "`begin` comes first"  # noqa: S101
        return self._descriptor

    def _read(self) -> int:
        raise NotImplementedError

    def _mend(self) -> None:
        raise NotImplementedError

    def _open(self, create: int = 0) -> None:
        """Open, lock and read the file; raises `FileNotFoundError` if it is missing."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | create
        try:
            self._descriptor = os.open(self.path, flags, 0o666)
            self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check()
            self._size = self._read()
        except BlockingIOError as error:
            self.close()
            raise Unavailable(
                f"Another process is writing to {self.path}.",
                code="job_key_busy",
                hint=BUSY_HINT,
                outcome="not_created",
            ) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            self.close()
            raise UsageError(f"{self.path}: {error.strerror}.") from error
        except BaseException:
            self.close()
            raise

    def _flock(self, operation: int) -> None:
        """Lock or unlock the file, if its file system has locks; raises `BlockingIOError`."""
        try:
            fcntl.flock(self._file, operation)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise

    def _check(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise UsageError(f"{self.path}: the results file must be a regular file.")

    def release(self) -> None:
        """Unlock the file, which stays open."""
        self._flock(fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which ends the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _append(self, data: bytes) -> None:
        """Append complete lines; raises `OSError` if none was written, not even in part."""
        data = masked_bytes(data)
        rest = memoryview(data)
        if not self._torn and os.fstat(self._file).st_size != self._size:
            self._mend()
        try:
            if self._torn:
                os.ftruncate(self._file, self._size)
            self._torn = True
            while rest:
                rest = rest[os.write(self._file, rest) :]
            sync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._torn = False
        self._size += len(data)
