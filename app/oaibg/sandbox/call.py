"""A call of an operation: the request, and the state on which the operation works."""

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
    """A request on its way through an operation."""

    state: State
    log: LoggedRequest
    scope: Scope
    streams: bool
    """Whether the client asked for a stream, and is to get one."""

    @property
    def id(self) -> str:
        """The id that the path names."""
        return self.log.response_id or ""

    def body(self) -> Any:
        """Return the JSON of its body; raise the API's error if it is not JSON."""
        if self.log.body is None and self.log.raw_body.strip() != b"null":
            raise ApiError(400, "We could not parse the JSON body of your request.")
        return self.log.body


Operation = Callable[[Call], Answer]
"""Answers a call, or raises `ApiError`."""
