"""Files that the user names, read as text or JSON, strictly.

Errors are `UsageError`s that name the file.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from oaibg.base.json_text import DEPTH, is_deep
from oaibg.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

INPUT_BYTES_MAX = 256 << 20
"""The most that is read of one input file; many times what the API takes."""


@contextmanager
def json_in(path: str) -> Iterator[Any]:
    """The JSON value of a file, or of stdin for `-`; a `ValueError` in the block names the file."""
    text = read_text(path)
    with reading(name_of(path)):
        if not text.strip():
            raise ValueError("the file is empty")
        yield parse_json(text)


def parse_json(text: str, *, one_line: bool = False) -> Any:
    """The JSON value of a text.

    Whatever would get lost is an error: NaN, Infinity, and a key that an object has twice. A
    `ValueError` has the line and column; only the column if the text is `one_line` of a file.
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
    """The text of a file, or of stdin for `-`."""
    name = name_of(path)
    if "\0" in path:
        raise UsageError(f"{name!r}: no valid path (embedded null byte).")
    with reading(name):
        if path != "-":
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib would only wrap it
                raw = file.read(INPUT_BYTES_MAX + 1)
        elif sys.stdin is None:
            raise UsageError("stdin is closed; there is nothing to read.")
        else:
            raw = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
        if len(raw) <= INPUT_BYTES_MAX:
            return decode(raw)
    raise UsageError(f"{name}: larger than {INPUT_BYTES_MAX >> 20} MiB, the most that is read.")


def decode(raw: bytes) -> str:
    """Text from UTF-8, without a byte order mark; a `ValueError` names the byte that is wrong."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start}: not UTF-8 ({error.reason})") from error


def open_regular(path: str, refusal: str) -> BinaryIO:
    """Open a regular file; for a pipe or a device, raise a `UsageError` without waiting for it."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UsageError(refusal)
    return file


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise what is wrong with a file, its path or its content as a `UsageError` that names it."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else error
        raise UsageError(f"{name}: {reason}.") from error


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
