"""Checks what the API would surely refuse: input items, tools, formats and bodies of requests.

Anything that the API might know is accepted, such as new types of items. Errors are `ValueError`s
with the place; input of chat completions is a `Mend`, whose hint is the place rewritten.
"""

from __future__ import annotations

from typing import Any, TypeVar

from oaibg.base.json_text import objects
from oaibg.request import foreign
from oaibg.request.json_files import kind_of
from oaibg.request.mend import Mend

ROLES = ("system", "developer", "user", "assistant")

_T = TypeVar("_T")
_REQUIRED = {
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "mcp_approval_response": ("approval_request_id", "approve"),
    "item_reference": ("id",),
}
"""What input items need, by their type. Servers differ in the types of IDs."""
_CHAT = "is in the format of chat completions"


def check_items(items: list[Any], place: str = "input") -> None:
    """Check the items of an `input`; `place` is the name of the array."""
    for index, item in enumerate(items):
        here = f"{place}[{index}]"
        _check_item(item, here)
        rewritten = foreign.items_of(item)
        if rewritten != [item]:
            texts = ", ".join(foreign.shown(one) for one in rewritten)
            raise Mend(
                f"{here}: this is not in the format of the Responses API",
                f"In Responses format (not that of chat completions), {here} is: {texts}",
            )


def check_complete(given: object) -> None:
    """Check that the items of an `input` have what their types need."""
    for index, item in enumerate(objects(given)):
        for key in _REQUIRED.get(str(item.get("type")), ()):
            if item.get(key) is None:
                raise ValueError(f"input[{index}]: no `{key}`, which a {item['type']} needs")


def check_tools(tools: list[Any], place: str = "tools") -> None:
    """Check the `tools` of a request."""
    for index, tool in enumerate(tools):
        here = f"{place}[{index}]"
        rewritten = foreign.tool_of(checked(dict, tool, f"{here}: expected an object"))
        if rewritten != tool:
            raise Mend(
                f"{here}: this tool does not have the format of the Responses API",
                f"In Responses format, {here} is: {foreign.shown(rewritten)}",
            )
        if not isinstance(tool.get("type"), str):
            raise ValueError(f"{here}: expected an object with a `type`")
        if tool["type"] == "function" and not isinstance(tool.get("name"), str):
            raise ValueError(f"{here}: a function needs a `name`")


def check_body(body: dict[str, Any]) -> None:
    """Check the fields of a request, or of a part of one."""
    field = foreign.foreign_field(body)
    if field == "messages":
        raise Mend(
            f"this {_CHAT} (`messages`)",
            f"In Responses format it is: {foreign.shown(foreign.body_of(body))}",
        )
    if field is not None:
        rewritten = foreign.shown(foreign.body_of({field: body[field]}))[1:-1]
        raise Mend(f"`{field}` {_CHAT}", f"In Responses format it is: {rewritten}")
    for key, check in (("input", check_items), ("tools", check_tools)):
        if isinstance(body.get(key), list):
            check(body[key])
    check_complete(body.get("input"))
    text = body.get("text")
    given = text.get("format") if isinstance(text, dict) else None
    if foreign.format_of(given) != given:
        rewritten = foreign.shown({"format": foreign.format_of(given)})
        raise Mend(f"`text.format` {_CHAT}", f'In Responses format it is: "text": {rewritten}')


def checked(kind: type[_T], value: object, expected: str = "expected an object") -> _T:
    """Return a value of this kind; `expected` begins the error for another one."""
    if not isinstance(value, kind):
        raise ValueError(f"{expected}, found {kind_of(value)}")
    return value


def _check_item(item: Any, place: str) -> None:
    kind = checked(dict, item, f"{place}: expected an object").get("type")
    if kind in (None, "message"):
        _check_message(item, place)
    elif not isinstance(kind, str) or not kind:
        raise ValueError(f'{place}: type is {kind!r}; expected a name such as "message"')


def _check_message(message: dict[str, Any], place: str) -> None:
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function") or foreign.items_of(message) != [message]:
        return  # `check_items` reports it
    if role not in ROLES:
        found = "no `role`" if role is None else f"unknown role {role!r}"
        raise ValueError(f"{place}: {found}; expected one of {', '.join(ROLES)}")
    if not isinstance(content, str | list):
        found = "no `content`" if "content" not in message else f"content is {kind_of(content)}"
        raise ValueError(f"{place}: {found}; expected a string or an array of content parts")
    if content == [] and role != "assistant":
        raise ValueError(f"{place}: content is an empty array")
    for index, part in enumerate(content if isinstance(content, list) else []):
        here = f"{place}.content[{index}]"
        if not isinstance(checked(dict, part, f"{here}: expected an object").get("type"), str):
            example = '{"type": "input_text", "text": …}'
            raise ValueError(f"{here}: `type` is missing; a text part is {example}")
        if part["type"] in ("input_text", "output_text") and not isinstance(part.get("text"), str):
            raise ValueError(f"{here}: an {part['type']} needs a `text`")
        if part["type"] == "input_image" and not (part.get("image_url") or part.get("file_id")):
            raise ValueError(f"{here}: an input_image needs an `image_url` or a `file_id`")
