"""Files that the user names, read as text or JSON, strictly."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from oaibg.base.json_text import DEPTH, is_deep
from oaibg.contract.errors import UsageError

INPUT_BYTES_MAX = 256 << 20
"""What one input file may have; many times what the API takes."""


def read_json(path: str) -> Any:
    """The JSON value of a file, or of stdin for `-`.

    Strict where silence would lose something: no NaN or Infinity, and no key twice in an object.
    """
    text, name = read_text(path), name_of(path)
    if not text.strip():
        raise UsageError(f"{name}: the file is empty.")
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}.") from error


def parse_json(text: str, *, one_line: bool = False) -> Any:
    """The JSON value of a text, as strictly as `read_json`.

    Args:
        text: the JSON.
        one_line: whether it is a line of a file, so that its own lines are not told.

    Raises:
        ValueError: its message says what is wrong, and where.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        row = "" if one_line else f"line {error.lineno}, "
        raise ValueError(f"{row}column {error.colno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if isinstance(value, list | dict) and is_deep(value):
        raise ValueError(f"nested too deeply; {DEPTH} levels are allowed")
    return value


def read_text(path: str) -> str:
    """The text of a file, or of stdin for `-`; a byte order mark is not part of it.

    Raises:
        UsageError: it can't be read, is too large, or is not UTF-8.
    """
    name = name_of(path)
    try:
        if path == "-":
            if sys.stdin is None:
                raise UsageError("stdin is closed; there is nothing to read.")
            raw = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
        else:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib would only wrap it
                raw = file.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{name}: {os.strerror(error.errno or 0)}.") from error
    except ValueError as error:
        raise UsageError(f"{name!r}: no valid path ({error}).") from error
    if len(raw) > INPUT_BYTES_MAX:
        raise UsageError(f"{name}: larger than {INPUT_BYTES_MAX >> 20} MiB, the most that is read.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: byte {error.start}: not UTF-8 ({error.reason}).") from error


def name_of(path: str) -> str:
    """What messages call a file."""
    return "stdin" if path == "-" else path


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "an array", str: "a text", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found
