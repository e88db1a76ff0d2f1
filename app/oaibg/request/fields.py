"""The fields of a request that come from files and options, validated."""

from __future__ import annotations

from typing import Any, TypeVar

from oaibg.contract.errors import UsageError
from oaibg.request.json_files import kind_of, name_of, read_json

ROLES = ("system", "developer", "user", "assistant")

_EXAMPLE = '[{"role": "user", "content": "Hello"}]'
_T = TypeVar("_T")


def read_messages(path: str) -> list[Any]:
    """The array of messages in a JSON file, unchanged."""
    value, name = read_json(path), name_of(path)
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        raise UsageError(
            f"{name}: an object with a `messages` key; give the array itself, as {_EXAMPLE}."
        )
    messages = _checked(list, value, name, f"an array of messages, as {_EXAMPLE}")
    if not messages:
        raise UsageError(f"{name}: the array of messages is empty.")
    for index, message in enumerate(messages):
        _check_message(message, f"{name}: message {index}")
    return messages


def read_input(path: str) -> str | list[Any]:
    """The whole `input` field of a request: a string, or an array of any input items."""
    value, name = read_json(path), name_of(path)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value:
        for index, item in enumerate(value):
            _checked(dict, item, f"{name}: item {index}")
        return value
    raise UsageError(
        f"{name}: expected a text or an array of input items, found {kind_of(value)}"
        f"{'' if value else ', empty'}."
    )


def read_tools(path: str) -> list[Any]:
    """The `tools` array of a request."""
    name = name_of(path)
    tools = _checked(list, read_json(path), name, 'an array of tools, as [{"type": "web_search"}]')
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise UsageError(f"{name}: tool {index}: expected an object with a `type`.")
    return tools


def read_json_schema(path: str) -> dict[str, Any]:
    """The `text.format` of structured output, from a bare schema or `{name, schema, strict}`.

    A bare schema takes its name from its title, and is strict.
    """
    value = read_object(path, "a JSON Schema")
    if isinstance(value.get("schema"), dict):
        if not isinstance(value.get("name"), str):
            raise UsageError(
                f'{name_of(path)}: `schema` needs a `name` beside it, as "name": "answer".'
            )
        return {"type": "json_schema", **value}
    title = value.get("title")
    words = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in str(title))
    return {
        "type": "json_schema",
        "name": words[:64] if isinstance(title, str) and words else "answer",
        "schema": value,
        "strict": True,
    }


def read_object(path: str, expected: str = "an object") -> dict[str, Any]:
    """The JSON object in a file."""
    return _checked(dict, read_json(path), name_of(path), expected)


def parse_metadata(pairs: list[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as the request's `metadata`, within the API's limits."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--metadata {pair!r}: expected KEY=VALUE.")
        if key in metadata:
            raise UsageError(f"--metadata {key!r}: given twice.")
        if len(key) > 64 or len(value) > 512:
            raise UsageError(
                f"--metadata {key[:80]!r}: a key may have 64 characters and a value 512."
            )
        metadata[key] = value
    if len(metadata) > 16:
        raise UsageError(f"--metadata: {len(metadata)} pairs, the API takes 16.")
    return metadata


def _check_message(message: object, place: str) -> None:
    message = _checked(dict, message, place)
    kind = message.get("type", "message")
    if kind != "message":
        raise UsageError(
            f"{place}: type {kind!r} is no message; use --input-json-file for other input items."
        )
    role = message.get("role")
    if role not in ROLES:
        found = "no role" if role is None else f"role {role!r}"
        raise UsageError(f"{place}: {found}; expected one of {', '.join(ROLES)}.")
    content = message.get("content")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        found = "no content" if "content" not in message else f"content is {kind_of(content)}"
        raise UsageError(f"{place}: {found}; expected a text or an array of parts.")
    if not content:
        raise UsageError(f"{place}: content is an empty array.")
    for index, part in enumerate(content):
        part_place = f"{place}, content part {index}"
        if not isinstance(_checked(dict, part, part_place).get("type"), str):
            raise UsageError(
                f'{part_place}: no type; a text is {{"type": "input_text", "text": …}}.'
            )


def _checked(kind: type[_T], value: object, place: str, expected: str = "an object") -> _T:
    """The value, if it is of the expected kind."""
    if not isinstance(value, kind):
        raise UsageError(f"{place}: expected {expected}, found {kind_of(value)}.")
    return value
