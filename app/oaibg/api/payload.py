"""What the API answered: the bytes as they came, and the few keys that we read from them."""

from __future__ import annotations

import json
import math
import re
from functools import cached_property
from typing import Any, Self

from oaibg.base.json_text import DEPTH, is_deep, objects, pruned
from oaibg.base.text import utf8

TERMINAL = frozenset({"completed", "failed", "cancelled", "incomplete", "expired"})
"""The statuses at which a response stays. `expired` is a batch's, and other servers'."""

RUNNING = frozenset({"queued", "in_progress", "validating", "finalizing", "cancelling"})
"""The statuses of what goes on; the last three are a batch's."""

_WORD_LENGTH = 1000
"""Characters of a status or a model's name, and digits of a number."""

_RESPONSE_ID = re.compile(r"[A-Za-z0-9_\-=.:+~]{1,1024}")


def is_batch_id(text: str) -> bool:
    """Whether an id is that of a batch, which has a life of its own at the API."""
    return text.startswith("batch_")


def is_response_id(text: str) -> bool:
    """Whether a text can be a response's id: what servers give, and what a path can carry."""
    return _RESPONSE_ID.fullmatch(text) is not None and text.strip(".") != ""


class Payload:
    """A response object of the API.

    Unknown keys and item types are kept: `raw` is what files hold, `data` what events show.

    Numbers that are none (NaN, 1e999, more digits than Python reads) and what is nested deeper
    than `oaibg.nesting.DEPTH` levels are null in `data`: oddities are no reason to lose a result.

    Args:
        raw: the body as it was received.
        request_id: the `x-request-id` of the reply.

    Raises:
        ValueError: the body is not a JSON object (HTML, truncated, not UTF-8).
    """

    def __init__(self, raw: bytes, request_id: str | None = None) -> None:
        data = _read(raw)
        if not isinstance(data, dict):
            raise ValueError(f"a JSON {type(data).__name__}, not an object")  # noqa: TRY004
        self.raw = raw
        self.data: dict[str, Any] = data
        self.request_id = request_id

    @classmethod
    def of(cls, data: dict[str, Any], request_id: str | None = None) -> Self:
        """The payload of an object that was parsed already; `raw` is made anew."""
        return cls(json.dumps(data).encode(), request_id)

    @property
    def id(self) -> str | None:
        """The response's id; None where it is absent, or neither a text nor a whole number."""
        value = self.data.get("id")
        return str(value) if type(value) is int else _text(value) or None

    @property
    def status(self) -> str | None:
        """The response's status as the server spells it."""
        return _word(self.data.get("status"))

    @property
    def ended(self) -> bool:
        """Whether the status is terminal."""
        return self.status in TERMINAL

    @property
    def succeeded(self) -> bool:
        """Whether it ended as was asked: completed, and of a batch every request."""
        counts = self.object("request_counts") or {}
        return self.status == "completed" and not counts.get("failed")

    @property
    def is_whole(self) -> bool:
        """Whether it is that of a job that has ended, with all that it brought."""
        return self.ended and isinstance(self.data.get("output"), list)

    @property
    def model(self) -> str | None:
        """The model that the server says it used."""
        return _word(self.data.get("model"))

    def object(self, key: str) -> dict[str, Any] | None:
        """The object at `key`; None where there is none."""
        value = self.data.get(key)
        if key == "error" and value is None:
            # A batch that could not begin has a list of them.
            value = next(iter(objects((self.object("errors") or {}).get("data"))), None)
        if isinstance(value, str) and key == "error":
            return {"code": None, "message": value}
        return value if isinstance(value, dict) else None

    @cached_property
    def text(self) -> str:
        """All `output_text` parts of all messages joined, as the SDK's `output_text` does."""
        return "".join(
            part["text"]
            for item in objects(self.data.get("output"))
            if item.get("type") == "message"
            for part in objects(item.get("content"))
            if part.get("type") == "output_text" and isinstance(part.get("text"), str)
        )


def _read(raw: bytes) -> Any:
    try:
        data = _loads(raw)
        deep = raw.count(b"[") + raw.count(b"{") > DEPTH and is_deep(data)
    except RecursionError:
        deep = True
    return _loads(pruned(raw)) if deep else data


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_constant=_nothing, parse_float=_finite)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of thousands of digits, or not UTF-8
        return json.loads(raw, parse_constant=_nothing, parse_float=_finite, parse_int=_whole)


def _text(value: object) -> str | None:
    return utf8(value).decode() if isinstance(value, str) else None


def _word(value: object) -> str | None:
    return _text(value[:_WORD_LENGTH]) if isinstance(value, str) else None


def _nothing(_: str) -> None:
    return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _WORD_LENGTH else None
