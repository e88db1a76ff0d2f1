"""Reads and validates the fields of a request that come from files and options."""

from __future__ import annotations

import math
from typing import Any

from oaibg.contract.errors import UsageError
from oaibg.request import foreign
from oaibg.request.checks import check_body, check_items, check_tools, checked
from oaibg.request.json_files import json_in, kind_of
from oaibg.request.mend import Mend

_EXAMPLE = '[{"role": "user", "content": "Hello"}]'
_OBJECT = 'expected a JSON object such as {"service_tier": "flex"}'


def read_messages(path: str, deadline: float = math.inf) -> list[Any]:
    """Return the array of messages and other input items in a JSON file, unchanged.

    The readers raise `UsageError`; they read a pipe no longer than until the `deadline`.
    """
    with json_in(path, deadline) as value:
        _check_whole(value, "messages")
        items = checked(list, value, f"expected an array of messages such as {_EXAMPLE}")
        check_items(items, "messages")
    return items


def read_input(path: str, deadline: float = math.inf) -> str | list[Any]:
    """Return the whole `input` field of a request: a string, or an array of any input items."""
    with json_in(path, deadline) as value:
        _check_whole(value, "input")
        if isinstance(value, list):
            check_items(value)
            return value
        expected = "expected a non-empty string or array of input items"
        if isinstance(value, str) and value.strip():
            return value
        found = "an empty string" if isinstance(value, str) else kind_of(value)
        raise ValueError(f"{expected}, found {found}")


def read_tools(path: str, deadline: float = math.inf) -> list[Any]:
    """Return the `tools` array of a request."""
    with json_in(path, deadline) as value:
        if isinstance(value, dict):
            inner = value.get("tools")
            tools = inner if isinstance(inner, list) else [value]
            _raise_unless_array(value, [foreign.tool_of(tool) for tool in tools])
        tools = checked(list, value, 'expected an array of tools such as [{"type": "web_search"}]')
        check_tools(tools)
    return tools


def read_json_schema(path: str, deadline: float = math.inf) -> dict[str, Any]:
    """Return the `text.format` of structured output for a schema or `{name, schema, strict}`.

    A bare schema takes its name from its title, and is strict.
    """
    with json_in(path, deadline) as found:
        value = checked(dict, found, "expected a JSON Schema, which is an object")
        _check_schema(value)
        if isinstance(value.get("schema"), dict):
            if not isinstance(value.get("name"), str):
                raise ValueError('add a `name` next to `schema`, such as "name": "answer"')
            return {"type": "json_schema", **value}
    title = value.get("title")
    words = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in str(title))
    name = words[:64] if isinstance(title, str) and words else "answer"
    return {"type": "json_schema", "name": name, "schema": value, "strict": True}


def read_body(path: str, deadline: float = math.inf) -> dict[str, Any]:
    """Return the JSON object of fields of a request."""
    with json_in(path, deadline) as value:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            option = "--tools-json-file" if "role" not in value[0] else "--messages-json-file"
            raise Mend(f"{_OBJECT}, found an array", f"For an array, use {option}.")
        body = checked(dict, value, _OBJECT)
        check_body(body)
    return body


def parse_metadata(pairs: list[str]) -> dict[str, str]:
    """Return the `metadata` of a request from `KEY=VALUE` texts; checks the API's limits."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--metadata {pair!r}: expected KEY=VALUE.")
        if key in metadata:
            raise UsageError(f"--metadata {key!r}: the key occurs twice.")
        if len(key) > 64 or len(value) > 512:
            most = "a key can have at most 64 characters, a value at most 512"
            raise UsageError(f"--metadata {key[:80]!r}: {most}.")
        metadata[key] = value
    if len(metadata) > 16:
        raise UsageError(f"--metadata: found {len(metadata)} pairs; the API accepts at most 16.")
    return metadata


def _check_whole(value: object, key: str) -> None:
    """Raise `Mend` for a whole request, or a single message, in place of an array of messages."""
    if not isinstance(value, dict):
        return
    if isinstance(value.get("messages"), list):
        rewritten = foreign.body_of({"messages": value["messages"]})["input"]
        found = "an object with the key `messages`; give only the array"
    elif "input" in value and "role" not in value:
        raise Mend(
            "found a whole request, with the key `input`",
            "Use --body-json-file PATH for a whole request, without this option.",
        )
    elif "role" in value or value.get("type") in ("message", "function_call_output"):
        rewritten, found = foreign.items_of(value), "an object; give an array"
    else:
        return
    expected = f"expected an array of {key}" if key == "messages" else "expected an array of items"
    raise Mend(f"{expected}, found {found}", f"Write: {foreign.shown(rewritten)}")


def _raise_unless_array(value: dict[str, Any], tools: list[Any]) -> None:
    if "tools" in value or isinstance(tools[0].get("type"), str):
        raise Mend("expected an array of tools, found an object", f"Write: {foreign.shown(tools)}")


def _check_schema(value: dict[str, Any]) -> None:
    """Raise `Mend` for a format of a request, or a part of it, in place of a schema."""
    given = value
    for key in ("text", "format"):
        given = given[key] if isinstance(given.get(key), dict) and "type" not in given else given
    rewritten = foreign.format_of(given)
    if "schema" in rewritten and rewritten is not value:
        kept = {key: entry for key, entry in rewritten.items() if key != "type"}
        raise Mend(
            "expected a schema or {name, schema, strict}, found the `response_format` of chat "
            "completions"
            if given is value
            else "expected a schema or {name, schema, strict}, found a field of a request",
            f"Write: {foreign.shown(kept)}",
        )
    if rewritten.get("type") in ("json_object", "text"):
        body = foreign.shown({"text": {"format": {"type": rewritten["type"]}}})
        raise Mend("this is a format without a schema", f"Use --body-json-file with: {body}")
    kind = value.get("type")
    if "schema" not in value and kind != "object" and "$ref" not in value:
        found = "there is no `type`" if kind is None else f"its type is {kind!r}"
        raise ValueError(f'the schema of an answer must be of "type": "object", but {found}')
