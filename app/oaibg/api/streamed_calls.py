"""The calls in a stream whose arguments have come, although their finished items may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.base.json_text import string

if TYPE_CHECKING:
    from oaibg.api.stream import StreamEvent

_ENDS = {
    "response.function_call_arguments.done": ("function_call", "arguments"),
    "response.custom_tool_call_input.done": ("custom_tool_call", "input"),
}
"""The events that finish what a call does: the type of its item, and the key."""

_Key = int | str | None


class StreamedCalls:
    """The calls of one job; each is known by its item's ID, or else by its place."""

    def __init__(self) -> None:
        self._begun: dict[_Key, dict[str, Any]] = {}
        self._finished: dict[_Key, tuple[int | None, dict[str, Any]]] = {}

    def begin(self, index: int | None, item: dict[str, Any]) -> None:
        """Note an item as it begins; that of a call lacks only its arguments."""
        if str(item.get("type")).endswith("_call"):
            self._begun[string(item.get("id"))] = self._begun[index] = item

    def take(self, event: StreamEvent, index: int | None) -> None:
        """Note an event if it brings the whole arguments of a call."""
        if (end := _ENDS.get(event.type)) is None:
            return
        kind, key = end
        item_id = string(event.get("item_id"))
        begun = self._begun.get(item_id) or self._begun.get(index) or {}
        item = {"type": kind, "id": item_id, "name": event.get("name")}
        item |= begun if begun.get("type") == kind else {}
        item |= {key: event.get(key), "status": "completed"}
        self._finished[index if item_id is None else item_id] = index, item

    def without_item(self, items: list[dict[str, Any]]) -> list[tuple[int | None, dict[str, Any]]]:
        """Return the calls that are not among the finished items, each after its place."""
        calls = self._finished.values()
        return [one for one in calls if not any(_is_same(one[1], item) for item in items)]


def _is_same(call: dict[str, Any], item: dict[str, Any]) -> bool:
    """Whether a finished item is the call; some servers change an item's ID."""
    if call["id"] is not None and call["id"] == item.get("id"):
        return True
    return all(call.get(key) == item.get(key) for key in ("type", "arguments", "input"))
