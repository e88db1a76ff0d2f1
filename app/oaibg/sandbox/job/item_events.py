"""The stream events of an output item, derived from the finished item."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oaibg.sandbox.job.items import Item

Event = dict[str, Any]

_LONGEST_DELTA = 65_536


def item_events(item: Item, index: int) -> list[Event]:
    """Return the events of an item; `index` is its place in the output."""
    where = {"item_id": item["id"], "output_index": index}
    between = _BETWEEN.get(item["type"], _nothing)
    return [
        new_event("response.output_item.added", output_index=index, item=_begun(item)),
        *between(item, where),
        new_event("response.output_item.done", output_index=index, item=item),
    ]


def new_event(kind: str, **fields: Any) -> Event:
    """Return an event without its number."""
    return {"type": kind, "sequence_number": 0, **fields}


_BEGUN: Mapping[str, Item] = {
    "reasoning": {"summary": []},
    "message": {"status": "in_progress", "content": []},
    "web_search_call": {"status": "in_progress"},
    "function_call": {"status": "in_progress", "arguments": ""},
    "custom_tool_call": {"input": ""},
    "image_generation_call": {"status": "in_progress", "result": None},
    "code_interpreter_call": {"status": "in_progress", "code": "", "outputs": None},
    "output_text": {"text": "", "annotations": []},
    "refusal": {"refusal": ""},
    "summary_text": {"text": ""},
}
"""What an item or a part of each type has when it is added."""


def _begun(one: Item) -> Item:
    return {**one, **_BEGUN.get(one["type"], {})}


def _nothing(_item: Item, _where: Mapping[str, Any]) -> list[Event]:
    return []


def _reasoning(item: Item, where: Mapping[str, Any]) -> list[Event]:
    events = []
    for place, part in enumerate(item["summary"]):
        here = {**where, "summary_index": place}
        events += [
            new_event("response.reasoning_summary_part.added", **here, part=_begun(part)),
            *_deltas("reasoning_summary_text", here, "text", part["text"]),
            new_event("response.reasoning_summary_part.done", **here, part=part),
        ]
    return events


def _message(item: Item, where: Mapping[str, Any]) -> list[Event]:
    events = []
    for place, part in enumerate(item["content"]):
        here = {**where, "content_index": place}
        events += [
            new_event("response.content_part.added", **here, part=_begun(part)),
            *_part_events(part, here),
            new_event("response.content_part.done", **here, part=part),
        ]
    return events


def _part_events(part: Mapping[str, Any], where: Mapping[str, Any]) -> list[Event]:
    if part["type"] == "refusal":
        return _deltas("refusal", where, "refusal", part["refusal"])
    *deltas, done = _deltas("output_text", {**where, "logprobs": []}, "text", part["text"])
    citations = (
        new_event(
            "response.output_text.annotation.added", **where, annotation_index=place, annotation=one
        )
        for place, one in enumerate(part["annotations"])
    )
    return [*deltas, *citations, done]


def _web_search_call(item: Item, where: Mapping[str, Any]) -> list[Event]:
    return _steps(item, where, "in_progress", "searching", "completed")


def _function_call(item: Item, where: Mapping[str, Any]) -> list[Event]:
    return _deltas("function_call_arguments", where, "arguments", item["arguments"])


def _custom_tool_call(item: Item, where: Mapping[str, Any]) -> list[Event]:
    return _deltas("custom_tool_call_input", where, "input", item["input"])


def _image_generation_call(item: Item, where: Mapping[str, Any]) -> list[Event]:
    return _steps(item, where, "in_progress", "generating", "completed")


def _code_interpreter_call(item: Item, where: Mapping[str, Any]) -> list[Event]:
    return [
        *_steps(item, where, "in_progress"),
        *_deltas("code_interpreter_call_code", where, "code", item["code"]),
        *_steps(item, where, "interpreting", "completed"),
    ]


_BETWEEN: Mapping[str, Callable[[Item, Mapping[str, Any]], list[Event]]] = {
    "reasoning": _reasoning,
    "message": _message,
    "web_search_call": _web_search_call,
    "function_call": _function_call,
    "custom_tool_call": _custom_tool_call,
    "image_generation_call": _image_generation_call,
    "code_interpreter_call": _code_interpreter_call,
}
"""The events of an item of each type between those that add it and end it."""


def _steps(item: Item, where: Mapping[str, Any], *steps: str) -> list[Event]:
    return [new_event(f"response.{item['type']}.{step}", **where) for step in steps]


def _deltas(name: str, where: Mapping[str, Any], key: str, text: str) -> list[Event]:
    """Return the events of a text that arrives piece by piece; the last has it all, in `key`."""
    return [
        *(new_event(f"response.{name}.delta", **where, delta=piece) for piece in _pieces(text)),
        new_event(f"response.{name}.done", **where, **{key: text}),
    ]


def _pieces(text: str) -> Iterable[str]:
    size = min(max(4, math.ceil(len(text) / 16)), _LONGEST_DELTA)
    return (text[start : start + size] for start in range(0, len(text), size))
