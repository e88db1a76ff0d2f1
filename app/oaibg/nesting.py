"""JSON that is nested more deeply than every reader on its way can be trusted with."""

from __future__ import annotations

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
