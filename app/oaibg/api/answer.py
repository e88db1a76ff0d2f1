"""What the output of a response contains: the text, a refusal, and the calls that wait."""

from __future__ import annotations

import json
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from oaibg.base.json_text import objects, string, value_at

if TYPE_CHECKING:
    from collections.abc import Iterable

Reason = Literal["tool_calls", "refusal", "not_text", "empty"]
"""Why there is no text, or why the text is not the answer."""

COMMENTARY = "commentary"
"""The phase of a message that the model writes before its answer."""

APPROVAL = "mcp_approval_request"
"""The type of an output item that waits for an approval."""
TEXT_ITEMS = frozenset({"message", "reasoning"})
"""The types of output items that may hold a text, or nothing to show."""
_OUTPUT_TEXT = frozenset({"output_text", "text"})
"""The types of a part with text; only other servers send `text`."""
_TEXT_PARTS = _OUTPUT_TEXT | {"refusal"}
_CALLS = frozenset(
    f"{kind}_call"
    for kind in ("function", "custom_tool", "computer", "local_shell", "shell", "apply_patch")
)
"""The types of calls that only the user can answer, even if they lack a `call_id`."""
_RESULT_KEYS = {
    "mcp_approval_response": ("approval_request_id", "approve"),
    "apply_patch_call_output": ("call_id", "status"),
    "tool_search_output": ("call_id", "tools"),
}
_DETAILS = ("arguments", "input", "action", "actions", "operation")
"""The keys with what a call does; each type of call has one of them."""


def is_commentary(item: dict[str, Any]) -> bool:
    """Whether an output item is a message that is not part of the answer."""
    return item.get("type") == "message" and item.get("phase") == COMMENTARY


class Call(NamedTuple):
    """An item that waits for the user: a tool call without an output, or an MCP approval request.

    `id` is the `call_id` of the output to send, or the `approval_request_id` of the approval. It is
    None if the server sent no ID.
    """

    type: str
    id: str | None
    name: str | None
    details: str
    """The arguments as the model wrote them."""


class Answer:
    """The output of a response; `output` may have any form.

    The text and the refusal are those of the messages with the phase `final_answer` if there are
    any. Otherwise they are those of the messages without the phase `commentary`, or of all.
    """

    def __init__(self, output: object) -> None:
        self._items = objects(output)
        messages = self._messages = [one for one in self._items if one.get("type") == "message"]
        final = [one for one in messages if one.get("phase") == "final_answer"]
        others = [one for one in messages if not is_commentary(one)]
        self._parts = [part for one in final or others or messages for part in parts_of(one)]

    @cached_property
    def text(self) -> str:
        """The joined `output_text` parts."""
        return _joined(self._parts)

    @property
    def text_of_all(self) -> str:
        """The text of all messages, whatever their phase."""
        return _joined(part for one in self._messages for part in parts_of(one))

    @cached_property
    def refusal(self) -> str | None:
        """The joined `refusal` parts; None if the model did not refuse."""
        parts = [part for part in self._parts if part.get("type") == "refusal"]
        refusals = [text for part in parts if (text := string(part.get("refusal"))) is not None]
        return "".join(refusals) if refusals else None

    @cached_property
    def types(self) -> dict[str, int]:
        """The number of output items by type."""
        return dict(Counter(str(item.get("type")) for item in self._items))

    @cached_property
    def calls(self) -> list[Call]:
        """The tool calls without an output, and the MCP approval requests without a response."""
        answered = {
            identifier(item.get(keys[0]))
            for item in self._items
            if (keys := result_keys(item)) is not None
        }
        calls = [call for item in self._items if (call := call_of(item)) is not None]
        return [call for call in calls if call.id is None or call.id not in answered]

    @property
    def missing(self) -> Reason | None:
        """Why the output is not an answer in text; None if it is one."""
        if self.calls:
            return "tool_calls"
        if self.refusal is not None:
            return "refusal"
        if self.text:
            return None
        is_other = self.types.keys() - TEXT_ITEMS or any(
            str(part.get("type")) not in _TEXT_PARTS for part in self._parts
        )
        return "not_text" if is_other else "empty"


def call_of(item: dict[str, Any]) -> Call | None:
    """Return the item as a call if the user can answer it; hosted tools have no `call_id`."""
    kind = str(item.get("type"))
    number = None if kind == APPROVAL else identifier(item.get("call_id"))
    if kind in _CALLS or kind == APPROVAL:
        number = number or identifier(item.get("id"))
    elif number is None or not kind.endswith("_call"):
        return None
    if item.get("execution") == "server":
        return None
    details = next((item[key] for key in _DETAILS if item.get(key) is not None), "")
    if isinstance(details, dict):
        details = value_at(details, "commands") or value_at(details, "command") or details
    text = details if isinstance(details, str) else json.dumps(details, ensure_ascii=False)
    return Call(kind, number, string(item.get("name")), text)


def result_keys(item: object) -> tuple[str, str] | None:
    """Return the key with the ID of the call that an item answers, and the key with the result.

    Returns None if the item is not the result of a call.
    """
    kind = str(value_at(item, "type"))
    if kind == "local_shell_call_output" and value_at(item, "call_id") is None:
        return "id", "output"
    usual = ("call_id", "output") if kind.endswith("_call_output") else None
    return _RESULT_KEYS.get(kind, usual)


def identifier(value: object) -> str | None:
    """Return an ID as a string; None if it is empty, or neither a string nor an integer."""
    return str(value) if type(value) is int else string(value) or None


def parts_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content parts of a message; some servers send its text as a string."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "output_text", "text": content}]
    return objects(content)


def text_of(part: dict[str, Any]) -> str | None:
    """Return the text of a content part; None if it is of another type."""
    return string(part.get("text")) if str(part.get("type")) in _OUTPUT_TEXT else None


def is_emptier(output: object, other: object) -> bool:
    """Whether an `output` has fewer items than another one, or its items of a type hold less.

    What an item holds is measured in characters: of texts, arguments, images, sources and so on.
    """
    items, others = objects(output), objects(other)
    return len(items) < len(others) or bool(_held(others) - _held(items))


def _joined(parts: Iterable[dict[str, Any]]) -> str:
    return "".join(text for part in parts if (text := text_of(part)) is not None)


def _held(items: list[dict[str, Any]]) -> Counter[str]:
    """The number of characters in the items, by the type of the item."""
    held: Counter[str] = Counter()
    for item in items:
        kind, left = str(item.get("type")), [item]
        while left:
            value: Any = left.pop()
            if isinstance(value, str):
                held[kind] += len(value)
            elif isinstance(value, list):
                left.extend(value)
            elif isinstance(value, dict):
                left.extend(value[key] for key in value if not _is_label(key))
    return held


def _is_label(key: str) -> bool:
    """Whether the value of a key only names something; servers change IDs and statuses."""
    return key in ("type", "role", "status", "id") or key.endswith("_id")
