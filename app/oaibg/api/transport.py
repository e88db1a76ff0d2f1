"""The SDK's clients, and how far each call has got: sent, reply begun, failed."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import openai

from oaibg.api.connections import Body
from oaibg.api.decompress import decompressed
from oaibg.api.endings import until_whole
from oaibg.api.failures import call_failed, plain
from oaibg.api.network import proxy_for, tls_context, transport_to
from oaibg.api.redirects import Redirects
from oaibg.api.secrets import Secrets, mask_credentials
from oaibg.api.sockets import Stream
from oaibg.base.descriptors import RESERVED, free_descriptors
from oaibg.contract.errors import AuthRefused, CallFailed, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from oaibg.api.calls import Hook
    from oaibg.api.salvage import Arrived

REPLY_BYTES_MAX = 1 << 30
"""Maximum size of a reply that is read into memory, in decompressed bytes."""

CONNECT_TIMEOUT = 10.0

_LATE_SECONDS, _CATCH_UP_SECONDS = 1.0, 1.0
"""If a create's timeout is that late, the process was suspended: the time to read what arrived."""

Use = Literal["creating", "reading", "listening"]
"""Each use has its own client: requests that must not be sent twice, most other calls, and streams,
which keep their connections as long as their jobs run."""

_KEEPALIVE_SECONDS: dict[Use, float] = {"creating": 0, "reading": 75, "listening": 75}
"""A create never reuses a connection: if the server is closing it, the POST fails but may have
arrived. 75 s is longer than the usual poll interval; httpx2's 5 s would always reconnect."""

_ENVIRONMENT_HINT = (
    "Check OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS, SSL_CERT_FILE "
    "and the proxy variables."
)
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?|")
_PUBLIC_HEADERS = ("accept", "content-type", "user-agent", "openai-", "x-stainless-")


class Transport:
    """The SDK's clients for one base URL, each created when it is first used."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.secrets = Secrets(api_key)
        self.secrets.mask_log()
        self._base_url, self._api_key = base_url, api_key
        self._clients: dict[Use, openai.AsyncOpenAI] = {}

    @asynccontextmanager
    async def exchange(
        self,
        use: Use,
        timeout: float | None,
        on_sending: Hook | None = None,
        *,
        bounded: bool = True,
        arrived: Arrived | None = None,
    ) -> AsyncIterator[openai.AsyncOpenAI]:
        """The context of one call or of one read of a stream; provides the client to use.

        It takes at most `timeout` seconds and turns all exceptions except those of `own_code` into
        `CallFailed`. `on_sending` is as in `Calls`; `bounded` limits the reply's size; `arrived`
        keeps the reply's head.

        Raises:
            AuthRefused: the SDK refuses the key.
            UsageError: the environment variables don't allow any request.
        """
        sdk = self._clients.get(use) or self._sdk(use)
        timer = asyncio.timeout(timeout)
        exchange = _Exchange(timer, on_sending, bounded=bounded, arrived=arrived)
        token = _exchange.set(exchange)
        try:
            async with timer:
                with _catching_up(timer) if on_sending is not None else nullcontext():
                    yield sdk
        except Exception as error:  # noqa: BLE001 - `call_failed` explains why
            if exchange.own_error is not None:
                raise exchange.own_error from None
            failure = call_failed(
                error,
                self.secrets,
                sent=exchange.sent,
                begun=exchange.begun,
                base_url=self._base_url,
            )
            failure.proxy = self._proxy
            raise failure from error.__cause__
        finally:
            _exchange.reset(token)

    async def close(self) -> None:
        """Close the connections."""
        for sdk in self._clients.values():
            await sdk.close()

    def _sdk(self, use: Use) -> openai.AsyncOpenAI:
        timeouts = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
        limits = httpx2.Limits(
            max_connections=max((free_descriptors() - RESERVED) // len(_KEEPALIVE_SECONDS), 1),
            keepalive_expiry=_KEEPALIVE_SECONDS[use],
        )
        try:
            base = httpx2.URL(self._base_url)
            client = httpx2.AsyncClient(
                timeout=timeouts,
                transport=Redirects(
                    transport_to(base, self._tls, limits, waits=use != "listening")
                ),
                headers={"accept-encoding": "gzip"},
                follow_redirects=False,  # never send the key to a different server
                event_hooks={
                    "request": [_adding(base.query), _before_request],
                    "response": [_begin_reply],
                },
            )
            sdk = openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=base.copy_with(query=None),
                timeout=timeouts,
                max_retries=0,  # oaibg has its own retry policy
                http_client=client,
            )
        except openai.OpenAIError as error:
            raise AuthRefused(str(error), code="client", outcome="not_created") from error
        except (OSError, ValueError, TypeError, httpx2.InvalidURL) as error:
            # These include UnicodeError and ssl.SSLError.
            message = f"{mask_credentials(plain(error))} ({type(error).__name__})"
            raise _unusable(message) from error
        self._check_headers(sdk.default_headers)
        self._clients[use] = sdk
        return sdk

    @cached_property
    def _proxy(self) -> str | None:
        proxy = proxy_for(httpx2.URL(self._base_url))
        return None if proxy is None else proxy.name

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()

    def _check_headers(self, headers: dict[str, str | openai.Omit]) -> None:
        """Reject headers that can't be sent, and mask the values of those that may be private."""
        for name, value in headers.items():
            if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(str(value))):
                raise _unusable(f"the header {name[:99]!a} has an invalid name or value")
            if not name.lower().startswith(_PUBLIC_HEADERS):
                self.secrets.add(str(value))


