"""Reads input files as text or strict JSON.

Errors are `UsageError`s that name the file.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from oaibg.base.json_text import DEPTH, is_deep
from oaibg.contract.errors import UsageError
from oaibg.request import to_end
from oaibg.request.encodings import decode
from oaibg.request.mend import Mend

if TYPE_CHECKING:
    from collections.abc import Iterator

INPUT_BYTES_MAX = 256 << 20
"""Maximum size of an input file; the API accepts far less."""
_PASTED = (
    (r"\$?\s*curl\s", "this is a curl command", "Write only the JSON after -d into the file."),
    (r"```", "this is Markdown", "Write only the JSON between the lines with ``` into the file."),
)
"""How texts begin that are given in place of JSON, what they are, and what to do."""
_PROSE = r'(?!true|false|null|NaN|Infinity)[^\s{}\[\]"\d+,:-]'
"""How a text begins that is not meant as JSON."""


@contextmanager
def json_in(path: str, deadline: float = math.inf) -> Iterator[Any]:
    """Yield the JSON value of a file (`-` is stdin); a `ValueError` in the block names the file."""
    text = read_text(path, deadline)
    with reading(name_of(path)):
        if not text.strip():
            raise ValueError("the file is empty")
        try:
            value = parse_json(text)
        except ValueError as error:
            check_pasted(text)
            if re.match(_PROSE, text.lstrip()):
                hint = "The file must contain JSON. For the text of a prompt, use --prompt-file."
                raise Mend("this is not JSON", hint) from error
            raise
        yield value


def check_pasted(text: str) -> None:
    """Raise `Mend` for a curl command or Markdown in place of JSON."""
    for beginning, found, hint in _PASTED:
        if re.match(beginning, text.lstrip()):
            raise Mend(f"{found}, but JSON is expected", hint)


def parse_json(text: str, *, one_line: bool = False) -> Any:
    """Return the JSON value of a text.

    Raises `ValueError`, also for what would be lost: NaN, Infinity, and a key that an object
    contains twice. Syntax errors have the line and column, or the column if the text is `one_line`.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        row = "" if one_line else f"line {error.lineno}, "
        raise ValueError(f"invalid JSON at {row}column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if is_deep(value):
        raise ValueError(f"nested too deeply; the limit is {DEPTH} levels")
    return value


def read_text(path: str, deadline: float = math.inf) -> str:
    """Return the text of a file (`-` is stdin); see `to_end.read` for the `deadline`."""
    name = name_of(path)
    if "\0" in path:
        raise UsageError(f"{name!r}: not a valid path (embedded null byte).")
    with reading(name):
        raw = to_end.read(path, INPUT_BYTES_MAX + 1, deadline)
        if len(raw) <= INPUT_BYTES_MAX:
            return decode(raw, path)
    raise UsageError(f"{name}: larger than the limit of {INPUT_BYTES_MAX >> 20} MiB.")


def open_regular(path: str, refusal: str) -> BinaryIO:
    """Open a regular file; raises `UsageError(refusal)` at once for a pipe or a device."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UsageError(refusal)
    return file


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn an `OSError` or `ValueError` into a `UsageError` that begins with this name."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else error
        raise UsageError(f"{name}: {reason}.", hint=getattr(error, "hint", None)) from error


def name_of(path: str) -> str:
    """Return the name of a file in messages."""
    return "stdin" if path == "-" else path


def kind_of(value: object) -> str:
    """Return the kind of a JSON value, with its article."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not valid JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object contains the key {twice!r} twice")
    return found
