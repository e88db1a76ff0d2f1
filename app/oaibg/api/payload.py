"""What the API answered: the bytes as they came, and the few keys that are read from them."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any, Self

from oaibg.base.json_text import objects, read_json
from oaibg.base.text import utf8

TERMINAL = frozenset({"completed", "failed", "cancelled", "incomplete", "expired"})
"""The statuses that a response keeps. `expired` is a batch's, and other servers'."""

RUNNING = frozenset({"queued", "in_progress", "validating", "finalizing", "cancelling"})
"""The statuses that change; the last three are a batch's."""

_NAME_LENGTH = 1000
_RESPONSE_ID = re.compile(r"[A-Za-z0-9_\-=.:+~]{1,1024}")


def is_batch_id(text: str) -> bool:
    """Whether an id is a batch's, which has paths of its own at the API."""
    return text.startswith("batch_")


def is_response_id(text: str) -> bool:
    """Whether a text can be a response's id: what servers send, and a path can carry."""
    return _RESPONSE_ID.fullmatch(text) is not None and text.strip(".") != ""


class Payload:
    """A response object of the API, or a batch.

    Unknown keys and item types are kept: `raw`, the body as it was received, is what files hold,
    `data` what events show. Raises `ValueError` if `read_json` reads no object.
    """

    def __init__(self, raw: bytes, request_id: str | None = None) -> None:
        data = read_json(raw)
        if not isinstance(data, dict):
            raise ValueError(f"a JSON {type(data).__name__}, not an object")  # noqa: TRY004
        self.raw = raw
        self.data: dict[str, Any] = data
        self.request_id = request_id
        sent = data.get("id")
        self.id = str(sent) if type(sent) is int else _text(sent) or None
        """None if it is neither a text nor an integer."""
        self.status = _text(data.get("status"), _NAME_LENGTH)
        """As the server spells it; like the model, None if it is not a text."""
        self.ended = self.status in TERMINAL
        self.model = _text(data.get("model"), _NAME_LENGTH)

    @classmethod
    def of(cls, data: dict[str, Any], request_id: str | None = None) -> Self:
        """The payload of an object that was parsed before; `raw` is made from it."""
        return cls(json.dumps(data).encode(), request_id)

    @property
    def succeeded(self) -> bool:
        """Whether it completed; of a batch, whether no request failed either."""
        counts = self.object("request_counts") or {}
        return self.status == "completed" and not counts.get("failed")

    @property
    def is_whole(self) -> bool:
        """Whether the job has ended, and its output is there."""
        return self.ended and isinstance(self.data.get("output"), list)

    def object(self, key: str) -> dict[str, Any] | None:
        """The object at `key`; None if there is none. An error may be given as a text."""
        value = self.data.get(key)
        if key == "error" and value is None:
            # A batch that could not begin has a list of errors.
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


def _text(value: object, length: int | None = None) -> str | None:
    """A text's first characters, without lone surrogates; None for anything else."""
    return utf8(value[:length]).decode() if isinstance(value, str) else None
