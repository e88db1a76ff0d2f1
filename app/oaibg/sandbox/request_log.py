"""The log of requests: what was sent, and how the server replied."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from oaibg.sandbox.encoding import from_json

if TYPE_CHECKING:
    from starlette.types import Scope

_SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "cookie")


@dataclass(slots=True)
class LoggedRequest:
    """A request that was received completely, and its result."""

    method: str
    path: str
    """Without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case; API keys and cookies are masked."""
    body: Any
    """The parsed JSON, or None if there is none. For an upload: its `purpose`, `filename` and
    `bytes`."""
    raw_body: bytes
    at: float
    """Unix seconds."""
    status: int | None = None
    """None until a reply begins, and if the connection ends without a reply."""
    response_id: str | None = None
    """The ID of the job, container, batch or file that the request created or named."""
    fault: str | None = None
    """The kind of the scripted fault that was applied, if any."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {**asdict(self), "raw_body": self.raw_body.decode("utf-8", "replace")}


def log_request(scope: Scope, raw_body: bytes) -> LoggedRequest:
    """Return the record of a request that was received just now."""
    headers: dict[str, str] = {}
    for key, value in scope["headers"]:
        headers.setdefault(_decoded(key), _decoded(value))
    query = scope["query_string"].decode("latin-1")
    uploads = headers.get("content-type", "").startswith("multipart/")
    for name in _SECRET_HEADERS:
        if name in headers:
            headers[name] = "Bearer ***" if name == "authorization" else "***"
    return LoggedRequest(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        headers=headers,
        body=None if uploads else _parsed(raw_body),
        raw_body=raw_body,
        at=time.time(),
        response_id=scope["path_params"].get("id"),
    )


@functools.lru_cache(maxsize=1024)
def _decoded(raw: bytes) -> str:
    # The cache saves memory: most requests of a client have the same headers.
    return raw.decode("latin-1")


def _parsed(raw_body: bytes) -> Any:
    try:
        return from_json(raw_body) if raw_body else None
    except (ValueError, RecursionError):
        return None
