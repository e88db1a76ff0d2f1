"""The payload of a reply: the bytes as received, and the few keys that oaibg reads."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from oaibg.api.answer import Answer, is_emptier
from oaibg.api.error_body import is_error
from oaibg.base.json_text import is_altered, objects, read_json, value_at
from oaibg.base.secrets import masked
from oaibg.base.text import utf8
from oaibg.contract.run_status import ENDED

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMINAL = ENDED
"""The statuses that never change. Only batches, and other servers, use `expired`."""

RUNNING = frozenset({"queued", "in_progress", "validating", "finalizing", "cancelling"})
"""The statuses of a running job. Only batches use the last three."""

WITH_OUTPUT = frozenset({"completed", "incomplete"})
"""The terminal statuses of a response that should have all of its output."""

_NAME_LENGTH = 1000
OWN_PREFIXES = ("resp_", "batch_")
"""How the IDs of the API begin; other servers have IDs of other forms."""
_RESPONSE_ID = re.compile(r"[A-Za-z0-9_\-=.:+~]{1,1024}")


def is_batch_id(text: str) -> bool:
    """Whether an ID has the form of a batch's; on other servers, batches may have other IDs."""
    return text.startswith(("batch_", "batch-"))


def is_response_id(text: str) -> bool:
    """Whether a text has the form of the IDs that servers send, and is safe in a URL path."""
    return _RESPONSE_ID.fullmatch(text) is not None and text.strip(".") != ""


def is_api_id(text: str) -> bool:
    """Whether a text has the form of OpenAI's own IDs."""
    return text.startswith(OWN_PREFIXES) and is_response_id(text)


class Payload:
    """A response or batch object of the API.

    Unknown keys and item types are kept. Files contain `raw`, the body as received; events contain
    `data`. Raises `ValueError` if the body is not a JSON object that `read_json` accepts.
    """

    requests_left: int | None = None
    """The requests that the rate limits leave, by the headers of a create's reply; 0 if no tokens
    are left."""
    is_pieced = False
    """Whether the output is from a stream's events, because the response lacks some of it."""

    def __init__(self, raw: bytes, request_id: str | None = None) -> None:
        data = read_json(raw)
        if not isinstance(data, dict):
            raise ValueError(f"a JSON {type(data).__name__}, not an object")  # noqa: TRY004
        self.raw = raw
        self._read(data, request_id)

    @classmethod
    def of(cls, data: dict[str, Any], request_id: str | None = None) -> Self:
        """Return the payload of an object that is already parsed; `raw` is its JSON."""
        payload = cls.__new__(cls)
        payload._read(data, request_id)  # noqa: SLF001 - its own class
        return payload

    def _read(self, data: dict[str, Any], request_id: str | None) -> None:
        self.data = data
        self.request_id = request_id
        sent = data.get("id")
        self.id = str(sent) if type(sent) is int else _text(sent) or None
        """None if the server's ID is neither a string nor an integer."""
        self.status = _name(data.get("status"))
        """As the server spells it. The status and the model are None if they are not strings."""
        self.ended = self.status in TERMINAL
        self.model = _name(data.get("model"))
        self.service_tier = _name(data.get("service_tier"))

    def note_left(self, headers: Mapping[str, str]) -> None:
        """Note what the rate limits leave, by the headers of the reply."""
        name = "x-ratelimit-remaining-"
        value = headers.get(f"{name}requests", "")
        if value.isascii() and value.isdecimal() and len(value) < 20:
            self.requests_left = int(value)
        if headers.get(f"{name}tokens") == "0":
            self.requests_left = 0

    @property
    def names_job(self) -> bool:
        """Whether it has a job's ID; the ID beside a server's error may be that of the request."""
        if self.id is None or not is_response_id(self.id):
            return False
        return (
            self.status is not None or not is_error(self.data) or self.id.startswith(OWN_PREFIXES)
        )

    @property
    def is_job(self) -> bool:
        """Whether it certainly is a response or a batch, whatever status its reply has."""
        named = self.data.get("object") in ("response", "batch")
        is_own = str(self.id).startswith(OWN_PREFIXES) and self.status is not None
        return self.names_job and (named or is_own)

    @cached_property
    def raw(self) -> bytes:
        """The body as received."""
        return json.dumps(self.data).encode()

    @property
    def is_altered(self) -> bool:
        """Whether `raw` has bytes that are not text, so that `data` has U+FFFD instead."""
        return is_altered(self.raw)

    @property
    def succeeded(self) -> bool:
        """Whether the job completed. A batch succeeds only if none of its requests failed."""
        counts = self.object("request_counts") or {}
        return self.status == "completed" and not counts.get("failed")

    @property
    def is_whole(self) -> bool:
        """Whether the job has ended and its output is present."""
        return self.ended and isinstance(self.data.get("output"), list)

    @property
    def is_empty(self) -> bool:
        """Whether the output is missing although the job should have some; a retrieve may have it.

        A job that failed or was cancelled needs no output.
        """
        return self.status in WITH_OUTPUT and not objects(self.data.get("output"))

    @property
    def seconds(self) -> float | None:
        """The seconds from the job's creation to its completion; None if the API sent no times."""
        created, completed = self.data.get("created_at"), self.data.get("completed_at")
        if isinstance(created, int | float) and isinstance(completed, int | float):
            return round(max(completed - created, 0.0), 3)
        return None

    def is_emptier_than(self, other: Payload) -> bool:
        """Whether its output is emptier, see `is_emptier`."""
        return is_emptier(self.data.get("output"), other.data.get("output"))

    def object(self, key: str) -> dict[str, Any] | None:
        """Return the object at `key`, or None. An `error` may also be a string."""
        value = self.data.get(key)
        if key == "error" and value is None:
            # A batch that failed validation has a list of errors.
            value = next(iter(objects((self.object("errors") or {}).get("data"))), None)
        if isinstance(value, str) and key == "error":
            return {"code": None, "message": value}
        return value if isinstance(value, dict) else None

    @cached_property
    def answer(self) -> Answer:
        """What the output contains."""
        return Answer(self.data.get("output"))

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.answer.text

    @property
    def needs_text(self) -> bool:
        """Whether the request asked for structured output, which is a text."""
        return value_at(self.data, "text", "format", "type") in ("json_schema", "json_object")


def _name(value: object) -> str | None:
    text = _text(value, _NAME_LENGTH)
    return text and masked(text)


def _text(value: object, length: int | None = None) -> str | None:
    """Return the first characters of a string without lone surrogates; None for other types."""
    return utf8(value[:length]).decode() if isinstance(value, str) else None
