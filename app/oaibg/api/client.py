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
import math
import re
import zlib
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any
from urllib.request import getproxies

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

from oaibg.api.connections import Connections
from oaibg.api.payload import Payload, is_batch_id, is_response_id
from oaibg.api.secrets import credentials
from oaibg.base.json_text import objects
from oaibg.contract.errors import AuthRefused, CallFailed, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oaibg.api.stream import EventStream

CONNECT_TIMEOUT = 10.0
REPLY_BYTES_MAX = 1 << 30

_TRANSFER_TIMEOUTS = httpx2.Timeout(120.0, connect=CONNECT_TIMEOUT)
"""For what may have hundreds of megabytes: how long nothing may come or go."""

_PIECE_BYTES = 1 << 20

_SECRET_LENGTH = 12
"""Characters from which a key, or a part of a header, is a secret; the keys of local servers are
words, as `any`."""

_TOLD_LENGTH = 1000
"""Characters of a server's words that are handed on."""

_ENVIRONMENT_HINT = (
    "Check OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS, SSL_CERT_FILE "
    "and the proxy variables."
)

_exchange: ContextVar[_Exchange] = ContextVar("exchange")


class _Exchange:
    """How far one call has come."""

    def __init__(
        self, on_sending: Callable[[], Awaitable[None]] | None = None, *, bounded: bool = True
    ) -> None:
        self.on_sending = on_sending
        self.bounded = bounded
        """Whether the reply is read into memory, and must end somewhere."""
        self.sent = on_sending is None
        """Whether the request may have reached the server; of a create alone it matters."""
        self.begun = False
        """Whether the reply's head has arrived."""
        self.stopped: Exception | None = None
        """What `on_sending` raised, so that nothing was sent."""

    async def send(self) -> None:
        """The request's first byte is about to be written."""
        if self.on_sending is not None:
            try:
                await self.on_sending()
            except Exception as error:
                self.stopped = error
                raise
        self.sent = True


