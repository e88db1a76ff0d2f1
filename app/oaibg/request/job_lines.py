"""JSON Lines as jobs: the Batch API's request format, and a short one.

A line of the Batch API is `{"custom_id": …, "method": "POST", "url": "/v1/responses", "body": {…}}`
(https://platform.openai.com/docs/guides/batch). Everything but the body has a default, and a short
line has `prompt` or `input` in place of the body.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any, BinaryIO

from oaibg.contract.errors import UsageError
from oaibg.request import foreign, json_files
from oaibg.request.checks import check_body
from oaibg.request.encodings import decode_part
from oaibg.request.job_records import JobRecord, checked_id
from oaibg.request.json_files import kind_of
from oaibg.request.mend import Mend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

URL = "/v1/responses"

_KEYS = ("custom_id", "method", "url", "body", "prompt", "input")
_SHOWN = 1 << 16
"""Bytes of an array of jobs in which its first job is looked for."""


class JobLines:
    """The lines of a file that are not blank; see `JobRecords`."""

    unit = "line"
    hint = example = (
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
        line = json_files.parse_json(decode_part(raw, self._path), one_line=True)
        if not isinstance(line, dict):
            raise ValueError(f"expected a JSON object, found {kind_of(line)}")
        rewritten = foreign.line_of(line)
        if rewritten != line:
            found = "this is chat format (`messages`)"
            if "messages" not in line and "messages" not in (line.get("body") or {}):
                found = "the fields of a request belong in `body`"
            hint = f"{self.place(number, number).capitalize()} in Responses format: "
            raise Mend(found, hint + foreign.shown(rewritten))
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
        name = shlex.quote(self._path)
        new_name = shlex.quote(f"{os.path.splitext(self._path)[0]}.lines.jsonl")  # noqa: PTH122
        if text.startswith(b"["):
            first = self._first_element()
            if isinstance(first, dict) and "role" in first:
                raise UsageError(
                    f"{self._path}: the file is a JSON array of messages, not a jobs file.",
                    hint="To submit one job with these messages, use --messages-json-file.",
                )
            if isinstance(first, str):
                raise UsageError(
                    f"{self._path}: the file is a JSON array of strings; a jobs file has one job "
                    "per line.",
                    hint="If each string is a prompt, run: "
                    f"jq -c '.[] | {{prompt: .}}' {name} > {new_name}",
                )
            shown = foreign.shown(foreign.line_of(first)) if isinstance(first, dict) else ""
            raise UsageError(
                f"{self._path}: the file is a JSON array; a jobs file has one job per line.",
                hint="Write each element of the array on a line of its own, without the brackets "
                f"and the commas between elements: jq -c '.[]' {name} > {new_name}"
                + (f". The first line is then: {shown}" if shown else ""),
            )
        if text == b"{":
            raise UsageError(
                f"{self._path}: an object extends over several lines; a jobs file has one job per "
                "line.",
                hint=f"Write each object on one line: jq -c . {name} > {new_name}",
            )
        json_files.check_pasted(text.decode(errors="replace"))
        is_string = _is_json_string(text)
        for delimiter, extension in ((b",", ".csv"), (b";", ".csv"), (b"\t", ".tsv")):
            cells = [cell.strip(b' "').lower() for cell in text.split(delimiter)]
            if b"prompt" in cells:
                raise UsageError(
                    f"{self._path}: the file looks like a table with the column `prompt`, but its "
                    "name is not that of a table.",
                    hint=f"Rename the file so that its name ends in {extension}.",
                )
            is_header = all(re.fullmatch(rb"[\w -]{1,40}", cell) for cell in cells)
            if len(cells) > 1 and is_header and not is_string:
                raise UsageError(
                    f"{self._path}: the file looks like a table, but its name does not end in "
                    f"{extension}, and no column is named prompt.",
                    hint="Rename the column with the prompts to prompt, and the file so that its "
                    f"name ends in {extension}.",
                )
        if not text.startswith(b"{"):
            raw = "" if is_string else "R"
            raise UsageError(
                f"{self._path}: the first line is not a JSON object.",
                hint=f"{self.hint} If each line is a prompt, run: "
                f"jq -c{raw} '{{prompt: .}}' {name} > {new_name}",
            )

    def _first_element(self) -> Any:
        """Return the first element of an array; None if it can't be read."""
        self._file.seek(0)
        text = self._file.read(_SHOWN).decode("utf-8-sig", "replace")
        try:
            return json.JSONDecoder().raw_decode(text.partition("[")[2].lstrip())[0]
        except (ValueError, RecursionError):
            return None


def _is_json_string(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), str)
    except ValueError:
        return False


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
        value = {"input": value}
    if not isinstance(value, dict):
        raise ValueError(f"body: expected an object, found {kind_of(value)}")
    check_body(value)
    return value
