"""From an exception or an error reply to `CallFailed`."""

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
    """The failure of a call that raised an exception, with its secrets masked.

    Every exception becomes one: whatever a server or a transport comes up with, a call without an
    answer is not a reason to end a monitor, and after a create was sent its outcome is unknown.
    `sent` and `begun` are those of `CallFailed`.
    """
    failure = _failure(error, sent=sent, begun=begun)
    failure.code, failure.message = secrets.masked(failure.code), secrets.masked(failure.message)
    failure.args = (failure.message,)
    failure.request_id = failure.request_id and secrets.masked(failure.request_id)
    return failure


def reply_failed(
    reply: httpx2.Response, message: str, code: str = "bad_reply", *, envelope: bool = False
) -> CallFailed:
    """The failure of a call whose reply can't be used, or reports an error."""
    return CallFailed(
        code,
        message,
        http_status=reply.status_code,
        request_id=reply.headers.get("x-request-id"),
        retry_after=_retry_after(reply.headers),
        envelope=envelope,
    )


def plain(error: BaseException) -> str:
    """An exception's message on one line, without a full stop; its type if it has none."""
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
        cause = error  # of a body that the SDK leaves to be read
    if cause is None:
        return CallFailed("client_error", _with_type(error), sent=sent)
    unconnected = isinstance(cause, httpx2.ConnectError) or not sent
    code = "connect_error" if unconnected else "connection_error"
    return CallFailed(code, _with_type(cause), sent=sent)


def _status_failure(reply: httpx2.Response) -> CallFailed:
    """The failure that an error reply reports, whatever its body is.

    The API's envelope is `{"error": {…}}`; others send `{"error": "…"}`, `{"detail": …}`, a text
    or a page.
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
        message = f"{message}, with a page that is not the API's"
    if envelope and isinstance(param, str) and param not in message:
        message = f"{message} (field: {param})"
    code = f"http_{reply.status_code}" if code in (None, "") else str(code)
    return reply_failed(reply, message, code, envelope=envelope)


def _retry_after(headers: httpx2.Headers) -> str | None:
    """The `Retry-After` header; the API's own, in milliseconds, is more exact."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if milliseconds[:15].isdecimal():
        return str(int(milliseconds[:15]) / 1000)
    return headers.get("retry-after")


def _with_type(error: BaseException) -> str:
    message, kind = plain(error), type(error).__name__
    return kind if message == kind else f"{message} ({kind})"
