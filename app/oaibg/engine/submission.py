"""What is to be submitted: frozen, and the same however often it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.base.record import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.api.calls import Calls
    from oaibg.api.payload import Payload
    from oaibg.request.body import Request

    Create = Callable[[Calls, Callable[[], Awaitable[None]], float], Awaitable[Payload]]
    """A create by other means than the request's body: the calls, `on_sending`, the timeout."""


class Submission(Record):
    """A job to submit."""

    request: Request
    model: str | None
    completion_window: str | None = None
    job_key: str | None = None
    resubmit_unknown: bool = False
    detach: bool = False
    custom_id: str | None = None
    create: Create | None = None
