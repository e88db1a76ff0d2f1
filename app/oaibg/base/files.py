"""Atomic file writes: a file has its old content or its new content, never a part."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

TEMPORARY = ".oaibg.*.tmp"
"""The names of incomplete files. SIGKILL can leave one behind."""


def save(path: str, data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path` durably: to a temporary file in its folder, synced and then renamed.

    The folder must exist. Symbolic links are followed. An existing file keeps its mode and a new
    file gets its mode from the umask; with `private`, only the owner can read the file. Devices and
    pipes are written to directly. For regular files, an `OSError` means that nothing changed.
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
    """Make a rename durable. Some file systems can't; the file is complete anyway."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
