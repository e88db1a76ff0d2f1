"""Reads and validates the fields of a request that come from files and options."""

from __future__ import annotations

from typing import Any, TypeVar

from oaibg.contract.errors import UsageError
from oaibg.request.json_files import json_in, kind_of, name_of, reading

ROLES = ("system", "developer", "user", "assistant")

_EXAMPLE = '[{"role": "user", "content": "Hello"}]'
_OBJECT = 'expected a JSON object such as {"service_tier": "flex"}'
_T = TypeVar("_T")


def read_messages(path: str) -> list[Any]:
    """Return the array of messages in a JSON file, unchanged."""
    with json_in(path) as value:
        if isinstance(value, dict) and isinstance(value.get("messages"), list):
            found = "found an object with the key `messages`; give only the array"
            raise ValueError(f"{found}, such as {_EXAMPLE}")
        messages = _checked(list, value, f"expected an array of messages such as {_EXAMPLE}")
        if not messages:
            raise ValueError("the array of messages is empty")
    for index, message in enumerate(messages):
        place = f"{name_of(path)}: messages[{index}]"
        with reading(place):
            parts = _parts(message)
        for number, part in enumerate(parts):
            with reading(f"{place}.content[{number}]"):
                if not isinstance(_checked(dict, part).get("type"), str):
                    raise ValueError(
                        '`type` is missing; a text part is {"type": "input_text", "text": …}'
                    )
    return messages


def read_input(path: str) -> str | list[Any]:
    """Return the whole `input` field of a request: a string, or an array of any input items."""
    with json_in(path) as value:
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value:
            for index, item in enumerate(value):
                _checked(dict, item, f"input[{index}]: expected an object")
            return value
        expected = "expected a non-empty string or array of input items"
        found = kind_of(value)
        if isinstance(value, str | list):  # one that is not empty was returned above
            found = f"an empty {found.split()[-1]}"
        raise ValueError(f"{expected}, found {found}")


def read_tools(path: str) -> list[Any]:
    """Return the `tools` array of a request."""
    with json_in(path) as value:
        tools = _checked(list, value, 'expected an array of tools such as [{"type": "web_search"}]')
        for index, tool in enumerate(tools):
            if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
                raise ValueError(f"tools[{index}]: expected an object with a `type`")
    return tools


def read_json_schema(path: str) -> dict[str, Any]:
    """Return the `text.format` of structured output for a schema or `{name, schema, strict}`.

    A bare schema takes its name from its title, and is strict.
    """
    value = read_object(path, "expected a JSON Schema, which is an object")
    if isinstance(value.get("schema"), dict):
        if not isinstance(value.get("name"), str):
            message = 'add a `name` next to `schema`, such as "name": "answer"'
            raise UsageError(f"{name_of(path)}: {message}.")
        return {"type": "json_schema", **value}
    title = value.get("title")
    words = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in str(title))
    name = words[:64] if isinstance(title, str) and words else "answer"
    return {"type": "json_schema", "name": name, "schema": value, "strict": True}


def read_object(path: str, expected: str = _OBJECT) -> dict[str, Any]:
    """Return the JSON object in a file."""
    with json_in(path) as value:
        return _checked(dict, value, expected)


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


def _parts(message: object) -> list[Any]:
    """Return the parts of a message's content; none if it is a string."""
    message = _checked(dict, message)
    kind = message.get("type", "message")
    if kind != "message":
        use = "use --input-json-file for other input items"
        raise ValueError(f"type {kind!r} is not a message; {use}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        found = "no `role`" if role is None else f"unknown role {role!r}"
        raise ValueError(f"{found}; expected one of {', '.join(ROLES)}")
    if not isinstance(content, str | list):
        found = "no `content`" if "content" not in message else f"content is {kind_of(content)}"
        raise ValueError(f"{found}; expected a string or an array of content parts")
    if content == []:
        raise ValueError("content is an empty array")
    return [] if isinstance(content, str) else content


def _checked(kind: type[_T], value: object, expected: str = "expected an object") -> _T:
    if not isinstance(value, kind):
        raise ValueError(f"{expected}, found {kind_of(value)}")
    return value
