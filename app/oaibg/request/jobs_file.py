"""A jobs file, validated as a whole before use: JSON Lines (`job_lines`) or a table (`job_table`).

Bodies are not kept in memory: a record is read again when it is submitted, and the hash of its
request shows whether it has changed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from oaibg.base.json_text import json_line
from oaibg.contract.errors import OaibgError, UsageError
from oaibg.request import json_files
from oaibg.request.body import Request, Settings, fill_request
from oaibg.request.encodings import HEAD, check_head
from oaibg.request.job_lines import URL, JobLines
from oaibg.request.job_table import JobTable, delimiter_of
from oaibg.request.mend import Mend

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from oaibg.request.job_records import JobRecords

BATCH_LINES_MAX, BATCH_BYTES_MAX = 50_000, 200_000_000

_NOT_TEXT = (
    "A jobs file is JSON Lines or a table in CSV or TSV. Save a spreadsheet as CSV (in Excel, as "
    '"CSV UTF-8").'
)
_NAMED = 5
"""Maximum number of different mistakes that an error names, and of places of each."""


class Line(NamedTuple):
    """A valid line or row: its position in the file (in bytes), and the hash of its request."""

    number: int
    custom_id: str
    sha256: str
    model: str | None
    completion_window: str | None
    offset: int
    length: int


class JobsFile:
    """A jobs file whose lines are all valid; otherwise, a `UsageError` names the invalid ones.

    `path` is absolute; `name` is the path that the user gave, whose extension may differ if it is a
    symbolic link; `settings` fill in missing fields; `background` is false for a batch.
    """

    def __init__(
        self, path: str, settings: Settings, *, name: str | None = None, background: bool = True
    ) -> None:
        self.path, self._settings, self._background = path, settings, background
        pipe = f"{path}: a jobs file is read more than once, so it must be a regular file."
        with json_files.reading(path):
            self._file = json_files.open_regular(path, pipe)
        self.bytes = 0
        """The size of a batch's input file; 0 in background mode."""
        try:
            with json_files.reading(path):
                check_head(self._file.read(HEAD), path, _NOT_TEXT)
                table = next((one for one in (name, path) if one and delimiter_of(one)), None)
                self._records: JobRecords = (
                    JobLines(path, self._file) if table is None else JobTable(table, self._file)
                )
            self.lines = list(self._validated())
            if not background:
                self._check_batch()
        except BaseException:
            self.close()
            raise
        self.columns = self._records.columns
        """The names of the columns that the table of the results repeats."""

    def close(self) -> None:
        """Close the file; requests can no longer be read."""
        self._file.close()

    def place(self, line: Line) -> str:
        """Return the place of a line, for messages."""
        return f"{self._records.unit} {line.number}"

    def request(self, line: Line) -> Request:
        """Return the request of a line; raises `OaibgError` if the line has changed."""
        return self._read(line)[0]

    def cells(self, line: Line) -> list[str]:
        """Return a line's cells in `columns`; empty ones if the line has changed."""
        if not self.columns:
            return []
        try:
            return self._records.cells(self._read(line)[1])
        except OaibgError:
            return [""] * len(self.columns)

    def requests(self, custom_ids: Container[str]) -> Iterator[bytes]:
        """Yield the lines of the input file of a batch with these jobs."""
        for line in self.lines:
            if line.custom_id in custom_ids:
                yield _batch_line(line.custom_id, self.request(line))

    def _read(self, line: Line) -> tuple[Request, bytes]:
        self._file.seek(line.offset)
        raw = self._file.read(line.length)
        with suppress(UsageError, ValueError):
            custom_id, body = self._records.job(line.number, raw)
            request = fill_request(body, self._settings, background=self._background)
            if (custom_id, request.sha256) == (line.custom_id, line.sha256):
                return request, raw
        raise OaibgError(
            f"{self.path}: {self.place(line)} changed while the file was in use.",
            code="jobs_file_changed",
            hint="Run the same command again; it does not submit finished jobs again.",
            outcome="not_created",
        )

    def _check_batch(self) -> None:
        """Check the Batch API's limits (https://platform.openai.com/docs/guides/batch)."""
        first = self.lines[0]
        other = next((line for line in self.lines if line.model != first.model), None)
        if len(self.lines) > BATCH_LINES_MAX:
            why = f"{len(self.lines):,} jobs; the limit for a batch is {BATCH_LINES_MAX:,}"
        elif self.bytes > BATCH_BYTES_MAX:
            why = f"{self.bytes:,} bytes to upload; the limit for a batch is {BATCH_BYTES_MAX:,}"
        elif other is not None:
            models = f"the model is {other.model!r}, but {self.place(first)} has {first.model!r}"
            why = f"{self.place(other)}: {models}; a batch can only use one model"
        else:
            return
        hint = "Split the file, and run each part with its own --results-file."
        raise UsageError(f"{self.path}: {why}.", hint=hint)

    def _validated(self) -> Iterator[Line]:
        records = self._records
        first: dict[str, int] = {}
        bad: dict[str, list[str]] = {}
        """From what is wrong to the places of it."""
        unit = records.unit
        distinct = f"Give each {unit} its own custom_id. The default is the {unit}'s number."
        hints: dict[str, None] = {}
        """Those of the reported mistakes."""

        def note(error: Exception, *places: str) -> None:
            bad.setdefault(str(error).rstrip("."), []).extend(places)
            if len(bad) <= _NAMED and (hint := getattr(error, "hint", None)):
                hints[hint] = None

        try:
            for number, line, offset, raw in records:
                try:
                    custom_id, body = records.job(number, raw)
                    request = fill_request(body, self._settings, background=self._background)
                    if custom_id in first:
                        twice = f"{unit} {first[custom_id]} already has the custom_id"
                        raise Mend(f"{twice} {custom_id!r}", distinct)
                except (UsageError, ValueError) as error:
                    note(error, records.place(number, line))
                    continue
                first[custom_id] = number
                if not self._background:
                    self.bytes += len(_batch_line(custom_id, request))
                model, window = request.text_of("model"), request.completion_window
                yield Line(number, custom_id, request.sha256, model, window, offset, len(raw))
        except ValueError as error:  # the rest of the file can't be read
            note(error)
        if bad:
            named = [
                f"{_some(places)}: {wrong}" if places else wrong for wrong, places in bad.items()
            ]
            mistakes = _some(named, "; ")
            hint = " ".join(hints) or records.hint
            raise UsageError(f"{self.path}: {mistakes}.", hint=hint)
        if not first:
            raise UsageError(f"{self.path}: the file contains no jobs.", hint=records.example)


def _some(parts: list[str], separator: str = ", ") -> str:
    """Join the first parts; of the others, only their number follows."""
    more = f"{separator}and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return f"{separator.join(parts[:_NAMED])}{more}"


def _batch_line(custom_id: str, request: Request) -> bytes:
    return json_line({"custom_id": custom_id, "method": "POST", "url": URL, "body": request.body})
