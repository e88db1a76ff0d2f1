"""JSON that is nested more deeply than every reader on its way can be trusted with."""

from __future__ import annotations

import json
import re
from typing import Any

DEPTH = 200
"""Levels of nesting that are read."""


def is_deep(value: Any) -> bool:
    """Whether a JSON value is nested deeper than `DEPTH` levels."""
    level = [value]
    for _ in range(DEPTH):
        inner = (entry.values() if isinstance(entry, dict) else entry for entry in level)
        level = [entry for entries in inner for entry in entries if isinstance(entry, list | dict)]
        if not level:
            return False
    return True


def pruned(raw: bytes) -> bytes:
    """A JSON text with null for what is nested deeper than `DEPTH` levels."""
    kept: list[bytes] = []
    depth, start = 0, 0
    for token in _TOKENS.finditer(raw):
        char = token[0][:1]
        if char in b"[{":
            depth += 1
            if depth == DEPTH + 1:
                kept += raw[start : token.start()], b"null"
        elif char in b"]}":
            if depth == DEPTH + 1:
                start = token.end()
            depth -= 1
    return b"".join([*kept, raw[start:]])


_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)|[\[\]{}]', re.DOTALL)
"""Brackets, and the texts in which they are none; one that never ends is one to the end."""


def json_line(value: dict[str, Any]) -> bytes:
    """A compact line of ASCII JSON."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=_values)
    return text.encode() + b"\n"


def _values(record: Any) -> dict[str, Any]:
    values: dict[str, Any] = record.values()
    return values


def value_at(data: object, *path: str) -> Any:
    """What stands at a path of keys in JSON objects; None where there is nothing."""
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a JSON array; nothing where there is none."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
