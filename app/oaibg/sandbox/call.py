"""The arguments of an operation: the request and the server's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.wire.reply import Answer

if TYPE_CHECKING:
    from starlette.types import Scope

    from oaibg.sandbox.request_log import LoggedRequest
    from oaibg.sandbox.state import State


@dataclass(slots=True)
class Call:
    """One request, as an operation receives it."""

    state: State
    log: LoggedRequest
    scope: Scope
    streams: bool
    """Whether to reply with a stream: the client requested one and nothing prevents it."""
    outcome: str | None = None
    """How a created job ends, in place of what its metadata say."""

    @property
    def id(self) -> str:
        """The ID in the path."""
        return self.log.response_id or ""

    def body(self) -> Any:
        """Return the parsed body; raise the API's error if it is not JSON."""
        if self.log.body is None and self.log.raw_body.strip() != b"null":
            raise ApiError(400, "We could not parse the JSON body of your request.")
        return self.log.body


Operation = Callable[[Call], Answer]
"""Returns the reply to a call, or raises `ApiError`."""
