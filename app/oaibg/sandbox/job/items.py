"""The items of a response that most jobs have: those of its output, and those of its input."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from oaibg.sandbox.job.job import Job

Item = dict[str, Any]

SOURCES = "web_search_call.action.sources"
"""The value of `include` that shows the sources of web searches."""

_WITH_STATUS = (
    *("function_call", "function_call_output"),
    *("custom_tool_call", "custom_tool_call_output"),
)


def reasoning(job: Job, summary: Iterable[str] = ()) -> Item:
    """Return the reasoning item, the first of every output."""
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return {"id": item_id("rs", job.id), "type": "reasoning", "summary": parts}


def search(job: Job, place: int, include: Collection[str]) -> Item:
    """Return a web search of the job; `place` counts from 0."""
    query = f"sandbox {place + 1}"
    action: dict[str, Any] = {"type": "search", "query": query, "queries": [query]}
    if SOURCES in include:
        action["sources"] = [{"type": "url", "url": f"https://example.com/{place + 1}"}]
    return {
        "id": item_id("ws", f"{job.id}{place}"),
        "type": "web_search_call",
        "status": "completed",
        "action": action,
    }


def message(job: Job, status: str, part: Mapping[str, Any], phase: str | None = None) -> Item:
    """Return a message with one content part; `phase` is `commentary` or `final_answer`."""
    return {
        "id": item_id("msg", job.id if phase != "commentary" else f"{job.id} commentary"),
        "type": "message",
        "status": status,
        "content": [part],
        "role": "assistant",
        **({} if phase is None else {"phase": phase}),
    }


def text_part(text: str, *annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return a text as a content part of a message."""
    return {"type": "output_text", "annotations": [*annotations], "logprobs": [], "text": text}


def input_items(job: Job) -> list[Item]:
    """Return the input of a job as the API lists it, oldest item first."""
    given = job.request.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [
        _input_item(one, item_id("msg", f"{job.id}{place}"))
        for place, one in enumerate(given or [])
    ]


def item_id(prefix: str, seed: str, length: int = 50) -> str:
    """Return an ID: the prefix and hex characters that only depend on `seed`."""
    return f"{prefix}_{hashlib.sha256(seed.encode()).hexdigest()[:length]}"


def _input_item(given: Mapping[str, Any], new_id: str) -> Item:
    kind = given.get("type") or "message"
    if kind != "message":
        status = {"status": "completed"} if kind in _WITH_STATUS else {}
        return {"id": new_id, **status, **given}
    content = given.get("content")
    if isinstance(content, str):
        part = {"type": "input_text", "text": content}
        content = [text_part(content) if given.get("role") == "assistant" else part]
    return {"id": new_id, "status": "completed", **given, "type": "message", "content": content}
