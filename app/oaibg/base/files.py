"""Saving a file so that it is old or new, never half."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

TEMPORARY = ".oaibg.*.tmp"
"""The names of files that are being written; kill -9 leaves one behind."""


def save(path: str, data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path` durably: a temporary file beside it, synced, then renamed over it.

    A symbolic link is followed, and an existing file keeps its mode. What is no regular file
    (a device, a pipe) is written to as it is.

    Args:
        path: where to; its folder must exist.
        data: the file's whole content.
        private: readable by the owner alone, also where the file is new.

    Raises:
        OSError: nothing was changed at `path` (but for a device or pipe).
    """
    try:
        mode: int | None = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(data)
        return

    import tempfile

    target = os.path.realpath(path)
    folder = os.path.dirname(target)  # noqa: PTH120
    prefix, suffix = TEMPORARY.split("*")
    descriptor, temporary = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=folder)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            if not private:
                os.fchmod(descriptor, stat.S_IMODE(mode) if mode else 0o666 & ~_umask())
        os.replace(temporary, target)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    sync_folder(folder)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_folder(folder: str) -> None:
    """Make the rename itself durable; some file systems can't, and the file is whole anyway."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
