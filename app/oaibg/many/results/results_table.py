"""A results table: a run's results in CSV or TSV, one row per job in the order of the jobs file.

The results themselves are JSON Lines beside it, in `results.csv.jsonl` for `results.csv`. The table
is a view of them, which is replaced as a whole when the run ends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from codecs import BOM_UTF8
from threading import Event
from typing import TYPE_CHECKING, BinaryIO

from oaibg.api.payload import Payload
from oaibg.base.files import saving
from oaibg.contract.errors import UsageError
from oaibg.engine import report
from oaibg.many.results.result_line import custom_id_of, ending_of
from oaibg.many.results.result_row import ResultRow, safe
from oaibg.request.job_table import delimiter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.many.results.result_line import Ending
    from oaibg.many.results.results_file import ResultsFile
    from oaibg.many.tally import Tally
    from oaibg.request.jobs_file import JobsFile


_GRACE = 1.0
"""Seconds that a write may take after a signal."""


_HEADER_MAX = 1 << 20
"""Characters of a table that are read for its header."""

_RENAME = "Use another --results-file, or rename this file."
_REPLACED = "the file was replaced by another one"


class ResultsTable:
    """The table of a run whose results file is named `.csv` or `.tsv`; else, writes nothing.

    `file` is None if the jobs are not known. Raises `UsageError` if there is a file at `path` that
    is not the table of earlier results.
    """

    def __init__(self, path: str, file: JobsFile | None = None) -> None:
        self.path, self._file, self._delimiter = path, file, delimiter_of(path)
        self.lines_path = lines_path(path)
        """The path of the results in JSON Lines."""
        if self._delimiter is not None:
            self._check(self._delimiter)

    async def write(
        self,
        results: ResultsFile,
        unended: Callable[[str], ResultRow],
        own: Job,
        tally: Tally,
        context: Context,
    ) -> None:
        """Write the table of the results; a failure becomes a warning.

        A thread writes it, because a large table takes a while. After a signal it has little time
        left: then the earlier table stays, and a rerun writes the new one. `unended` returns the
        row of a job without a result, by its custom_id.
        """
        if self._delimiter is None:
            return
        stop = Event()
        writing = asyncio.ensure_future(
            asyncio.to_thread(self._write, self._delimiter, results, unended, stop)
        )
        while not writing.done():
            try:
                await asyncio.wait({writing}, timeout=_GRACE if tally.interrupted else None)
                if tally.interrupted:
                    stop.set()
            except asyncio.CancelledError:
                tally.note_interrupt()
        try:
            in_place = writing.result()
        except OSError as error:
            tally.note_unwritten()
            warning = report.not_written(own, self.path, error)
            tally.note_unsaved(warning.message)
            await context.emit(warning)
        else:
            if in_place:
                await context.emit(report.written_in_place(own, self.path))

    def _write(
        self,
        delimiter: str,
        results: ResultsFile,
        unended: Callable[[str], ResultRow],
        stop: Event,
    ) -> bool:
        """Write the table; return whether an existing file was written in place."""
        import csv

        if self._is_foreign(delimiter):
            raise FileExistsError(errno.EEXIST, _REPLACED)
        columns = () if self._file is None else self._file.columns
        ways: list[bool] = []
        with (
            open(self.lines_path, "rb") as lines,  # noqa: PTH123
            saving(self.path, ways=ways) as table,
        ):
            rows = csv.writer(_Encoded(table), delimiter=delimiter)
            table.write(BOM_UTF8)  # without it, Excel takes the text for another encoding
            rows.writerow([*map(safe, _distinct(columns)), *ResultRow._fields])
            at = _offsets(lines)
            for custom_id, cells in self._jobs(at):
                if stop.is_set():
                    raise InterruptedError(errno.EINTR, "a signal ended the write")
                if custom_id in results.statuses and custom_id in at:
                    ending, window = _ending(lines, at[custom_id]), results.window_of(custom_id)
                    row = ResultRow.of_result(custom_id, ending, window)
                else:
                    row = unended(custom_id)
                ours = (safe(cell) if isinstance(cell, str) else cell for cell in row)
                rows.writerow([*map(safe, cells), *ours])
        return any(ways)

    def _jobs(self, known: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield the custom_id of each job, and its cells in the columns of the jobs file."""
        if self._file is None:
            yield from ((custom_id, []) for custom_id in known)
            return
        for line in self._file.lines:
            yield line.custom_id, self._file.cells(line)

    def _check(self, delimiter: str) -> None:
        try:
            there = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return
        if not stat.S_ISREG(there.st_mode):
            raise UsageError(f"{self.path}: the results file must be a regular file.")
        if there.st_size and not os.path.exists(self.lines_path):  # noqa: PTH110
            raise UsageError(
                f"{self.path}: the file exists, but {self.lines_path} does not, so it is not the "
                "table of this run. It is unchanged.",
                hint=_RENAME,
            )
        if self._is_foreign(delimiter):
            raise UsageError(
                f"{self.path}: the file is not a results table: its first row does not end with "
                f"{', '.join(ResultRow._fields)}. It is unchanged.",
                hint=_RENAME,
            )

    def _is_foreign(self, delimiter: str) -> bool:
        """Whether there is a file with content that lacks the columns of a results table."""
        import csv

        try:
            with open(self.path, encoding="utf-8-sig", errors="replace", newline="") as file:  # noqa: PTH123
                start = file.read(_HEADER_MAX)
            rows = csv.reader(start.splitlines(keepends=True), delimiter=delimiter)
            header = next(rows, [])
        except FileNotFoundError:
            return False
        except (OSError, csv.Error):
            return True
        return bool(start) and header[-len(ResultRow._fields) :] != [*ResultRow._fields]


def lines_path(results_path: str) -> str:
    """Return the path of the results in JSON Lines: the results file itself, or beside a table."""
    return results_path if delimiter_of(results_path) is None else f"{results_path}.jsonl"


class _Encoded:
    """What `csv.writer` writes to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: str) -> int:
        """Write a row in UTF-8."""
        return self._file.write(row.encode())


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Yield the names of the input's columns; those that are taken begin with `input_`."""
    taken = set(ResultRow._fields)
    for name in names:
        while name.lower() in taken:
            name = f"input_{name}"  # noqa: PLW2901
        taken.add(name.lower())
        yield name


def _offsets(lines: BinaryIO) -> dict[str, int]:
    """Return where the result of each job begins; the last line of a job counts."""
    offsets: dict[str, int] = {}
    end = 0
    for raw in lines:
        if not raw.endswith(b"\n"):
            break  # a write failed in the middle, and so did its removal
        custom_id = custom_id_of(raw) or Payload(raw).data["custom_id"]
        offsets[custom_id] = end
        end += len(raw)
    return offsets


def _ending(lines: BinaryIO, offset: int) -> Ending:
    lines.seek(offset)
    ending = ending_of(Payload(lines.readline()).data)
    assert ending is not None  # noqa: S101 - the line was read or written before
    return ending
