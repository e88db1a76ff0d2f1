"""Whether the files of a job were written, and whether a retry may write the rest."""

from __future__ import annotations

from enum import IntEnum


class Written(IntEnum):
    """The outcome of writing files; that of several files is the largest of theirs."""

    ALL = 0
    LOST = 1
    """A file is lost: only a new job can create it again."""
    RETRY = 2
    """A file could not be written, but a retry may help."""
