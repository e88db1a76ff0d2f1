"""Splits lists into pages by the query parameters `after` and `limit`, as the API does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.wire.reply import json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from oaibg.sandbox.wire.reply import Reply


def page_of(
    items: Sequence[tuple[str, Callable[[], dict[str, Any]]]],
    query: Mapping[str, str],
    usual: int,
    most: int,
) -> Reply:
    """Return the page of a list that the query selects.

    Each item is an ID and a function that returns its payload. `usual` is the default `limit` of a
    page, `most` the highest.
    """
    if "after" in query:
        ids = [item_id for item_id, _ in items]
        if query["after"] not in ids:
            raise ApiError(400, f"Item with id '{query['after']}' not found.", param="after")
        items = items[ids.index(query["after"]) + 1 :]
    page = items[: min(max(whole_number(query, "limit", usual), 1), most)]
    listed = {
        "object": "list",
        "data": [show() for _, show in page],
        "first_id": page[0][0] if page else "",
        "last_id": page[-1][0] if page else "",
        "has_more": len(items) > len(page),
    }
    return json_reply(listed)


def whole_number(query: Mapping[str, str], key: str, default: int) -> int:
    """Return a number from the query; raise the API's error if it is not a whole number."""
    value = query.get(key)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        message = f"Invalid type for '{key}': expected an integer, but got '{value[:64]}' instead."
        raise ApiError(400, message, param=key, code="invalid_type")
    return int(value)
