"""What the output of a response contains: the text, a refusal, and the calls that wait."""

from __future__ import annotations

import json
from collections import Counter
from functools import cached_property
from typing import Any, Literal, NamedTuple

from oaibg.base.json_text import objects, string, value_at

Reason = Literal["tool_calls", "refusal", "not_text", "empty"]
"""Why there is no text, or why the text is not the answer."""

COMMENTARY = "commentary"
"""The phase of a message that the model writes before its answer."""

_APPROVAL = "mcp_approval_request"
_TEXT_ITEMS = frozenset({"message", "reasoning"})
_TEXT_PARTS = frozenset({"output_text", "refusal"})
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

    `id` is the `call_id` of the output to send, or the `approval_request_id` of the approval.
    """

    type: str
    id: str
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
        messages = [item for item in self._items if item.get("type") == "message"]
        final = [one for one in messages if one.get("phase") == "final_answer"]
        others = [one for one in messages if not is_commentary(one)]
        self._parts = _parts(final or others or messages)

    @cached_property
    def text(self) -> str:
        """The joined `output_text` parts."""
        return "".join(_texts(self._parts, "output_text", "text"))

    @cached_property
    def refusal(self) -> str | None:
        """The joined `refusal` parts; None if the model did not refuse."""
        refusals = _texts(self._parts, "refusal", "refusal")
        return "".join(refusals) if refusals else None

    @cached_property
    def types(self) -> dict[str, int]:
        """The number of output items by type."""
        return dict(Counter(str(item.get("type")) for item in self._items))

    @cached_property
    def calls(self) -> list[Call]:
        """The tool calls without an output, and the MCP approval requests without a response."""
        answered = {
            str(item.get(keys[0]))
            for item in self._items
            if (keys := result_keys(item)) is not None
        }
        calls = [call for item in self._items if (call := call_of(item)) is not None]
        return [call for call in calls if call.id not in answered]

    @property
    def missing(self) -> Reason | None:
        """Why the output is not an answer in text; None if it is one."""
        if self.calls:
            return "tool_calls"
        if self.refusal is not None:
            return "refusal"
        if self.text:
            return None
        is_other = self.types.keys() - _TEXT_ITEMS or any(
            part.get("type") not in _TEXT_PARTS for part in self._parts
        )
        return "not_text" if is_other else "empty"


def call_of(item: dict[str, Any]) -> Call | None:
    """Return the item as a call if the user can answer it; hosted tools have no `call_id`."""
    kind = item.get("type")
    number = item.get("id" if kind == _APPROVAL else "call_id")
    if kind == "function_call":
        number = number or item.get("id")
    is_call = kind == _APPROVAL or str(kind).endswith("_call")
    if not is_call or not isinstance(number, str) or item.get("execution") == "server":
        return None
    details = next((item[key] for key in _DETAILS if item.get(key) is not None), "")
    if isinstance(details, dict):
        details = value_at(details, "commands") or value_at(details, "command") or details
    text = details if isinstance(details, str) else json.dumps(details, ensure_ascii=False)
    return Call(str(kind), number, string(item.get("name")), text)


def result_keys(item: object) -> tuple[str, str] | None:
    """Return the key with the ID of the call that an item answers, and the key with the result.

    Returns None if the item is not the result of a call.
    """
    kind = str(value_at(item, "type"))
    if kind == "local_shell_call_output" and value_at(item, "call_id") is None:
        return "id", "output"
    usual = ("call_id", "output") if kind.endswith("_call_output") else None
    return _RESULT_KEYS.get(kind, usual)


def is_emptier(output: object, other: object) -> bool:
    """Whether an `output` has fewer items than another one, or less text in its messages.

    A refusal counts as text.
    """
    items, text = _extent(output)
    more_items, more_text = _extent(other)
    return items < more_items or text < more_text


def _extent(output: object) -> tuple[int, int]:
    """The number of output items, and of characters in all messages."""
    items = objects(output)
    parts = _parts([item for item in items if item.get("type") == "message"])
    texts = (part.get(key) for part in parts for key in ("text", "refusal"))
    return len(items), sum(len(text) for text in texts if isinstance(text, str))


def _parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for message in messages for part in objects(message.get("content"))]


def _texts(parts: list[dict[str, Any]], kind: str, key: str) -> list[str]:
    found = (part.get(key) for part in parts if part.get("type") == kind)
    return [text for text in found if isinstance(text, str)]
