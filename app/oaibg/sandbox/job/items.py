"""The items of a response: its output and its input."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oaibg.sandbox.job.job import Job

Item = dict[str, Any]


def output_items(job: Job, status: str, text: str | None) -> list[Item]:
    """Return the output of a job: reasoning, web searches and, if there is a text, a message."""
    items = [reasoning(job), *(search(job, place) for place in range(job.searches))]
    if text is not None:
        items.append(message(job, status, [text_part(text)]))
    return items


def reasoning(job: Job) -> Item:
    """Return the reasoning item, the first of every output."""
    return {"id": item_id("rs", job.id), "type": "reasoning", "summary": []}


def search(job: Job, place: int, status: str = "completed") -> Item:
    """Return a web search of the job; `place` counts from 0."""
    query = f"sandbox {place + 1}"
    return {
        "id": item_id("ws", f"{job.id}{place}"),
        "type": "web_search_call",
        "status": status,
        "action": {"type": "search", "query": query, "queries": [query]},
    }


def message(job: Job, status: str, content: list[dict[str, Any]]) -> Item:
    """Return the message with the answer."""
    return {
        "id": item_id("msg", job.id),
        "type": "message",
        "status": status,
        "content": content,
        "role": "assistant",
    }


def text_part(text: str) -> dict[str, Any]:
    """Return a text as a content part of a message."""
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def input_items(job: Job) -> list[Item]:
    """Return the input of a job as the API lists it, oldest item first."""
    given = job.request.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [
        _input_item(one, item_id("msg", f"{job.id}{place}"))
        for place, one in enumerate(given or [])
    ]


def item_id(prefix: str, seed: str) -> str:
    """Return an item ID: the prefix and 50 hex characters that only depend on `seed`."""
    return f"{prefix}_{hashlib.sha256(seed.encode()).hexdigest()[:50]}"


def _input_item(given: Mapping[str, Any], new_id: str) -> Item:
    if given.get("type", "message") != "message":
        return {"id": new_id, **given}
    content = given.get("content")
    if isinstance(content, str):
        part = {"type": "input_text", "text": content}
        content = [text_part(content) if given.get("role") == "assistant" else part]
    return {"id": new_id, "status": "completed", **given, "type": "message", "content": content}
