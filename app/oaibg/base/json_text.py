"""JSON that others wrote, read safely, and JSON lines of our own."""

from __future__ import annotations

import json
import math
from typing import Any

from oaibg.base.record import Record

DEPTH = 200
"""Levels of nesting that are read: some readers of the lines would accept no more."""


def read_json(raw: bytes) -> Any:
    """The value of a JSON text that a server wrote, in UTF-8, UTF-16 or UTF-32.

    Numbers that JSON or Python can't represent become null: NaN, Infinity, 1e999, and integers of
    thousands of digits. Raises `ValueError` if it is not JSON, or is nested deeper than `DEPTH`.
    """
    try:
        value = json.loads(raw, parse_constant=lambda _: None, parse_float=_float, parse_int=_int)
        if not (isinstance(value, list | dict) and is_deep(value)):
            return value
    except RecursionError:
        pass
    raise ValueError(f"nested deeper than {DEPTH} levels")


def is_deep(value: Any) -> bool:
    """Whether a JSON array or object is nested deeper than `DEPTH` levels."""
    level = [value]
    for _ in range(DEPTH):
        inner = (entry.values() if isinstance(entry, dict) else entry for entry in level)
        level = [entry for entries in inner for entry in entries if isinstance(entry, list | dict)]
        if not level:
            return False
    return True


def value_at(data: object, *path: str) -> Any:
    """The value at a path of keys in JSON objects; None if there is none."""
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def objects(value: object) -> list[dict[str, Any]]:
    """The objects in a JSON array; an empty list if it is not an array."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def json_line(value: dict[str, Any]) -> bytes:
    """A compact line of ASCII JSON."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=Record.values)
    return text.encode() + b"\n"


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _int(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:  # more digits than Python reads
        return None
