"""The records of a jobs file, whatever its format: each becomes a `custom_id` and a body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ID_LENGTH = 512


class JobRecord(NamedTuple):
    """A record as it stands in the file, at an offset in bytes."""

    number: int
    """The number of the line or of the table's row, from 1; the default of `custom_id`."""
    line: int
    """The number of the line on which the record begins."""
    offset: int
    raw: bytes


class JobRecords(Protocol):
    """The records of an open file.

    Iterating raises `UsageError` if the file has another format, and `ValueError`, with the place
    of the error, if the rest can't be split into records.
    """

    unit: str
    """What a record is: a "line" or a "row"."""
    hint: str
    """What to do about records that are invalid."""
    example: str
    """What a jobs file in this format contains."""
    columns: Sequence[str]
    """The names of the columns that the results repeat."""

    def __iter__(self) -> Iterator[JobRecord]: ...

    def place(self, number: int, line: int) -> str:
        """Return the place of a record, for messages."""

    def job(self, number: int, raw: bytes) -> tuple[str, dict[str, Any]]:
        """Return the custom_id and the body of a record; a `ValueError` says why it is invalid."""

    def cells(self, raw: bytes) -> list[str]:
        """Return the record's cells in `columns`; a `ValueError` says why it is invalid."""


def checked_id(custom_id: object) -> str:
    """Return a valid custom_id; raises `ValueError`."""
    is_printable = isinstance(custom_id, str) and custom_id.isprintable()
    if not isinstance(custom_id, str) or not is_printable or not 0 < len(custom_id) <= _ID_LENGTH:
        raise ValueError(f"custom_id must be a string of 1 to {_ID_LENGTH} printable characters")
    return custom_id
