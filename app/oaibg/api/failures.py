"""Turns exceptions and error replies into `CallFailed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import openai

from oaibg.api.error_body import MESSAGES, is_error, read_error
from oaibg.api.stream import begins_events, events_of
from oaibg.base.json_text import read_json, value_at
from oaibg.base.text import host_of
from oaibg.contract.errors import CallFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oaibg.api.error_body import ErrorBody
    from oaibg.api.secrets import Secrets
    from oaibg.api.stream import StreamEvent


def call_failed(
    error: Exception, secrets: Secrets, *, sent: bool, begun: bool, base_url: str | None = None
) -> CallFailed:
    """Return the failure for a call that raised an exception, with secrets masked.

    Every exception becomes a failure. No exception of a server or a transport may end a monitor,
    and a create that was sent and got no reply has an unknown outcome. `sent`, `begun` and
    `base_url` are those of `CallFailed`.
    """
    failure = _failure(error, host_of(base_url) or "the server", sent=sent, begun=begun)
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
    """Return the failure for a successful reply that lacks something, with the server's words.

    `document` is its JSON. A response has no words about the call.
    """
    body = read_error(document)
    if is_error(document):
        return error_failed(reply, body)
    has_words = any(value_at(document, key) for key in MESSAGES)
    if not document or (value_at(document, "id") and not has_words):
        return reply_failed(reply, problem)
    return reply_failed(
        reply, f"{problem}: {body.words}", body.code or "bad_reply", kind=body.kind, is_json=True
    )


def not_json(reply: httpx2.Response, error: ValueError) -> CallFailed:
    """Return the failure for a successful reply that is not a JSON object.

    It has the server's words: those of the error in a stream, of a list, a text or an HTML page.
    """
    raw, problem = reply.content, "the reply is not the API's JSON"
    if begins_events(raw) and (event := _error_of(events_of(raw))) is not None:
        return error_failed(reply, event)
    try:
        return unusable(reply, problem, read_json(raw))
    except ValueError:
        text = reply.text[:_TEXT_LENGTH]
    is_cut = text.lstrip().startswith(("{", "["))
    words = None if is_cut else read_error(text).words
    return reply_failed(reply, f"{problem}: {words}" if words else f"{problem} ({plain(error)})")


def plain(error: BaseException) -> str:
    """Return an exception's message on one line without a full stop, or else its type."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


_TEXT_LENGTH = 10_000


def _error_of(events: Iterable[StreamEvent]) -> ErrorBody | None:
    """Return the first error; after an event with a response, it says nothing about the create."""
    created_some = False
    for event in events:
        if event.error is not None:
            return event.error._replace(envelope=event.error.envelope and not created_some)
        created_some = created_some or event.payload is not None
    return None


def _failure(error: Exception, host: str, *, sent: bool, begun: bool) -> CallFailed:
    if isinstance(error, CallFailed):
        return error
    if isinstance(error, openai.APIStatusError):
        return _status_failure(error.response)
    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        code = "timeout" if sent else "connect_timeout"
        message = f"the request to {host} timed out" if sent else f"no connection to {host} in time"
        return CallFailed(code, message, sent=sent, begun=begun)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    if isinstance(error, httpx2.TransportError):
        cause = error  # raised by reading a body, which the SDK doesn't do itself
    if cause is None:
        return CallFailed("client_error", _with_type(error), sent=sent)
    if "CERTIFICATE_VERIFY_FAILED" in str(cause):
        reason = plain(cause).partition("verify failed: ")[2].partition(" (_ssl")[0]
        message = f"{host}'s certificate could not be verified ({reason or plain(cause)})"
        return CallFailed("certificate_error", message, sent=sent)
    unconnected = isinstance(cause, httpx2.ConnectError) or not sent
    code = "connect_error" if unconnected else "connection_error"
    is_worded = isinstance(cause, httpx2.ConnectError)  # by `sockets`
    return CallFailed(code, plain(cause) if is_worded else _with_type(cause), sent=sent)


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
