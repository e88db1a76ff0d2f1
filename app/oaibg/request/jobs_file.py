"""A jobs file: JSON Lines in the Batch API's request format, validated as a whole before use.

A line is `{"custom_id": …, "method": "POST", "url": "/v1/responses", "body": {…}}`
(https://platform.openai.com/docs/guides/batch). Bodies are not kept in memory: a line is read again
when it is submitted, and its hash shows whether it has changed.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from oaibg.base.json_text import json_line
from oaibg.contract.errors import OaibgError, UsageError
from oaibg.request import json_files
from oaibg.request.body import Request, Settings, fill_request
from oaibg.request.json_files import kind_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

URL = "/v1/responses"
BATCH_LINES_MAX, BATCH_BYTES_MAX = 50_000, 200_000_000

_KEYS = ("custom_id", "method", "url", "body")
_ID_LENGTH = 512
_HINT = (
    'A jobs file has one JSON object per line, such as {"custom_id": "1", "method": "POST", '
    f'"url": "{URL}", "body": {{"input": "Hello"}}}}'
)
_REPORTED = 5
"""Maximum number of invalid lines that an error names."""


class Line(NamedTuple):
    """A valid line: its position in the file (in bytes), and the hash of its request."""

    number: int
    custom_id: str
    sha256: str
    model: str | None
    offset: int
    length: int


class JobsFile:
    """A jobs file whose lines are all valid; otherwise, a `UsageError` names the invalid ones.

    `path` is absolute; `settings` fill in missing fields; `background` is false for a batch.
    """

    def __init__(self, path: str, settings: Settings, *, background: bool = True) -> None:
        self.path, self._settings, self._background = path, settings, background
        pipe = f"{path}: a jobs file is read more than once, so it must be a regular file."
        with json_files.reading(path):
            self._file = json_files.open_regular(path, pipe)
        self.bytes = 0
        """The size of a batch's input file; 0 in background mode."""
        try:
            self.lines = list(self._validated())
            if not background:
                self._check_batch()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; requests can no longer be read."""
        self._file.close()

    def request(self, line: Line) -> Request:
        """Return the request of a line; raises `OaibgError` if the line has changed."""
        self._file.seek(line.offset)
        with suppress(UsageError, ValueError):
            custom_id, body = _parsed(self._file.read(line.length))
            request = fill_request(body, self._settings, background=self._background)
            if (custom_id, request.sha256) == (line.custom_id, line.sha256):
                return request
        raise OaibgError(
            f"{self.path}: line {line.number} changed while the file was in use.",
            code="jobs_file_changed",
            hint="Run the same command again; it does not submit finished jobs again.",
            outcome="not_created",
        )

    def requests(self, custom_ids: Container[str]) -> Iterator[bytes]:
        """Yield the lines of the input file of a batch with these jobs."""
        for line in self.lines:
            if line.custom_id in custom_ids:
                yield _batch_line(line.custom_id, self.request(line))

    def _check_batch(self) -> None:
        """Check the Batch API's limits (https://platform.openai.com/docs/guides/batch)."""
        first = self.lines[0]
        other = next((line for line in self.lines if line.model != first.model), None)
        if len(self.lines) > BATCH_LINES_MAX:
            why = f"{len(self.lines):,} jobs; the limit for a batch is {BATCH_LINES_MAX:,}"
        elif self.bytes > BATCH_BYTES_MAX:
            why = f"{self.bytes:,} bytes to upload; the limit for a batch is {BATCH_BYTES_MAX:,}"
        elif other is not None:
            models = f"the model is {other.model!r}, but line {first.number} has {first.model!r}"
            why = f"line {other.number}: {models}; a batch can only use one model"
        else:
            return
        hint = "Split the file, and run each part with its own --results-file."
        raise UsageError(f"{self.path}: {why}.", hint=hint)

    def _validated(self) -> Iterator[Line]:
        first: dict[str, int] = {}
        bad: list[str] = []
        lines = iter(lambda: self._file.readline(json_files.INPUT_BYTES_MAX), b"")
        end = 0
        for number, raw in enumerate(lines, 1):
            offset, end = end, end + len(raw)
            if not raw.removeprefix(BOM_UTF8).strip():
                continue
            try:
                custom_id, body = _parsed(raw)
                request = fill_request(body, self._settings, background=self._background)
                if custom_id in first:
                    twice = f"line {first[custom_id]} already has the custom_id {custom_id!r}"
                    raise ValueError(twice)  # noqa: TRY301 - handled with the other errors
            except (UsageError, ValueError) as error:
                bad.append(f"line {number}: {str(error).rstrip('.')}")
                continue
            first[custom_id] = number
            if not self._background:
                self.bytes += len(_batch_line(custom_id, request))
            model = request.text_of("model")
            yield Line(number, custom_id, request.sha256, model, offset, len(raw))
        if bad:
            more = f"; and {len(bad) - _REPORTED} more" if len(bad) > _REPORTED else ""
            raise UsageError(f"{self.path}: {'; '.join(bad[:_REPORTED])}{more}.", hint=_HINT)
        if not first:
            raise UsageError(f"{self.path}: the file contains no jobs.", hint=_HINT)


def _batch_line(custom_id: str, request: Request) -> bytes:
    return json_line({"custom_id": custom_id, "method": "POST", "url": URL, "body": request.body})


def _parsed(raw: bytes) -> tuple[str, dict[str, Any]]:
    """Return the custom_id and the body of a line; a `ValueError` says why it is invalid."""
    line = json_files.parse_json(json_files.decode(raw), one_line=True)
    if not isinstance(line, dict):
        raise ValueError(f"expected a JSON object, found {kind_of(line)}")
    for key in _KEYS:
        if key not in line:
            raise ValueError(f"{key} is missing")
    if unknown := [key for key in line if key not in _KEYS]:
        raise ValueError(f"unknown key {unknown[0]!r}; a line has only {', '.join(_KEYS)}")
    custom_id, body = line["custom_id"], line["body"]
    is_printable = isinstance(custom_id, str) and custom_id.isprintable()
    if not is_printable or not 0 < len(custom_id) <= _ID_LENGTH:
        raise ValueError(f"custom_id must be a string of 1 to {_ID_LENGTH} printable characters")
    if line["method"] != "POST":
        raise ValueError(f'method must be "POST", not {line["method"]!r}')
    if line["url"] != URL:
        raise ValueError(f'url must be "{URL}", not {line["url"]!r}')
    if not isinstance(body, dict):
        raise ValueError(f"body: expected an object, found {kind_of(body)}")
    if body.get("input", body.get("prompt")) in (None, "", []):
        raise ValueError("body: input is missing or empty")
    return custom_id, body
