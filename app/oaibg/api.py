"""The Responses API through the SDK: calls, raw JSON payloads, and what failed calls tell.

The only importer of `openai`, which takes a third of a second: import this module where a request
is about to be made. Raw replies are used throughout: the SDK's typed models cost much, and what the
user gets is what the server sent.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

# The import makes some hundred thousand objects that all stay: collecting while it runs finds
# nothing, and freezing them afterwards keeps them out of every later collection. The resource
# would be imported by the first call; here it is, too.
gc.disable()
try:
    import httpx2
    import openai
    import openai.resources.responses.responses
finally:
    gc.enable()
    gc.freeze()

from oaibg.errors import AuthRefused, CallFailed, UsageError
from oaibg.payload import Payload, is_response_id

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

CONNECT_TIMEOUT = 10.0

_SECRET_LENGTH = 12
"""Characters from which a key is a secret; the keys of local servers are words, as `any`."""

_ENVIRONMENT_HINT = (
    "Check OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS, SSL_CERT_FILE "
    "and the proxy variables."
)

_on_sending: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar(
    "on_sending", default=None
)


class Api:
    """The Responses API at one base URL.

    Args:
        base_url: where the API is, as in `https://api.openai.com/v1`.
        api_key: the bearer key.

    Every call raises `CallFailed` where it brought no usable answer.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        # The transport's loggers write whole URLs and headers; the SDK's own say what is needed.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        logging.getLogger("httpcore2").setLevel(logging.WARNING)
        self._base_url = base_url
        self._api_key = api_key
        self._tls: ssl.SSLContext | None = None
        self._creating: openai.AsyncOpenAI | None = None
        self._reading: openai.AsyncOpenAI | None = None

    async def create(
        self,
        body: dict[str, Any],
        on_sending: Callable[[], Awaitable[None]],
        *,
        timeout: float,
    ) -> Payload:
        """POST a response once, exactly as `body` is.

        Args:
            body: the request; sent as `extra_body`, because the SDK's own parameters are
                transformed on their way.
            on_sending: awaited when the connection stands and the request's first byte is about
                to be written. Raising in it sends nothing.
            timeout: seconds for all of it.
        """
        if self._creating is None:
            # A client of its own: a connection that was kept alive may be closing as the request
            # goes out, and a POST that fails so can't be told from one that arrived. Redirects
            # are not followed: the second server might be another one.
            self._creating = self._client(keepalive_expiry=0, hooks=[_trace_sending])
        client, sent = self._creating, False

        async def noted() -> None:
            nonlocal sent
            await on_sending()
            sent = True

        token = _on_sending.set(noted)
        try:
            with self._translated(lambda: sent):
                async with asyncio.timeout(timeout):
                    reply = await client.responses.with_raw_response.create(extra_body=body)
                payload = _payload(reply.http_response)
                if payload.id is None or not is_response_id(payload.id):
                    what = "no id" if payload.id is None else f"the unusable id {payload.id[:99]!a}"
                    raise _failed(reply.http_response, "bad_reply", f"the reply has {what}")
                return payload
        finally:
            _on_sending.reset(token)

    async def retrieve(self, response_id: str, timeout: float) -> Payload:
        """GET a response; `timeout` seconds for all of it."""
        with self._translated():
            async with asyncio.timeout(timeout):
                reply = await self._reader().responses.with_raw_response.retrieve(response_id)
            payload = _payload(reply.http_response)
            if payload.status is None:
                raise _failed(reply.http_response, "bad_reply", "the reply has no status")
            return payload

    async def cancel(self, response_id: str, timeout: float) -> Payload | None:
        """POST a cancel; doing it again changes nothing. `timeout` seconds for all of it.

        Returns:
            None where the server took it and its answer tells nothing of the job.
        """
        with self._translated():
            async with asyncio.timeout(timeout):
                reply = await self._reader().responses.with_raw_response.cancel(response_id)
            try:
                payload = Payload(reply.http_response.content)
            except ValueError:
                return None
            return payload if payload.status is not None else None

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._creating, self._reading):
            if client is not None:
                await client.close()

    def _reader(self) -> openai.AsyncOpenAI:
        if self._reading is None:
            # Longer than the usual poll interval: the default of 5 s would connect for each poll.
            self._reading = self._client(keepalive_expiry=75, hooks=[])
        return self._reading

    def _client(
        self, *, keepalive_expiry: float, hooks: list[Callable[..., Any]]
    ) -> openai.AsyncOpenAI:
        timeouts = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
        try:
            if self._tls is None:
                # Both clients share it: to read the certificates takes some 50 ms.
                self._tls = httpx2.create_ssl_context()
            transport = httpx2.AsyncClient(
                verify=self._tls,
                timeout=timeouts,
                limits=httpx2.Limits(keepalive_expiry=keepalive_expiry),
                follow_redirects=False,
                event_hooks={"request": hooks},
            )
            return openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                timeout=timeouts,
                max_retries=0,  # there is one retry policy, and it is ours
                http_client=transport,
            )
        except openai.OpenAIError as error:
            raise AuthRefused(str(error), code="client", outcome="not_created") from error
        except (ImportError, OSError, ValueError, TypeError, httpx2.InvalidURL) as error:
            # UnicodeError and ssl.SSLError are among these.
            raise UsageError(
                f"The client can't be set up: {_plain(error)} ({type(error).__name__}).",
                hint=_ENVIRONMENT_HINT,
                outcome="not_created",
            ) from error

    @contextmanager
    def _translated(self, sent: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Whatever a call raises as `CallFailed`, without the key; `sent` tells how far it came."""
        try:
            with _as_call_failed(sent):
                yield
        except CallFailed as failure:
            if len(self._api_key) >= _SECRET_LENGTH:
                failure.message = failure.message.replace(self._api_key, "***")
            raise


@contextmanager
def _as_call_failed(sent: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except openai.APIStatusError as error:
        raise _status_failure(error) from error
    except (openai.APITimeoutError, TimeoutError) as error:
        code = "timeout" if sent() else "connect_timeout"
        raise CallFailed(code, "the request timed out", sent=sent()) from error
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        if isinstance(cause, httpx2.LocalProtocolError):
            raise _unsendable(cause) from error
        unconnected = isinstance(cause, httpx2.ConnectError)
        code = "connect_error" if unconnected or not sent() else "connection_error"
        message = f"{_plain(cause)} ({type(cause).__name__})"
        raise CallFailed(code, message, sent=sent()) from error
    except UnicodeError as error:
        # Only headers are encoded in there, and before anything is sent.
        raise _unsendable(error) from error
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise CallFailed("client_error", _plain(error), sent=sent()) from error


def _unsendable(error: Exception) -> UsageError:
    """The error for a request that can't be put into HTTP: not a byte of it was written."""
    return UsageError(
        f"The request's headers can't be sent ({type(error).__name__}).",
        hint=_ENVIRONMENT_HINT,
        outcome="not_created",
    )


async def _trace_sending(request: httpx2.Request) -> None:
    """Tell when the request's first byte is about to be written.

    Refused connections, DNS, connect timeouts and TLS failures never come that far. A tunnel's
    CONNECT carries the same extension, and is not the request.
    """
    noted = _on_sending.get()

    async def trace(name: str, info: dict[str, Any]) -> None:
        if (
            name.endswith("send_request_headers.started")
            and info["request"].method != b"CONNECT"
            and noted is not None
        ):
            await noted()

    request.extensions["trace"] = trace


def _status_failure(error: openai.APIStatusError) -> CallFailed:
    response = error.response
    body: Any = error.body
    envelope = _has_envelope(response)
    if isinstance(body, dict):
        detail = body.get("message") or body.get("detail") or body.get("error")
        code = body.get("code")
    else:
        detail, code = body, None
    message = f"HTTP {response.status_code}"
    if isinstance(detail, str) and detail.strip() and not detail.lstrip().startswith("<"):
        message = f"{message}: {' '.join(detail.split())[:1000]}"
    elif location := response.headers.get("location"):
        message = f"{message}: redirected to {location[:200]}"
    elif detail:
        message = f"{message}, with a page that is not the API's"
    if envelope and isinstance(body.get("param"), str) and body["param"] not in message:
        message = f"{message} (field: {body['param']})"
    named = str(code) if code not in (None, "") else f"http_{response.status_code}"
    return _failed(response, named, message, envelope=envelope)


def _has_envelope(response: httpx2.Response) -> bool:
    """Whether the body is `{"error": {…}}`: the SDK's `body` has the inner object already."""
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and isinstance(document.get("error"), dict)


def _payload(response: httpx2.Response) -> Payload:
    try:
        return Payload(response.content, response.headers.get("x-request-id"))
    except ValueError as error:
        raise _failed(
            response, "bad_reply", f"the reply is not the API's JSON ({_plain(error)})"
        ) from error


def _failed(
    response: httpx2.Response, code: str, message: str, *, envelope: bool = False
) -> CallFailed:
    headers = response.headers
    return CallFailed(
        code,
        message,
        http_status=response.status_code,
        request_id=headers.get("x-request-id"),
        retry_after=headers.get("retry-after"),
        envelope=envelope,
    )


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
