"""JSON Lines as jobs: the Batch API's request format, and a short one.

A line of the Batch API is `{"custom_id": …, "method": "POST", "url": "/v1/responses", "body": {…}}`
(https://platform.openai.com/docs/guides/batch). Everything but the body has a default, and a short
line has `prompt` or `input` in place of the body.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any, BinaryIO

from oaibg.contract.errors import UsageError
from oaibg.request import json_files
from oaibg.request.job_records import JobRecord, checked_id
from oaibg.request.json_files import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

URL = "/v1/responses"

_KEYS = ("custom_id", "method", "url", "body", "prompt", "input")
_SHOWN = 1 << 16
"""Bytes of an array of jobs in which its first job is looked for."""
_CHAT = (
    'this is chat format (`messages`); in Responses format, the body has `input`: {"body": '
    '{"input": [{"role": "user", "content": "Hello"}]}}'
)


class JobLines:
    """The lines of a file that are not blank; see `JobRecords`."""

    unit = "line"
    hint = (
        'A jobs file has one JSON object per line, such as {"custom_id": "1", "body": {"input": '
        '"Hello"}} or {"prompt": "Hello"}; or it is a .csv or .tsv table with the column prompt.'
    )
    columns: Sequence[str] = ()

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def __iter__(self) -> Iterator[JobRecord]:
        end, is_first = 0, True
        self._file.seek(0)
        lines = iter(lambda: self._file.readline(json_files.INPUT_BYTES_MAX), b"")
        for number, raw in enumerate(lines, 1):
            offset, end = end, end + len(raw)
            if not (text := raw.removeprefix(BOM_UTF8).strip()):
                continue
            if is_first:
                self._check_format(text)
                is_first = False
            yield JobRecord(number, number, offset, raw)

    def place(self, number: int, line: int) -> str:
        """Return the place of a line, for messages."""
        del line  # the same
        return f"line {number}"

    def job(self, number: int, raw: bytes) -> tuple[str, dict[str, Any]]:
        """Return the custom_id and the body of a line; a `ValueError` says why it is invalid."""
        line = json_files.parse_json(json_files.decode(raw), one_line=True)
        if not isinstance(line, dict):
            raise ValueError(f"expected a JSON object, found {kind_of(line)}")
        if "messages" in line:
            raise ValueError(_CHAT)
        if unknown := [key for key in line if key not in _KEYS]:
            allowed = f"{', '.join(_KEYS[:-1])} and {_KEYS[-1]}"
            raise ValueError(
                f"unknown key {unknown[0]!r}; a line can have {allowed}, and fields of the request "
                "belong in `body`"
            )
        if line.get("method", "POST") != "POST":
            raise ValueError(f'method must be "POST", not {line["method"]!r}')
        body, url = _body(line), line.get("url", URL)
        if url != URL:
            raise ValueError(f'url must be "{URL}", not {url!r}')
        return checked_id(line.get("custom_id", str(number))), body

    def cells(self, raw: bytes) -> list[str]:
        """Return an empty list: lines have no columns."""
        del raw
        return []

    def _check_format(self, text: bytes) -> None:
        """Raise `UsageError` if the file's first line belongs to another format."""
        if text.startswith(b"["):
            raise UsageError(
                f"{self._path}: the file is a JSON array; a jobs file has one job per line.",
                hint="Write each element of the array on a line of its own, without the brackets "
                f"and the commas between elements. {self._first_element()}".strip(),
            )
        for delimiter, extension in ((b",", ".csv"), (b";", ".csv"), (b"\t", ".tsv")):
            if b"prompt" in [cell.strip(b' "').lower() for cell in text.split(delimiter)]:
                raise UsageError(
                    f"{self._path}: the file looks like a table with the column `prompt`, but its "
                    "name is not that of a table.",
                    hint=f"Rename the file so that its name ends in {extension}.",
                )

    def _first_element(self) -> str:
        self._file.seek(0)
        text = self._file.read(_SHOWN).decode("utf-8-sig", "replace")
        try:
            first, _ = json.JSONDecoder().raw_decode(text.partition("[")[2].lstrip())
            shown = json.dumps(first, ensure_ascii=False) if isinstance(first, dict) else ""
        except (ValueError, RecursionError):
            return ""
        return f"The first line is then: {shown}" if 0 < len(shown) <= 500 else ""


def _body(line: dict[str, Any]) -> dict[str, Any]:
    given = [key for key in ("body", "prompt", "input") if key in line]
    if len(given) != 1:
        found = "body is missing" if not given else f"found both {given[0]} and {given[1]}"
        raise ValueError(f"{found}; a line has one of body, prompt and input")
    (key,) = given
    value = line[key]
    if key == "prompt":
        if not isinstance(value, str):
            raise ValueError(f"prompt: expected a string, found {kind_of(value)}")
        if not value.strip():
            raise ValueError("the prompt is empty")
        return {"input": value}
    if key == "input":
        if not isinstance(value, str | list):
            found = kind_of(value)
            raise ValueError(f"input: expected a string or an array of input items, found {found}")
        if not value:
            raise ValueError("the input is empty")
        return {"input": value}
    if not isinstance(value, dict):
        raise ValueError(f"body: expected an object, found {kind_of(value)}")
    if value.get("input", value.get("prompt")) in (None, "", []):
        raise ValueError(_CHAT if "messages" in value else "body: input is missing or empty")
    return value
