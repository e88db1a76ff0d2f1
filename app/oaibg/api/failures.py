"""Turns exceptions and error replies into `CallFailed`."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from oaibg.api.error_body import error_event, is_error, read_error
from oaibg.base.json_text import read_json
from oaibg.contract.errors import CallFailed

if TYPE_CHECKING:
    from oaibg.api.error_body import ErrorBody
    from oaibg.api.secrets import Secrets


def call_failed(
    error: Exception, secrets: Secrets, *, sent: bool, begun: bool, base_url: str | None = None
) -> CallFailed:
    """Return the failure for a call that raised an exception, with secrets masked.

    Every exception becomes a failure. No exception of a server or a transport may end a monitor,
    and a create that was sent and got no reply has an unknown outcome. `sent`, `begun` and
    `base_url` are those of `CallFailed`.
    """
    failure = _failure(error, sent=sent, begun=begun)
    for name in ("code", "message", "request_id", "kind", "param"):
        text = getattr(failure, name)
        setattr(failure, name, text and secrets.masked(text))
    failure.args = (failure.message,)
    failure.base_url = base_url and secrets.masked(base_url)
    return failure


def reply_failed(
    reply: httpx2.Response, message: str, code: str = "bad_reply", **known: Any
) -> CallFailed:
    """Return the failure for a reply that can't be used or that reports an error.

    `known` goes to the constructor of `CallFailed`.
    """
    return CallFailed(
        code,
        message,
        http_status=reply.status_code,
        request_id=reply.headers.get("x-request-id"),
        retry_after=_retry_after(reply.headers),
        **known,
    )


def error_failed(reply: httpx2.Response, body: ErrorBody) -> CallFailed:
    """Return the failure for a reply, or a stream's event, that reports an error."""
    status = reply.status_code
    message, location = f"HTTP {status}", reply.headers.get("location")
    if location and 300 <= status < 400:
        message = f"{message}: redirected to {location}"
    elif body.words:
        message = f"{message}: {body.words}"
    if body.param is not None and body.param not in message:
        message = f"{message} (field: {body.param})"
    return reply_failed(
        reply,
        message,
        body.code or f"http_{status}",
        envelope=body.envelope,
        kind=body.kind,
        param=body.param,
        is_json=body.is_json,
    )


def unusable(reply: httpx2.Response, problem: str, document: object = None) -> CallFailed:
    """Return the failure for a successful reply that lacks something.

    `document` is its JSON: if that is an error, the failure has the server's words.
    """
    if is_error(document):
        return error_failed(reply, read_error(document))
    return reply_failed(reply, problem)


def not_json(reply: httpx2.Response, error: ValueError) -> CallFailed:
    """Return the failure for a successful reply that is not a JSON object.

    If it is a stream that begins with an error, the failure has the server's words.
    """
    event = _FIRST_EVENT.match(reply.content)
    with suppress(ValueError):
        document = read_json(event[1]) if event else None
        if isinstance(document, dict) and (body := error_event(document)) is not None:
            return error_failed(reply, body)
    return reply_failed(reply, f"the reply is not the API's JSON ({plain(error)})")


def plain(error: BaseException) -> str:
    """Return an exception's message on one line without a full stop, or else its type."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


_FIRST_EVENT = re.compile(rb"(?:(?:event|id|retry)?:.*\r?\n|\r?\n)*data: ?(.*)")


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
    if "CERTIFICATE_VERIFY_FAILED" in str(cause):
        reason = plain(cause).partition("verify failed: ")[2].partition(" (_ssl")[0]
        message = f"the server's certificate could not be verified ({reason or plain(cause)})"
        return CallFailed("certificate_error", message, sent=sent)
    unconnected = isinstance(cause, httpx2.ConnectError) or not sent
    code = "connect_error" if unconnected else "connection_error"
    return CallFailed(code, _with_type(cause), sent=sent)


def _status_failure(reply: httpx2.Response) -> CallFailed:
    try:
        document = read_json(reply.content)
    except ValueError:
        document = reply.text
    return error_failed(reply, read_error(document))


def _retry_after(headers: httpx2.Headers) -> str | None:
    """Return `Retry-After`, or the API's `Retry-After-Ms` in seconds, which is more exact."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if milliseconds[:15].isdecimal():
        return str(int(milliseconds[:15]) / 1000)
    return headers.get("retry-after")


def _with_type(error: BaseException) -> str:
    message, kind = plain(error), type(error).__name__
    return kind if message == kind else f"{message} ({kind})"
