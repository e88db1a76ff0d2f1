"""Safe reading of a server's JSON, and writing of JSON lines."""

from __future__ import annotations

import json
import math
from typing import Any

from oaibg.base.record import Record

DEPTH = 200
"""Maximum nesting of JSON; some consumers of our lines may not read deeper JSON."""


def read_json(raw: bytes) -> Any:
    """Parse a server's JSON in UTF-8, UTF-16 or UTF-32; invalid bytes become U+FFFD.

    Strings may contain unescaped control characters, which JSON forbids.
    Numbers that JSON or Python can't represent become None: NaN, Infinity, 1e999, and integers of
    thousands of digits. Raises `ValueError` for invalid JSON, or nesting deeper than `DEPTH`.
    """
    text = _decoded(raw)[0]
    try:
        value = _LENIENT.decode(text)
        if not (text.count("{") + text.count("[") > DEPTH and is_deep(value)):
            return value
    except RecursionError:
        pass
    raise ValueError(f"nested deeper than {DEPTH} levels")


def is_altered(raw: bytes) -> bool:
    """Whether `read_json` replaces bytes that are invalid in the encoding of the JSON."""
    return _decoded(raw)[1]


def is_deep(value: Any) -> bool:
    """Whether JSON is nested deeper than `DEPTH` levels."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(DEPTH):
        inner = (entry.values() if isinstance(entry, dict) else entry for entry in level)
        level = [entry for entries in inner for entry in entries if isinstance(entry, list | dict)]
        if not level:
            return False
    return True


def value_at(data: object, *path: str) -> Any:
    """Return the value at a path of keys in nested JSON objects, or None."""
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def string(value: object) -> str | None:
    """Return a value if it is a string, else None."""
    return value if isinstance(value, str) else None


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in a JSON array; an empty list for any other value."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def json_line(value: dict[str, Any]) -> bytes:
    """Return a compact line of ASCII JSON."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=Record.values)
    return text.encode() + b"\n"


def _decoded(raw: bytes) -> tuple[str, bool]:
    encoding = json.detect_encoding(raw)
    try:
        return raw.decode(encoding, "surrogatepass"), False
    except UnicodeDecodeError:
        return raw.decode(encoding, "replace"), True


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _int(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:  # more digits than Python parses
        return None


_LENIENT = json.JSONDecoder(
    strict=False, parse_constant=lambda _: None, parse_float=_float, parse_int=_int
)
