"""Atomic file writes: a file has its old content or its new content, never a part.

`save` and `saving` replace a file. `new_file` and `settle` write one that must not replace any
other.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedRandom

_NOT_REPLACEABLE = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS)
"""The errors of renaming onto a mounted file, or in a folder that takes no new names."""

TEMPORARY = ".oaibg.*.tmp"
"""The names of incomplete files. SIGKILL can leave one behind."""


def save(path: str, data: bytes, *, private: bool = False, patience: float = math.inf) -> bool:
    """Write `data` to `path` as `saving` does; return whether the file was written in place.

    `patience` is the number of seconds to wait for the reader of a pipe. Raises `TimeoutError`
    after that.
    """
    if _is_pipe(path):
        _send(path, data, time.monotonic() + patience)
        return False
    ways: list[bool] = []
    with saving(path, private=private, ways=ways) as file:
        file.write(data)
    return any(ways)


def _is_pipe(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116
    return False


def _send(path: str, data: bytes, end: float) -> None:
    """Write to a pipe until a moment on the monotonic clock."""
    rest = memoryview(data)
    with open(_open_pipe(path, end), "wb", buffering=0) as pipe:
        while rest:
            if not select.select([], [pipe], [], _wait(end))[1]:
                continue
            with suppress(BlockingIOError):
                rest = rest[pipe.write(rest[: select.PIPE_BUF]) or 0 :]


def _open_pipe(path: str, end: float) -> int:
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody has opened it to read
                raise
        time.sleep(_wait(end))


def _wait(end: float) -> float:
    """Return how many seconds to wait for a reader; raise `TimeoutError` at the end."""
    if time.monotonic() >= end:
        raise TimeoutError(errno.ETIMEDOUT, "nobody reads from the pipe")
    return 0.05


@contextmanager
def saving(
    path: str, *, private: bool = False, ways: list[bool] | None = None
) -> Iterator[BinaryIO]:
    """Write to `path` durably: to a temporary file in its folder, synced and renamed at the end.

    The folder must exist. Symbolic links are followed. An existing file keeps its mode and a new
    file gets its mode from the umask; with `private`, only the owner can read the file. Devices and
    pipes are written to directly. For regular files, an exception means that nothing changed.

    A file that can be written but not replaced, such as one that is mounted into a container, gets
    its new content in place. `ways` receives whether that happened.
    """
    try:
        mode: int | None = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "wb") as device:  # noqa: PTH123
            yield device
        return

    target = os.path.realpath(path)
    folder = os.path.dirname(target)  # noqa: PTH120
    with _temporary(
        folder, private=private or mode is not None, elsewhere=mode is not None
    ) as file:
        yield file
        _sync(file)
        try:
            if mode is not None and not private:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            os.replace(file.name, target)  # noqa: PTH105
        except OSError as error:
            if mode is None or error.errno not in _NOT_REPLACEABLE:
                raise
            _copy(file, target)
            if ways is not None:
                ways.append(True)
    sync_folder(folder)


@contextmanager
def _temporary(folder: str, *, private: bool, elsewhere: bool) -> Iterator[BufferedRandom]:
    """Open a temporary file in a folder, or `elsewhere` if the folder takes no new files."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(new_file(folder, private=private))
        except OSError as error:
            if not elsewhere or error.errno not in _NOT_REPLACEABLE:
                raise
            from tempfile import gettempdir

            file = stack.enter_context(new_file(gettempdir(), private=True))
        yield file


def _copy(file: BufferedRandom, target: str) -> None:
    """Give an existing file the content of another."""
    from shutil import copyfileobj

    with open(target, "r+b") as existing:  # noqa: PTH123
        file.seek(0)
        copyfileobj(file, existing)
        existing.truncate()
        _sync(existing)


@contextmanager
def new_file(folder: str, *, private: bool = False) -> Iterator[BufferedRandom]:
    """Open a temporary file in a folder, for `settle`; at the end its temporary name is removed."""
    path = os.path.join(folder, TEMPORARY.replace("*", os.urandom(8).hex()))  # noqa: PTH118
    mode = 0o600 if private else 0o666  # less what the umask takes away
    with open(path, "x+b", opener=partial(os.open, mode=mode)) as file:
        try:
            yield file
        finally:
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108


def settle(file: BufferedRandom, paths: Iterable[str]) -> str:
    """Give a `new_file` the first of these paths in its folder that is free; return that path.

    A path also counts as free if a regular file with the same content has it. Nothing is ever
    overwritten, not even by two processes at once, and symbolic links are not followed.
    """
    _sync(file)
    for path in paths:
        try:
            _link(file.name, path)
        except FileExistsError:
            if not _is_copy(path, file.name):
                continue
        sync_folder(os.path.dirname(path))  # noqa: PTH120
        return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _sync(file: BufferedRandom) -> None:
    file.flush()
    sync(file.fileno())


def sync(descriptor: int) -> None:
    """Write a file to the disk; on macOS, `os.fsync` may leave it in the disk's own cache."""
    if full := getattr(fcntl, "F_FULLFSYNC", None):
        with suppress(OSError):  # as on some network shares
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def _link(temporary: str, path: str) -> None:
    """Give a file a second name; raises `FileExistsError` if anything has it already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, as on some memory cards and shares
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        os.replace(temporary, path)  # noqa: PTH105


def _is_copy(path: str, original: str) -> bool:
    """Whether a path names a regular file with the same content."""
    import filecmp

    try:
        is_regular = stat.S_ISREG(os.lstat(path).st_mode)
        return is_regular and filecmp.cmp(path, original, shallow=False)
    except OSError:
        return False


def sync_folder(folder: str) -> None:
    """Make a rename durable. Some file systems can't; the file is complete anyway."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
