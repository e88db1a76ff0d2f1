"""Generates a minimal JSON value that matches a JSON Schema for structured outputs."""

from __future__ import annotations

from typing import Any

_PLAIN: dict[str, object] = {"number": 0, "integer": 0, "boolean": False, "null": None}


def sample(schema: object) -> object:
    """Return a minimal value for `schema`: only required keys, and the shortest valid arrays.

    Supports `type` (a name or a list), `enum`, `const`, `anyOf`, `oneOf`, `allOf` (only its first
    branch), `$ref` within the document, and lower bounds. Anything else becomes `None`.
    An endless schema (with a required reference to itself) is cut off with `None`.
    Raises `ValueError` if the schema is malformed or nested too deeply.
    """
    try:
        return _sample(schema, schema, frozenset())
    except (TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ValueError(f"not a usable JSON Schema: {error}") from error


def _sample(schema: object, root: object, open_references: frozenset[str]) -> object:
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return schema["const"]
    if enum := schema.get("enum"):
        return enum[0]
    if isinstance(reference := schema.get("$ref"), str):
        if reference in open_references:
            return None
        return _sample(_resolve(reference, root), root, open_references | {reference})
    for union in ("anyOf", "oneOf", "allOf"):
        if branches := schema.get(union):
            return _sample(_shallowest(branches), root, open_references)
    return _of_type(schema, root, open_references)


def _of_type(schema: dict[str, Any], root: object, open_references: frozenset[str]) -> object:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = "null" if "null" in kind else next(iter(kind), None)
    if kind == "object" or (kind is None and "properties" in schema):
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        return {key: _sample(properties.get(key), root, open_references) for key in required}
    if kind == "array":
        least = int(schema.get("minItems") or 0)
        return [_sample(schema.get("items"), root, open_references) for _ in range(least)]
    if kind == "string":
        return "sandbox".ljust(int(schema.get("minLength") or 0), ".")
    if kind in ("number", "integer"):
        return _number(schema)
    return _PLAIN.get(str(kind))


def _number(schema: dict[str, Any]) -> object:
    if "minimum" in schema:
        return schema["minimum"]
    if "exclusiveMinimum" in schema:
        return schema["exclusiveMinimum"] + 1
    highest = schema.get("maximum", schema.get("exclusiveMaximum", 1) - 1)
    return min(0, highest)


def _shallowest(branches: list[object]) -> object:
    """Prefer `null`, then a branch without a `$ref`, so that recursive schemas end."""
    plain = [one for one in branches if isinstance(one, dict) and "$ref" not in one]
    nulls = [one for one in plain if one.get("type") == "null"]
    return (nulls or plain or branches)[0]


def _resolve(reference: str, root: object) -> object:
    place = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if key:
            place = place.get(key) if isinstance(place, dict) else None
    return place
