"""Replies with a status and a body: those of operations, errors and faults."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from oaibg.sandbox.encoding import to_json
from oaibg.sandbox.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.sandbox.faults import Fault
    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.personality import Personality
    from oaibg.sandbox.wire.writer import Writer


class Answer(Protocol):
    """The result of an operation: a `Reply`, a `ReplyAtEnd` or an `EventStream`."""

    async def send(self, writer: Writer) -> None:
        """Send it to the client."""
        raise NotImplementedError


@dataclass(slots=True)
class Reply:
    """A reply that is ready to be sent."""

    status: int
    body: bytes
    media_type: str = "application/json"

    async def send(self, writer: Writer) -> None:
        """Send it to the client."""
        await writer.send(self.status, self.media_type, self.body)


@dataclass(slots=True)
class ReplyAtEnd:
    """The reply to a create without background mode: the response, once the job has ended."""

    job: Job
    show: Callable[[Job, str], dict[str, Any]]
    """Returns the response object of a job for a status."""

    async def send(self, writer: Writer) -> None:
        """Wait for the end of the job and send it, unless the client disconnects first."""
        if not await writer.connection.gone_before_end(self.job):
            await json_reply(self.show(self.job, self.job.status(time.time()))).send(writer)


def json_reply(payload: object) -> Reply:
    """Return the reply of a successful operation."""
    return Reply(200, to_json(payload))


def error_reply(error: ApiError, personality: Personality) -> Reply:
    """Return an error in the format of the personality."""
    status, body = personality.error(error)
    if isinstance(body, str):
        return Reply(status, body.encode("utf-8", "replace"), "text/plain; charset=utf-8")
    return Reply(status, to_json(body))


def fault_reply(fault: Fault, path: str, personality: Personality) -> Reply:
    """Return the reply of a `status`, `html` or `raw` fault."""
    if fault.kind == "html":
        page = _page(200, "A proxy's login page") if fault.body is None else str(fault.body)
        return Reply(fault.status or 200, page.encode(), "text/html; charset=utf-8")
    status = fault.status or (500 if fault.kind == "status" else 200)
    if isinstance(fault.body, str):
        return Reply(status, fault.body.encode("utf-8", "surrogatepass"))
    if fault.body is not None:
        return Reply(status, to_json(fault.body))
    if status in (502, 504):
        page = _page(status, HTTPStatus(status).phrase)
        return Reply(status, page.encode(), "text/html; charset=utf-8")
    return error_reply(_usual_error(status, path), personality)


def _usual_error(status: int, path: str) -> ApiError:
    blamed = "server_error" if status >= 500 else "invalid_request_error"
    message, kind, code = _USUAL_ERRORS.get(status, (_phrase(status), blamed, None))
    return ApiError(status, message.replace("{path}", path), kind=kind, code=code)


_USUAL_ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("Invalid request.", "invalid_request_error", None),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: (
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    404: ("Nothing was found at {path}.", "invalid_request_error", None),
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    500: (
        "The server had an error while processing your request. Sorry about that!",
        "server_error",
        None,
    ),
    503: (
        "Our servers are currently overloaded. Please try again later.",
        "service_unavailable_error",
        "server_is_overloaded",
    ),
}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def _page(status: int, title: str) -> str:
    return (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
