"""A CSV or TSV table as jobs: a header with the column `prompt`, and a job in each row."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any, BinaryIO

from oaibg.contract.errors import UsageError
from oaibg.request import json_files
from oaibg.request.encodings import iconv, likely_encoding
from oaibg.request.job_records import JobRecord, checked_id
from oaibg.request.mend import Mend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROMPT, _ID = "prompt", "custom_id"
_LIKE_PROMPT = (_PROMPT, "question", "input", "query", "instruction", "message", "text")
"""What the name of a column with prompts may contain, the likeliest first."""
_SAVE = 'Save the file as UTF-8 (in Excel, as "CSV UTF-8").'
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def delimiter_of(path: str) -> str | None:
    """Return the delimiter of a table by its file's extension; None if it is not a table."""
    return {".csv": ",", ".tsv": "\t"}.get(path[-4:].lower())


class JobTable:
    """The rows of a table below its header; see `JobRecords`.

    The delimiter is that of the extension, or else the one with which the header has the column
    `prompt`: spreadsheets of many countries write semicolons into a `.csv`.

    Raises:
        UsageError: no column is `prompt`.
        ValueError: the header can't be read.
    """

    unit = "row"
    hint = "Correct these rows, or delete them."
    example = (
        "The first line of a table is a header with the column prompt and, optionally, custom_id; "
        "each row below it is a job."
    )

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path, self._file = path, file
        own = str(delimiter_of(path))
        for delimiter in sorted(_DELIMITERS, key=lambda delimiter: delimiter != own):
            self._delimiter = delimiter
            header = self._header()
            names = [name.lower() for name in header]
            if _PROMPT in names:
                break
        else:
            raise self._no_prompts(own)
        for name in (_PROMPT, _ID):
            if names.count(name) > 1:
                raise UsageError(f"{path}: the header has the column {name} twice.")
        self._width = len(names)
        self._prompt = names.index(_PROMPT)
        self._id = names.index(_ID) if _ID in names else None
        self._others = [at for at in range(len(names)) if at not in (self._prompt, self._id)]
        self.columns: Sequence[str] = [header[at] for at in self._others]

    def __iter__(self) -> Iterator[JobRecord]:
        return (record for record, _ in self._rows() if record.number)

    def place(self, number: int, line: int) -> str:
        """Return the place of a row, for messages."""
        return f"row {number} (line {line})" if number else f"line {line}"

    def job(self, number: int, raw: bytes) -> tuple[str, dict[str, Any]]:
        """Return the custom_id and the body of a row; a `ValueError` says why it is invalid."""
        cells = self._cells(raw)
        prompt = cells[self._prompt]
        if not prompt.strip():
            raise Mend("the prompt is empty", "Each row needs a prompt. Add it, or delete the row.")
        custom_id = "" if self._id is None else cells[self._id]
        return checked_id(custom_id or str(number)), {"input": prompt}

    def cells(self, raw: bytes) -> list[str]:
        """Return the row's cells in `columns`; a `ValueError` says why it is invalid."""
        cells = self._cells(raw)
        return [cells[at] for at in self._others]

    def _cells(self, raw: bytes) -> list[str]:
        import csv

        try:
            cells = next(csv.reader([raw.decode()], delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:  # only if the file has changed
            raise ValueError(str(error)) from error
        if len(cells) != self._width:
            many = _DELIMITERS[self._delimiter]
            cure = f"put a cell that contains {many} in double quotes"
            if len(cells) < self._width:
                cure = f"write the {many} of empty cells, too"
            raise ValueError(
                f"expected {self._width} cells, as in the header, found {len(cells)}; {cure}"
            )
        return cells

    def _header(self) -> list[str]:
        """Return the names of the columns; empty if the table has another delimiter."""
        try:
            _, cells = next(self._rows(), (None, []))
        except _BadQuotes:
            return []
        return [cell.strip() for cell in cells]

    def _rows(self) -> Iterator[tuple[JobRecord, list[str]]]:
        """Yield each row with its cells; the header is row 0, and blank lines don't count.

        Raises `ValueError`, with the place of the error, if the rest can't be read.
        """
        import csv

        csv.field_size_limit(json_files.INPUT_BYTES_MAX)
        lines = _Lines(self._path, self._file)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        number = 0
        while True:
            line, offset = lines.begin()
            try:
                cells = next(reader, None)
            except Mend as error:
                raise Mend(f"{self.place(number, lines.number)}: {error}", error.hint) from error
            except csv.Error as error:
                raise _BadQuotes(
                    f"{self.place(number, line)}: invalid CSV ({error}); put a cell with quotes or "
                    "line ends in double quotes, and double each quote inside"
                ) from error
            if cells is None:
                return
            if cells:
                yield JobRecord(number, line, offset, lines.raw), cells
                number += 1

    def _no_prompts(self, own: str) -> UsageError:
        """Return the error of a file whose header lacks the column `prompt`.

        The header is shown with the delimiter that gives the most columns; `own` is the
        extension's.
        """
        self._delimiter = own
        record, cells = next(self._rows(), (None, []))  # an error in the quotes is reported here
        if record is None:
            return UsageError(f"{self._path}: the file is empty.", hint=self.example)
        if record.raw.removeprefix(BOM_UTF8).lstrip().startswith((b"{", b"[")):
            return UsageError(
                f"{self._path}: the file contains JSON, but its name is that of a table.",
                hint="Rename the file so that its name ends in .jsonl.",
            )
        names = [cell.strip() for cell in cells]
        for self._delimiter in _DELIMITERS:
            names = max(names, self._header(), key=len)
        plain = [name for name in names if not re.search(r"[,;\t|]", name)]
        likely = (name for word in _LIKE_PROMPT for name in plain if word in name.lower())
        found = next(likely, plain[0] if plain and len(names) == 1 else None)
        mend = self.example if found is None else f"Rename the column {found!r} to prompt."
        if len(names) == 1 and "|" in names[0]:
            mend = f"Separate the cells with commas, semicolons or tabs. {mend}"
        listed = ", ".join(repr(name) for name in names[:20])
        return UsageError(
            f"{self._path}: there is no column prompt; the columns are {listed}.", hint=mend
        )


class _BadQuotes(ValueError):
    """The quotes of a row are not those of a CSV file."""


class _Lines:
    """The lines of a file for `csv.reader`; knows which ones the reader took for a row.

    Raises `Mend` for a line that is not text in UTF-8.
    """

    def __init__(self, path: str, file: BinaryIO) -> None:
        file.seek(0)
        self._path, self._file = path, file
        self.number = self._end = 0
        self._raws: list[bytes] = []

    def begin(self) -> tuple[int, int]:
        """Begin a row; return the number of its first line, and its offset in bytes."""
        self._raws.clear()
        return self.number + 1, self._end

    @property
    def raw(self) -> bytes:
        """The lines since the row began."""
        return b"".join(self._raws)

    def __iter__(self) -> Iterator[str]:
        while raw := self._file.readline(json_files.INPUT_BYTES_MAX):
            self.number += 1
            self._end += len(raw)
            self._raws.append(raw)
            if b"\0" in raw:
                raise Mend("found a NUL character", _SAVE)
            try:
                yield (raw.removeprefix(BOM_UTF8) if self.number == 1 else raw).decode()
            except UnicodeDecodeError as error:
                found, encoding = (
                    f"byte {error.start} of the line is not UTF-8",
                    likely_encoding(raw),
                )
                if encoding is None:
                    raise Mend(found, _SAVE) from error
                hint = f"{_SAVE} In a shell, run: {iconv(encoding, self._path)}"
                raise Mend(f"{found}; the text looks like {encoding}", hint) from error
