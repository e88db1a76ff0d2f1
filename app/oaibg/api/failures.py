"""Turns exceptions and error replies into `CallFailed`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import openai

from oaibg.base.json_text import read_json, value_at
from oaibg.contract.errors import CallFailed

if TYPE_CHECKING:
    from oaibg.api.secrets import Secrets


def call_failed(error: Exception, secrets: Secrets, *, sent: bool, begun: bool) -> CallFailed:
    """Return the failure for a call that raised an exception, with secrets masked.

    Every exception becomes a failure. No exception of a server or a transport may end a monitor,
    and a create that was sent and got no reply has an unknown outcome. `sent` and `begun` are those
    of `CallFailed`.
    """
    failure = _failure(error, sent=sent, begun=begun)
    failure.code, failure.message = secrets.masked(failure.code), secrets.masked(failure.message)
    failure.args = (failure.message,)
    failure.request_id = failure.request_id and secrets.masked(failure.request_id)
    return failure


def reply_failed(
    reply: httpx2.Response, message: str, code: str = "bad_reply", *, envelope: bool = False
) -> CallFailed:
    """Return the failure for a reply that can't be used or that reports an error."""
    return CallFailed(
        code,
        message,
        http_status=reply.status_code,
        request_id=reply.headers.get("x-request-id"),
        retry_after=_retry_after(reply.headers),
        envelope=envelope,
    )


def plain(error: BaseException) -> str:
    """Return an exception's message on one line without a full stop, or else its type."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _failure(error: Exception, *, sent: bool, begun: bool) -> CallFailed:
    if isinstance(error, CallFailed):
        return error
    if isinstance(error, openai.APIStatusError):
        return _status_failure(error.response)
    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        code = "timeout" if sent else "connect_timeout"
        return CallFailed(code, "the request timed out", sent=sent, begun=begun)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    if isinstance(error, httpx2.TransportError):
        cause = error  # raised by reading a body, which the SDK doesn't do itself
    if cause is None:
        return CallFailed("client_error", _with_type(error), sent=sent)
    unconnected = isinstance(cause, httpx2.ConnectError) or not sent
    code = "connect_error" if unconnected else "connection_error"
    return CallFailed(code, _with_type(cause), sent=sent)


def _status_failure(reply: httpx2.Response) -> CallFailed:
    """Return the failure for an error reply with any kind of body.

    The API's envelope is `{"error": {…}}`. Other servers send `{"error": "…"}`, `{"detail": …}`,
    plain text or an HTML page.
    """
    try:
        document = read_json(reply.content)
    except ValueError:
        document = reply.text
    error = value_at(document, "error")
    envelope = isinstance(error, dict)
    fields = error if envelope else document
    code, param = value_at(fields, "code"), value_at(fields, "param")
    detail = fields
    if isinstance(fields, dict):
        detail = fields.get("message") or fields.get("detail") or fields.get("error")
    if isinstance(detail, list | dict):
        detail = json.dumps(detail, separators=(",", ":"))
    message = f"HTTP {reply.status_code}"
    if isinstance(detail, str) and detail.strip() and not detail.lstrip().startswith("<"):
        message = f"{message}: {' '.join(detail.split())}"
    elif location := reply.headers.get("location"):
        message = f"{message}: redirected to {location}"
    elif detail:
        message = f"{message}: the reply is not an API error"
    if envelope and isinstance(param, str) and param not in message:
        message = f"{message} (field: {param})"
    code = f"http_{reply.status_code}" if code in (None, "") else str(code)
    return reply_failed(reply, message, code, envelope=envelope)


def _retry_after(headers: httpx2.Headers) -> str | None:
    """Return `Retry-After`, or the API's `Retry-After-Ms` in seconds, which is more exact."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if milliseconds[:15].isdecimal():
        return str(int(milliseconds[:15]) / 1000)
    return headers.get("retry-after")


def _with_type(error: BaseException) -> str:
    message, kind = plain(error), type(error).__name__
    return kind if message == kind else f"{message} ({kind})"
