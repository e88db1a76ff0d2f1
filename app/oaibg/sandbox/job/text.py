"""The output text of a job: set by its metadata, or an answer that matches the request."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.job.metadata import text_in
from oaibg.sandbox.schema_sample import sample

if TYPE_CHECKING:
    from collections.abc import Mapping

FILENAME = "chart.csv"
PATH = f"/mnt/data/{FILENAME}"
"""The path of a job's file, in its container."""

_TEXTS: Mapping[str, str] = {
    "refusal": "I can't help with that.",
    "file": f"The numbers are in [{FILENAME}](sandbox:{PATH}).",
}
"""The text of each outcome that doesn't answer the request."""


def output_text(request: Mapping[str, Any], outcome: str) -> str | None:
    """Return the output text of a job; only the first half if the outcome is incomplete.

    None if its metadata sets `sandbox_empty`. Raises `FieldError` if an entry is invalid.
    """
    metadata: Mapping[str, str] = request.get("metadata") or {}
    if metadata.get("sandbox_empty", "false") != "false":
        return None
    text = text_in(metadata)
    if text is None:
        text = _TEXTS.get(outcome) or _answer(request)
    return first_half(text) if outcome == "incomplete" else text


def first_half(text: str) -> str:
    """Return the first half of a text, rounded up to a whole character."""
    return text[: math.ceil(len(text) / 2)]


def _answer(request: Mapping[str, Any]) -> str:
    wanted = (request.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(sample(wanted["schema"]), ensure_ascii=False)
    if wanted.get("type") == "json_object":
        return '{"answer": "sandbox"}'
    asked = _last_text(request.get("input"))
    if len(asked) > 200:
        asked = f"{asked[:200]}…"
    return f'The sandbox has no model to ask. You said: "{asked}"'


def _last_text(given: object) -> str:
    """Return the last text of the user, or the output of the last tool."""
    if isinstance(given, str):
        return given
    for item in reversed(given if isinstance(given, list) else []):
        if isinstance(item, dict) and (item.get("role") == "user" or "output" in item):
            content = item.get("output", item.get("content"))
            if isinstance(content, str):
                return content
            parts = [part for part in content or [] if isinstance(part, dict)]
            return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return ""
