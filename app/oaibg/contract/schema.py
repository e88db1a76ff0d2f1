"""The JSON Schema of the event lines, built from the event classes on demand."""

from __future__ import annotations

from inspect import getdoc
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from oaibg.base.record import Record
from oaibg.contract import codes, events

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMMON = {
    "ts": {
        "type": "string",
        "format": "date-time",
        "description": "when the line was written: UTC, ISO 8601, milliseconds",
    },
    "v": {"const": events.V},
}
_SEVERAL = {
    "custom_id": {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "in a run over several jobs: the job's name; null if it has none",
    }
}
_CODES: dict[type[Record], Iterable[str]] = {
    events.Warning: codes.WARNINGS,
    events.Error: codes.ERRORS,
    events.CallError: codes.FAILURES,
}
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Any: {},
    NoneType: {"type": "null"},
}


def event_schema() -> dict[str, Any]:
    """Return a JSON Schema (draft 2020-12) that every line on stdout satisfies.

    Keys may be added to an event while `v` is 1, so additional properties are allowed.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oaibg event line",
        "type": "object",
        "oneOf": [
            _object(event, {**_COMMON, "event": {"const": name}}, _SEVERAL)
            for name, event in events.EVENTS.items()
        ],
    }


def _object(
    record: type[Record], first: dict[str, Any], optional: dict[str, Any]
) -> dict[str, Any]:
    hints = get_type_hints(record)
    required = first | {name: _of(hints[name]) for name in record.fields}
    if codes := _CODES.get(record):
        required["code"] = required["code"] | {"examples": list(codes)}
    return {
        "description": getdoc(record) or "",  # PYTHONOPTIMIZE=2 removes it
        "type": "object",
        "properties": optional | required,
        "required": list(required),
    }


def _of(hint: Any) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Literal:
        return {"const": args[0]} if len(args) == 1 else {"enum": list(args)}
    if origin in (Union, UnionType):
        return {"anyOf": [_of(arg) for arg in args]}
    if origin is list:
        return {"type": "array", "items": _of(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(args[1]) or True}
    if isinstance(hint, type) and issubclass(hint, Record):
        return _object(hint, {}, {})
    raise TypeError(f"no JSON Schema for {hint!r}")
