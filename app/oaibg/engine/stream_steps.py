"""Which stream events are steps of a job, and the words that come with them.

Deltas are never steps. A reasoning summary and commentary are one when they are finished, with
their text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from oaibg.api.answer import is_commentary
from oaibg.base.json_text import objects, string, value_at

if TYPE_CHECKING:
    from oaibg.api.stream import StreamEvent

_STATES = frozenset({"response.queued", "response.in_progress"})
_ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
_OF_A_CALL = re.compile(
    r"response\.([a-z_]{1,60}_call|mcp_list_tools|compaction)\.(?![a-z_]*delta)[a-z_]{1,60}"
)
_SUMMARY = "response.reasoning_summary_"
_ITEM_TYPE_LENGTH = 100
_TEXT_LENGTH = 2000


class Step(NamedTuple):
    """The type of the item that a step belongs to, and the step's words."""

    item_type: str | None = None
    text: str | None = None


class Steps:
    """Finds the steps in a stream; `from_start` is whether no earlier process has read some."""

    def __init__(self, *, from_start: bool) -> None:
        self._from_start = from_start
        self._about: dict[str, str] = {}
        """By item ID: what a call is about."""
        self._parts: dict[tuple[str, ...], str | None] = {}
        """The text so far of summary parts and refusals; None if the part was a step already."""

    def step(self, event: StreamEvent) -> Step | None:
        """Return the step that an event is; None if it is none."""
        kind = event.type
        found: Step | None = None
        if kind in _STATES:
            found = Step()
        elif kind in _ITEMS:
            found = self._item(event)
        elif call := _OF_A_CALL.fullmatch(kind):
            about, error = self._about.get(str(event.get("item_id"))), error_words(event)
            found = Step(call[1], ": ".join(filter(None, (about, error))) or None)
        elif kind in (f"{_SUMMARY}text.delta", "response.refusal.delta"):
            part = _part(event)
            before, delta = self._parts.get(part, ""), event.get("delta")
            if before is not None and isinstance(delta, str):
                self._parts[part] = (before + delta)[: _TEXT_LENGTH + 1]
        elif kind == f"{_SUMMARY}text.done":
            found = self._finished("reasoning", event, event.get("text"))
        elif kind == f"{_SUMMARY}part.done" and (self._from_start or _part(event) in self._parts):
            found = self._finished("reasoning", event, value_at(event.get("part"), "text"))
        elif kind == "response.refusal.done":
            found = self._finished("message", event, event.get("refusal"))
        return found and Step(found.item_type, found.text and _cut(found.text, _TEXT_LENGTH))

    def _finished(self, item_type: str, event: StreamEvent, text: object) -> Step | None:
        """A part is one step, whichever of its events comes first."""
        part = _part(event)
        known = self._parts.get(part, "")
        if known is None:
            return None
        self._parts[part] = None
        return Step(item_type, string(text) or known or None)

    def _item(self, event: StreamEvent) -> Step:
        value = event.get("item")
        item: dict[str, Any] = value if isinstance(value, dict) else {}
        item_type, item_id = string(item.get("type")), str(item.get("id"))
        text = _about(item)
        if event.type.endswith("done") and is_commentary(item):
            parts = [part.get("text") for part in objects(item.get("content"))]
            text = "".join(filter(None, map(string, parts))) or None
        elif text is not None:
            self._about[item_id] = text
        elif event.type.endswith("done") and self._is_new(item_id):
            # Some servers send the texts of an item only when it is finished.
            parts = [part.get("text") for part in objects(item.get("summary"))]
            parts += [part.get("refusal") for part in objects(item.get("content"))]
            text = "\n\n".join(filter(None, map(string, parts))) or None
        return Step(item_type and item_type[:_ITEM_TYPE_LENGTH], text)

    def _is_new(self, item_id: str) -> bool:
        """Whether no part of an item was a step."""
        return self._from_start and not any(
            part[0] == item_id and text is None for part, text in self._parts.items()
        )


def error_words(event: StreamEvent) -> str | None:
    """Return the words of the error that an event reports; None without any."""
    reported = event.get("error")
    if reported is None and event.payload is not None:
        reported = event.payload.object("error")
    if reported is None and event.type == "error":
        reported = {key: event.get(key) for key in ("message", "code")}
    if isinstance(reported, dict):
        reported = string(reported.get("message")) or string(reported.get("code"))
    return _cut(reported, _TEXT_LENGTH) if isinstance(reported, str) and reported else None


def _about(item: dict[str, Any]) -> str | None:
    """Return what a call is about: a query, or the names of a tool or server."""
    if item.get("type") == "mcp_list_tools":
        error = item.get("error")
        words = (item.get("server_label"), error, value_at(error, "message"))
        return ": ".join(filter(None, map(string, words))) or None
    action = item.get("action")
    sources = (action if isinstance(action, dict) else {}, item)
    for key in ("query", "queries", "pattern", "url", "name"):
        for source in sources:
            value = source.get(key)
            entries = value if isinstance(value, list) else [value]
            if text := ", ".join(filter(None, map(string, entries))):
                return text
    return None


def _part(event: StreamEvent) -> tuple[str, ...]:
    """The part of an item that an event is about."""
    keys = ("item_id", "output_index", "summary_index", "content_index")
    return tuple(str(event.get(key)) for key in keys)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
