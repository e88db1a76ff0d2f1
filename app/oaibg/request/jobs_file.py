"""A jobs file: JSON Lines in the Batch API's request format, validated as a whole before use.

A line is `{"custom_id": …, "method": "POST", "url": "/v1/responses", "body": {…}}`
(https://platform.openai.com/docs/guides/batch). Bodies are not kept in memory: a line is read again
when its turn comes, and its hash shows whether it has changed.
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
    from collections.abc import Iterator

URL = "/v1/responses"
BATCH_LINES_MAX, BATCH_BYTES_MAX = 50_000, 200_000_000

_KEYS = ("custom_id", "method", "url", "body")
_ID_LENGTH = 512
_REPORTED = 5
"""How many bad lines are reported one by one."""


class Line(NamedTuple):
    """A valid line: its position in the file, and the hash of its request."""

    number: int
    custom_id: str
    sha256: str
    model: str | None
    offset: int
    length: int


class JobsFile:
    """A jobs file whose lines are all valid; a `UsageError` has the numbers of those that aren't.

    `path` is absolute, `settings` fill in what the bodies lack, and `background` is false for a
    batch.
    """

    def __init__(self, path: str, settings: Settings, *, background: bool = True) -> None:
        self.path, self._settings, self._background = path, settings, background
        pipe = f"{path}: a jobs file is read again, and must be a regular file."
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
        """Close the file; no request can be read any more."""
        self._file.close()

    def request(self, line: Line) -> Request:
        """The request of a line; raises `OaibgError` if the file was changed meanwhile."""
        self._file.seek(line.offset)
        with suppress(UsageError, ValueError):
            custom_id, body = _parsed(self._file.read(line.length))
            request = fill_request(body, self._settings, background=self._background)
            if (custom_id, request.sha256) == (line.custom_id, line.sha256):
                return request
        raise OaibgError(
            f"{self.path}: line {line.number} was changed while the file was in use.",
            code="jobs_file_changed",
            hint="Run the same command again; what has ended is not submitted again.",
            outcome="not_created",
        )

    def requests(self) -> Iterator[bytes]:
        """The lines of a batch's input file."""
        for line in self.lines:
            yield _batch_line(line.custom_id, self.request(line))

    def _check_batch(self) -> None:
        """Check what the Batch API allows (https://platform.openai.com/docs/guides/batch)."""
        first = self.lines[0]
        other = next((line for line in self.lines if line.model != first.model), None)
        if len(self.lines) > BATCH_LINES_MAX:
            why = f"{len(self.lines):,} jobs; a batch may have {BATCH_LINES_MAX:,}"
        elif self.bytes > BATCH_BYTES_MAX:
            why = f"{self.bytes:,} bytes to upload; a batch may have {BATCH_BYTES_MAX:,}"
        elif other is not None:
            models = f"the model is {other.model!r}, and in line {first.number} {first.model!r}"
            why = f"line {other.number}: {models}; a batch has one"
        else:
            return
        hint = "Split the file, and run each part with a results file of its own."
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
                    twice = f"the custom_id {custom_id!r} stands in line {first[custom_id]} already"
                    raise ValueError(twice)  # noqa: TRY301 - one place reports all
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
            raise UsageError(f"{self.path}: {'; '.join(bad[:_REPORTED])}{more}.")
        if not first:
            raise UsageError(f"{self.path}: there are no jobs in it.")


def _batch_line(custom_id: str, request: Request) -> bytes:
    return json_line({"custom_id": custom_id, "method": "POST", "url": URL, "body": request.body})


def _parsed(raw: bytes) -> tuple[str, dict[str, Any]]:
    """The custom_id and the body of a line; a `ValueError` says why it is not valid."""
    line = json_files.parse_json(json_files.decode(raw), one_line=True)
    if not isinstance(line, dict):
        raise ValueError(f"expected an object, found {kind_of(line)}")
    for key in _KEYS:
        if key not in line:
            raise ValueError(f"no {key}")
    if unknown := [key for key in line if key not in _KEYS]:
        raise ValueError(f"unknown key {unknown[0]!r}; a line has {', '.join(_KEYS)}")
    custom_id, body = line["custom_id"], line["body"]
    is_printable = isinstance(custom_id, str) and custom_id.isprintable()
    if not is_printable or not 0 < len(custom_id) <= _ID_LENGTH:
        raise ValueError(f"custom_id must be a text of 1 to {_ID_LENGTH} printable characters")
    if line["method"] != "POST":
        raise ValueError(f'method must be "POST", not {line["method"]!r}')
    if line["url"] != URL:
        raise ValueError(f'url must be "{URL}", not {line["url"]!r}')
    if not isinstance(body, dict):
        raise ValueError(f"body: expected an object, found {kind_of(body)}")
    if body.get("input", body.get("prompt")) in (None, "", []):
        raise ValueError("body: no input")
    return custom_id, body