@contextmanager
def own_code() -> Iterator[None]:
    """Run our own code inside a call: `exchange` raises its exceptions unchanged."""
    try:
        yield
    except Exception as error:
        _exchange.get().own_error = error
        raise


@contextmanager
def _catching_up(timer: asyncio.Timeout) -> Iterator[None]:
    """Delay a timeout that is late, because the process was suspended: a reply may have arrived."""
    loop, due = asyncio.get_running_loop(), timer.when()
    if due is None:
        yield
        return

    def expire() -> None:
        if not timer.expired():
            late = loop.time() - due > _LATE_SECONDS
            timer.reschedule(loop.time() + (_CATCH_UP_SECONDS if late else 0.0))

    timer.reschedule(None)
    alarm = loop.call_at(due, expire)
    try:
        yield
    finally:
        alarm.cancel()


class _Exchange:
    """How far one call has got."""

    def __init__(
        self,
        timer: asyncio.Timeout,
        on_sending: Hook | None,
        *,
        bounded: bool,
        arrived: Arrived | None,
    ) -> None:
        self.timer, self.on_sending, self.bounded = timer, on_sending, bounded
        self.arrived = arrived
        self.sent = on_sending is None
        """Whether the request may have reached the server; only relevant for a create."""
        self.begun = False
        """Whether the reply's head has arrived."""
        self.own_error: Exception | None = None


_exchange: ContextVar[_Exchange] = ContextVar("exchange")


def _unusable(problem: str) -> UsageError:
    return UsageError(
        f"The API client can't be set up: {problem}.", hint=_ENVIRONMENT_HINT, outcome="not_created"
    )


def _adding(query: bytes) -> Callable[[httpx2.Request], Awaitable[None]]:
    """Return a hook that adds the base URL's query to a request, as it is written."""

    async def add(request: httpx2.Request) -> None:
        if query:
            joined = b"&".join(filter(None, (query, request.url.query)))
            request.url = request.url.copy_with(query=joined)

    return add


async def _before_request(request: httpx2.Request) -> None:
    """Await a create's `on_sending` just before the request's first byte is written.

    Refused connections, connect timeouts, and DNS and TLS failures happen earlier. The CONNECT of a
    proxy's tunnel has the same trace extension, but is not the request.
    """
    exchange = _exchange.get()
    if (on_sending := exchange.on_sending) is None:
        return

    async def trace(name: str, info: dict[str, Any]) -> None:
        stream = info.get("return_value")
        if isinstance(stream, Stream) and exchange.arrived is not None:
            stream.tap = exchange.arrived.tap  # the connection is new, and plain or encrypted now
        if name.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            with own_code():
                await on_sending()
            exchange.sent = True

    request.extensions["trace"] = trace


async def _begin_reply(reply: httpx2.Response) -> None:
    """Note that a reply's head has arrived, decompress its body and limit the size."""
    exchange = _exchange.get()
    stream = reply.extensions.get("network_stream")
    if isinstance(stream, Stream) and stream.is_left_over:
        raise httpx2.ReadError("the server sent a reply that no request had asked for")
    exchange.begun = True
    arrived = exchange.arrived
    if arrived is not None and not arrived.begin(reply):
        arrived = None
    if isinstance(reply.stream, httpx2.AsyncByteStream):
        encodings = re.findall(r"[a-z][\w-]*", reply.headers.pop("content-encoding", "").lower())
        pieces = aiter(reply.stream)
        for encoding in reversed(encodings):
            pieces = decompressed(pieces, encoding)
        if exchange.bounded:
            pieces = _bounded(until_whole(pieces))
        if arrived is not None:
            pieces = arrived.noted(pieces, exchange.timer)
        reply.stream = Body(pieces, reply.stream.aclose)


async def _bounded(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a body that is read into memory; raises `CallFailed` if it is too large."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > REPLY_BYTES_MAX:
            raise CallFailed("reply_too_large", f"the reply exceeds {REPLY_BYTES_MAX:,} bytes")
        yield piece
