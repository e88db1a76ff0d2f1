"""Encodes and decodes JSON and server-sent events as the API does."""

from __future__ import annotations

import json
from typing import Any, NoReturn

_TO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(value: object) -> bytes:
    """Encode JSON as UTF-8, or with escapes if a string contains lone surrogates."""
    try:
        return _TO_JSON(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def to_sse(event: dict[str, Any]) -> bytes:
    """Encode one stream event."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), to_json(event))


def from_json(text: str | bytes) -> Any:
    """Decode JSON; raise `ValueError` if it is invalid, also for NaN, which Python accepts."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
