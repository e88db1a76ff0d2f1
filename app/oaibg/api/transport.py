"""How calls travel: the SDK's clients, and how far each call has come."""

from __future__ import annotations

import asyncio
import re
import zlib
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.request import getproxies

import httpx2
import openai

from oaibg.api.connections import Body, Connections
from oaibg.api.failures import call_failed, plain
from oaibg.api.secrets import Secrets, mask_credentials
from oaibg.contract.errors import AuthRefused, CallFailed, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    from oaibg.api.calls import Hook

REPLY_BYTES_MAX = 1 << 30
"""Bytes that a reply may have, unpacked, if it is read into memory."""

CONNECT_TIMEOUT = 10.0
PIECE_BYTES = 1 << 20

Use = Literal["creating", "reading", "listening"]
"""A client each: for what must not be sent twice, for most other calls, and for streams, which keep
their connections for as long as their jobs run."""

_KEEPALIVE_SECONDS: dict[Use, float] = {"creating": 0, "reading": 75, "listening": 75}
"""A kept connection may be closing as a create goes out; a POST that fails then may have arrived.
75 s is longer than the usual poll interval: httpx2's default of 5 s would connect for each poll."""

_ENVIRONMENT_HINT = (
    "Check OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS, SSL_CERT_FILE "
    "and the proxy variables."
)
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?|")
_PUBLIC_HEADERS = ("accept", "content-type", "user-agent", "openai-", "x-stainless-")


class Transport:
    """The SDK's clients for one base URL, each made when it is first used."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.secrets = Secrets(api_key)
        self.secrets.mask_log()
        self._base_url, self._api_key = base_url, api_key
        self._made: dict[Use, openai.AsyncOpenAI] = {}

    @asynccontextmanager
    async def exchange(
        self, use: Use, timeout: float | None, on_sending: Hook | None = None, bounded: bool = True
    ) -> AsyncIterator[openai.AsyncOpenAI]:
        """The context of one call, or of reading on in its stream, and the client to make it with.

        It takes at most `timeout` seconds, and turns every exception into `CallFailed`, but for
        those of `own_code`. `on_sending` is that of `Calls`; `bounded` is false for a reply that
        is not read into memory.

        Raises:
            AuthRefused: the SDK refuses the key.
            UsageError: no request can be made with this environment.
        """
        sdk = self._made.get(use) or self._sdk(use)
        exchange = _Exchange(on_sending, bounded=bounded)
        token = _exchange.set(exchange)
        try:
            async with asyncio.timeout(timeout):
                yield sdk
        except Exception as error:  # noqa: BLE001 - `call_failed` says why none is let through
            if exchange.own_error is not None:
                raise exchange.own_error from None
            failure = call_failed(error, self.secrets, sent=exchange.sent, begun=exchange.begun)
            raise failure from error.__cause__
        finally:
            _exchange.reset(token)

    async def close(self) -> None:
        """Close the connections."""
        for sdk in self._made.values():
            await sdk.close()

    def _sdk(self, use: Use) -> openai.AsyncOpenAI:
        timeouts = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_SECONDS[use])
        proxied = any(address for name, address in getproxies().items() if name != "no")

        def connect() -> httpx2.AsyncHTTPTransport:
            return httpx2.AsyncHTTPTransport(verify=self._tls, limits=limits)

        try:
            client = httpx2.AsyncClient(
                verify=self._tls,
                timeout=timeouts,
                limits=limits,
                # httpx2 has to look after a proxy itself.
                transport=None if proxied else Connections(connect),
                headers={"accept-encoding": "gzip"},
                follow_redirects=False,  # the second server might be another one
                event_hooks={"request": [_before_request], "response": [_begin_reply]},
            )
            sdk = openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                timeout=timeouts,
                max_retries=0,  # there is one retry policy, and it is ours
                http_client=client,
            )
        except openai.OpenAIError as error:
            raise AuthRefused(str(error), code="client", outcome="not_created") from error
        except (ImportError, OSError, ValueError, TypeError, httpx2.InvalidURL) as error:
            # UnicodeError and ssl.SSLError are among these.
            message = f"{mask_credentials(plain(error))} ({type(error).__name__})"
            raise _unusable(message) from error
        self._check_headers(sdk.default_headers)
        self._made[use] = sdk
        return sdk

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx2.create_ssl_context()  # reading the certificates takes some 50 ms

    def _check_headers(self, headers: dict[str, str | openai.Omit]) -> None:
        """Refuse what can't be sent; what may be private is a secret from now on."""
        for name, value in headers.items():
            if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(str(value))):
                raise _unusable(f"the header {name[:99]!a} can't be sent")
            if not name.lower().startswith(_PUBLIC_HEADERS):
                self.secrets.add(str(value))


@contextmanager
def own_code() -> Iterator[None]:
    """Run code of ours inside of a call: its exceptions leave the exchange as they are."""
    try:
        yield
    except Exception as error:
        _exchange.get().own_error = error
        raise


class _Exchange:
    """How far one call has come."""

    def __init__(self, on_sending: Hook | None, *, bounded: bool) -> None:
        self.on_sending, self.bounded = on_sending, bounded
        self.sent = on_sending is None
        """Whether the request may have reached the server; it matters for a create only."""
        self.begun = False
        """Whether the reply's head has arrived."""
        self.own_error: Exception | None = None


_exchange: ContextVar[_Exchange] = ContextVar("exchange")


def _unusable(problem: str) -> UsageError:
    return UsageError(
        f"The client can't be set up: {problem}.", hint=_ENVIRONMENT_HINT, outcome="not_created"
    )


async def _before_request(request: httpx2.Request) -> None:
    """Await a create's `on_sending` when the request's first byte is about to be written.

    Refused connections, DNS, connect timeouts and TLS failures never come that far. A tunnel's
    CONNECT carries the same extension, and is not the request.
    """
    exchange = _exchange.get()
    if (on_sending := exchange.on_sending) is None:
        return

    async def trace(name: str, info: dict[str, Any]) -> None:
        if name.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            with own_code():
                await on_sending()
            exchange.sent = True

    request.extensions["trace"] = trace


async def _begin_reply(reply: httpx2.Response) -> None:
    """Note that a reply's head has arrived, and bound what follows."""
    exchange = _exchange.get()
    exchange.begun = True
    length = reply.headers.get("content-length", "")
    known = length.isdecimal() and len(length) < 20 and int(length) <= REPLY_BYTES_MAX
    if known and "content-encoding" not in reply.headers:
        return
    if isinstance(reply.stream, httpx2.AsyncByteStream):
        encodings = reply.headers.pop("content-encoding", "").lower().replace(",", " ").split()
        pieces = aiter(reply.stream)
        for encoding in reversed(encodings):
            if encoding != "identity":
                pieces = _unpacked(pieces, encoding)
        reply.stream = Body(_bounded(pieces, exchange), reply.stream.aclose)


async def _bounded(pieces: AsyncIterator[bytes], exchange: _Exchange) -> AsyncIterator[bytes]:
    """A body whose size is limited if it is read into memory."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if exchange.bounded and size > REPLY_BYTES_MAX:
            raise CallFailed("reply_too_large", f"the reply is over {REPLY_BYTES_MAX:,} bytes")
        yield piece


async def _unpacked(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """A body in small pieces: one small piece of a packed body may unpack to a large one."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        message = f"the reply is packed as {encoding!a}, which nobody asked for"
        raise CallFailed("bad_reply", message)
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    async for packed in pieces:
        rest = packed
        while rest:
            yield inflate.decompress(rest, PIECE_BYTES)
            rest = inflate.unconsumed_tail
    yield inflate.flush()