class Api:
    """The Responses API at one base URL.

    Args:
        base_url: where the API is, as in `https://api.openai.com/v1`.
        api_key: the bearer key.

    Every call raises `CallFailed` where it brought no usable answer.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._secrets = {secret for secret in credentials() if len(secret) >= 4}
        self._hide(api_key)
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._tell_of)  # `OPENAI_LOG=debug` writes what servers send
        self._tls: ssl.SSLContext | None = None
        self._creating: openai.AsyncOpenAI | None = None
        self._reading: openai.AsyncOpenAI | None = None
        self._listening: openai.AsyncOpenAI | None = None

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
        client = self._creator()
        async with self._exchanging(timeout, on_sending):
            reply = await client.responses.with_raw_response.create(extra_body=body)
            return self._created(_payload(reply.http_response), reply.http_response)

    async def create_stream(
        self,
        body: dict[str, Any],
        on_sending: Callable[[], Awaitable[None]],
        *,
        timeout: float,
    ) -> tuple[Payload, EventStream | None]:
        """POST a response once, as `create` does, and go on listening to it.

        Args:
            body: the request, which asks for a stream.
            on_sending: as of `create`.
            timeout: seconds up to the first event that tells the id.

        Returns:
            The response as that event has it, and the stream from that event on; or the whole
            reply, where the server takes no notice of `stream`.
        """
        client = self._creator()
        async with AsyncExitStack() as opening, self._exchanging(timeout, on_sending):
            call = client.responses.with_streaming_response.create(
                extra_body=body, extra_headers=_UNPACKED
            )
            http = (await opening.enter_async_context(call)).http_response
            if not _is_stream(http):
                await http.aread()
                return self._created(_payload(http), http), None
            stream = self._stream(http)
            while (event := await stream.next()) is not None:
                payload = event.payload
                if payload is not None and payload.id is not None:
                    payload.request_id = http.headers.get("x-request-id")
                    stream.give_back(event)
                    created = self._created(payload, http)
                    opening.pop_all()
                    return created, stream
            raise _failed(http, "bad_reply", "the stream ended before it told the id")

    async def retrieve(self, response_id: str, timeout: float) -> Payload:
        """GET a response or a batch; `timeout` seconds for all of it."""
        client = self._reader()
        asked = client.batches if is_batch_id(response_id) else client.responses
        async with self._exchanging(timeout):
            reply = await asked.with_raw_response.retrieve(response_id, extra_headers=_SPARED)
            payload = _payload(reply.http_response)
            if payload.status is None:
                raise _failed(reply.http_response, "bad_reply", "the reply has no status")
            return payload

    async def stream(
        self, response_id: str, starting_after: int | None, timeout: float
    ) -> EventStream | Payload:
        """GET a response's events, from its first or from what comes after a number.

        Args:
            response_id: of a job that was created with `stream`.
            starting_after: a `sequence_number`.
            timeout: seconds until the reply begins.

        Returns:
            The open stream; or the response, where the server takes no notice of `stream`.
        """
        if self._listening is None:
            # A client of its own: a stream takes a connection for as long as its job runs.
            self._listening = self._client(keepalive_expiry=75, hooks=[])
        after = openai.omit if starting_after is None else starting_after
        async with AsyncExitStack() as opening, self._exchanging(timeout):
            call = self._listening.responses.with_streaming_response.retrieve(
                response_id, stream=True, starting_after=after, extra_headers=_UNPACKED
            )
            http = (await opening.enter_async_context(call)).http_response
            if _is_stream(http):
                opening.pop_all()
                return self._stream(http)
            await http.aread()
            payload = _payload(http)
            if payload.status is None:
                raise _failed(http, "bad_reply", "the reply is neither a stream nor a response")
            return payload

    async def cancel(self, response_id: str, timeout: float) -> Payload | None:
        """POST a cancel; doing it again changes nothing. `timeout` seconds for all of it.

        Returns:
            None where the server took it and its answer tells nothing of the job.
        """
        client = self._reader()
        asked = client.batches if is_batch_id(response_id) else client.responses
        async with self._exchanging(timeout):
            reply = await asked.with_raw_response.cancel(response_id)
            try:
                payload = Payload(reply.http_response.content)
            except ValueError:
                return None
            return payload if payload.status is not None else None

    async def upload(self, name: str, file: IO[bytes], timeout: float) -> str:
        """POST a file for a batch; gives its id. `timeout` seconds for all of it."""
        client = self._reader()
        async with self._exchanging(timeout):
            reply = await client.files.with_raw_response.create(
                file=(name, file, "application/jsonl"), purpose="batch", timeout=_TRANSFER_TIMEOUTS
            )
            payload = _payload(reply.http_response)
            if payload.id is None:
                raise _failed(reply.http_response, "bad_reply", "the reply has no id")
            return payload.id

    async def create_batch(
        self,
        file_id: str,
        metadata: dict[str, str],
        on_sending: Callable[[], Awaitable[None]],
        *,
        timeout: float,
    ) -> Payload:
        """POST a batch of responses once; else as `create`."""
        client = self._creator()
        async with self._exchanging(timeout, on_sending):
            reply = await client.batches.with_raw_response.create(
                completion_window="24h",
                endpoint="/v1/responses",
                input_file_id=file_id,
                metadata=metadata,
            )
            return self._created(_payload(reply.http_response), reply.http_response)

    async def list_batches(self, after: str | None, timeout: float) -> list[dict[str, Any]]:
        """GET a page of the batches, the newest first; `timeout` seconds for all of it.

        Args:
            after: the id of the last batch on the page before.
            timeout: seconds.
        """
        client = self._reader()
        async with self._exchanging(timeout):
            page: Any = {"limit": 100} if after is None else {"limit": 100, "after": after}
            reply = await client.batches.with_raw_response.list(**page)
            return objects(_payload(reply.http_response).data.get("data"))

    async def download(self, file_id: str, into: IO[bytes], timeout: float) -> None:
        """GET a file's content, and write it; `timeout` seconds for all of it.

        Raises:
            OSError: it can't be written.
        """
        client = self._reader()
        getting = client.files.with_streaming_response.content(file_id, timeout=_TRANSFER_TIMEOUTS)
        async with self._exchanging(timeout, bounded=False), getting as reply:
            if "html" in reply.headers.get("content-type", ""):
                raise _failed(reply.http_response, "bad_reply", "the reply is a page, not the file")
            async for piece in reply.iter_bytes(_PIECE_BYTES):
                try:
                    into.write(piece)
                except OSError as error:
                    _exchange.get().stopped = error
                    raise

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._creating, self._reading, self._listening):
            if client is not None:
                await client.close()

    def _created(self, payload: Payload, reply: httpx2.Response) -> Payload:
        """The answer to a create, if it tells a usable id."""
        if payload.id is None or not is_response_id(payload.id):
            what = "no id" if payload.id is None else f"the unusable id {payload.id!a}"
            raise _failed(reply, "bad_reply", f"the reply has {what}")
        if payload.request_id is not None:
            payload.request_id = self._told(payload.request_id)
        return payload

    def _stream(self, reply: httpx2.Response) -> EventStream:
        from oaibg.api.stream import EventStream

        return EventStream(reply, lambda: self._exchanging(None))

    def _creator(self) -> openai.AsyncOpenAI:
        if self._creating is None:
            # A client of its own: a connection that was kept alive may be closing as the request
            # goes out, and a POST that fails so can't be told from one that arrived. Redirects
            # are not followed: the second server might be another one.
            self._creating = self._client(keepalive_expiry=0, hooks=[_trace_sending])
        return self._creating

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
            limits = httpx2.Limits(max_connections=None, keepalive_expiry=keepalive_expiry)
            transport = httpx2.AsyncClient(
                verify=self._tls,
                timeout=timeouts,
                limits=limits,
                transport=_connections(self._tls, limits),
                headers={"accept-encoding": "gzip"},
                follow_redirects=False,
                event_hooks={"request": hooks, "response": [_note_reply]},
            )
            client = openai.AsyncOpenAI(
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
            message = _without_credentials(_plain(error))
            raise _unusable(f"{message} ({type(error).__name__})") from error
        for name, value in client.default_headers.items():
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(str(value))):
                raise _unusable(f"the header {name[:99]!a} can't be sent")
            if not name.lower().startswith(_PUBLIC_HEADERS):
                self._hide(str(value))
        return client

    def _hide(self, value: str) -> None:
        """Take a header's value, and what it is made of, for secrets."""
        parts = {value, *re.split(r"[^A-Za-z0-9_.+/~-]+", value)}
        self._secrets |= {part for part in parts if len(part) >= _SECRET_LENGTH}

    def _tell_of(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._told(record.getMessage()), None
        return True

    @asynccontextmanager
    async def _exchanging(
        self,
        timeout: float | None,
        on_sending: Callable[[], Awaitable[None]] | None = None,
        *,
        bounded: bool = True,
    ) -> AsyncIterator[None]:
        """One call; whatever it raises as `CallFailed`, without a secret."""
        exchange = _Exchange(on_sending, bounded=bounded)
        token = _exchange.set(exchange)
        try:
            async with asyncio.timeout(timeout):
                yield
        except Exception as error:  # noqa: BLE001 - `_call_failed` says why none is let through
            if exchange.stopped is not None:
                raise exchange.stopped from None
            failure = _call_failed(error, exchange)
            failure.code = self._told(failure.code)
            failure.message = self._told(failure.message)
            failure.args = (failure.message,)
            if failure.request_id is not None:
                failure.request_id = self._told(failure.request_id)
            raise failure from error.__cause__
        finally:
            _exchange.reset(token)

    def _told(self, text: str) -> str:
        """A server's words as they may be handed on."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = _without_credentials(text)
        return text if len(text) <= _TOLD_LENGTH else f"{text[:_TOLD_LENGTH]}…"


_UNPACKED = {"accept-encoding": "identity"}
"""Headers of a stream: who packs may keep what is small until there is more."""


def _connections(tls: ssl.SSLContext, limits: httpx2.Limits) -> Connections | None:
    """How to connect; None where a proxy is set, which httpx2 has to look after itself."""
    proxies = getproxies()
    if any(address for name, address in proxies.items() if name != "no"):
        return None
    return Connections(lambda: httpx2.AsyncHTTPTransport(verify=tls, limits=limits))


_SPARED = {
    f"X-Stainless-{name}": openai.Omit()
    for name in (
        *("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async"),
        *("Retry-Count", "Read-Timeout"),
    )
}
"""The SDK's headers about itself, left out of polls: each makes every one of them dearer."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?|")
_PUBLIC_HEADERS = ("accept", "content-type", "user-agent", "openai-", "x-stainless-")


def _unusable(what: str) -> UsageError:
    """The error for an environment that no request can be made with."""
    return UsageError(
        f"The client can't be set up: {what}.", hint=_ENVIRONMENT_HINT, outcome="not_created"
    )


def _call_failed(error: Exception, exchange: _Exchange) -> CallFailed:
    """What an exception tells of a call.

    None is let through: whatever a server or a transport comes up with, a call that brought
    nothing is no reason to end a monitor, and after a create has gone out its outcome is unknown.
    """
    sent = exchange.sent
    if isinstance(error, CallFailed):
        return error
    if isinstance(error, openai.APIStatusError):
        return _status_failure(error.response)
    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        code = "timeout" if sent else "connect_timeout"
        return CallFailed(code, "the request timed out", sent=sent, begun=exchange.begun)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    if isinstance(error, httpx2.TransportError):
        cause = error  # of a body that the SDK leaves to be read
    if cause is None:
        return CallFailed("client_error", _named(error), sent=sent)
    unconnected = isinstance(cause, httpx2.ConnectError)
    code = "connect_error" if unconnected or not sent else "connection_error"
    return CallFailed(code, _named(cause), sent=sent)


async def _trace_sending(request: httpx2.Request) -> None:
    """Tell when the request's first byte is about to be written.

    Refused connections, DNS, connect timeouts and TLS failures never come that far. A tunnel's
    CONNECT carries the same extension, and is not the request.
    """
    exchange = _exchange.get()

    async def trace(name: str, info: dict[str, Any]) -> None:
        if name.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            await exchange.send()

    request.extensions["trace"] = trace


async def _note_reply(reply: httpx2.Response) -> None:
    """Tell that a reply's head has arrived, and bound what follows."""
    exchange = _exchange.get()
    exchange.begun = True
    length = reply.headers.get("content-length", "")
    known = length.isdecimal() and len(length) < 20 and int(length) <= REPLY_BYTES_MAX
    if known and "content-encoding" not in reply.headers:
        return
    if isinstance(reply.stream, httpx2.AsyncByteStream):
        encodings = reply.headers.pop("content-encoding", "").lower().replace(",", " ").split()
        reply.stream = _Bounded(reply.stream, encodings, bounded=exchange.bounded)


class _Bounded(httpx2.AsyncByteStream):
    """A reply's body, unpacked, which must end somewhere where memory takes it."""

    def __init__(
        self, stream: httpx2.AsyncByteStream, encodings: list[str], *, bounded: bool
    ) -> None:
        self._stream = stream
        self._left = REPLY_BYTES_MAX if bounded else math.inf
        self._encodings = encodings

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._left
        pieces = aiter(self._stream)
        for encoding in reversed(self._encodings):
            if encoding != "identity":
                pieces = _unpacked(pieces, encoding)
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise CallFailed("reply_too_large", f"the reply is over {REPLY_BYTES_MAX:,} bytes")
            yield piece

    async def aclose(self) -> None:
        """Close the connection, or give it back."""
        await self._stream.aclose()


async def _unpacked(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """A body piece by piece: one small piece of a packed one may be a large one."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise CallFailed(
            "bad_reply", f"the reply is packed as {encoding!a}, which nobody asked for"
        )
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    async for packed in pieces:
        rest = packed
        while rest:
            yield inflate.decompress(rest, _PIECE_BYTES)
            rest = inflate.unconsumed_tail
    yield inflate.flush()


def _is_stream(reply: httpx2.Response) -> bool:
    kind: str = reply.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


def _status_failure(response: httpx2.Response) -> CallFailed:
    """What an error reply tells, whatever its body is.

    An envelope is the API's `{"error": {…}}`; others send `{"error": "…"}`, `{"detail": …}`, a text
    or a page.
    """
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        document = response.text
    error = document.get("error") if isinstance(document, dict) else None
    envelope = isinstance(error, dict)
    fields: Any = error if isinstance(error, dict) else document
    detail, code, param = fields, None, None
    if isinstance(fields, dict):
        code, param = fields.get("code"), fields.get("param")
        detail = fields.get("message") or fields.get("detail") or fields.get("error")
    if isinstance(detail, list | dict):
        detail = _compact(detail)
    message = f"HTTP {response.status_code}"
    if isinstance(detail, str) and detail.strip() and not detail.lstrip().startswith("<"):
        message = f"{message}: {' '.join(detail.split())}"
    elif location := response.headers.get("location"):
        message = f"{message}: redirected to {location}"
    elif detail:
        message = f"{message}, with a page that is not the API's"
    if envelope and isinstance(param, str) and param not in message:
        message = f"{message} (field: {param})"
    named = f"http_{response.status_code}" if code in (None, "") else str(code)
    return _failed(response, named, message, envelope=envelope)


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
        retry_after=_retry_after(headers),
        envelope=envelope,
    )


def _compact(detail: list[Any] | dict[str, Any]) -> str | None:
    try:
        return json.dumps(detail, separators=(",", ":"))
    except RecursionError:
        return None


def _retry_after(headers: httpx2.Headers) -> str | None:
    """The `Retry-After` header; the API's own, in milliseconds, is more exact."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if milliseconds[:15].isdecimal():
        return str(int(milliseconds[:15]) / 1000)
    return headers.get("retry-after")


def _without_credentials(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def _named(error: BaseException) -> str:
    """What an error says, and of which kind it is."""
    plain, kind = _plain(error), type(error).__name__
    return kind if plain == kind else f"{plain} ({kind})"


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
