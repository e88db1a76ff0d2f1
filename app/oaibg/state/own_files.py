"""The files of the local state, which no other file may replace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oaibg.base.file_names import folded

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "state.sqlite3"
"""The database. Its name is also the beginning of other files' names: journals, and damaged ones.
"""

RESULTS, LOCKS = "results", "locks"
"""The folders of the results and of the locks."""

NOTICES = "shown-"
"""The beginning of the names of the files that say which notices were shown."""


def is_own_file(path: str, folder: str) -> bool:
    """Whether a path is the state's folder, or a file in it that the state uses or may create.

    Hard links to such files count as well, and names that some file system takes for the same.
    """
    inner = os.path.relpath(folded(os.path.realpath(path)), folded(os.path.realpath(folder)))
    own = inner.partition(os.sep)[0]
    if own in (".", RESULTS, LOCKS) or own.startswith((FILE, NOTICES)):
        return True
    try:
        there = os.stat(path)  # noqa: PTH116
        return there.st_nlink > 1 and any(
            entry.inode() == there.st_ino and os.path.samestat(entry.stat(), there)
            for entry in _files(folder)
        )
    except OSError:
        return False


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    for part in ("", RESULTS, LOCKS):
        directory = os.path.join(folder, part)  # noqa: PTH118
        if os.path.isdir(directory):  # noqa: PTH112
            with os.scandir(directory) as entries:
                yield from (entry for entry in entries if part or entry.name.startswith(FILE))
