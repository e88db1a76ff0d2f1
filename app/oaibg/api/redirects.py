"""Follows the redirects of GET requests within the same origin."""

from __future__ import annotations

import httpx2

_STATUSES = frozenset({301, 302, 303, 307, 308})
_MAX = 5
"""Maximum number of redirects in a row."""


class Redirects(httpx2.AsyncBaseTransport):
    """A transport that follows redirects with another one.

    A POST is never repeated, because that could create a second job. No other origin is asked,
    because that would send the key to it. Such replies are returned as they are.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and the same request again to each new address."""
        reply = await self._transport.handle_async_request(request)
        for _ in range(_MAX if request.method == "GET" else 0):
            if (target := _target(request.url, reply)) is None:
                break
            await reply.aclose()
            request = httpx2.Request(
                "GET", target, headers=request.headers, extensions=request.extensions
            )
            reply = await self._transport.handle_async_request(request)
        return reply

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def _target(url: httpx2.URL, reply: httpx2.Response) -> httpx2.URL | None:
    """Return the address in the same origin to which a reply redirects, if it does."""
    location = reply.headers.get("location")
    if reply.status_code not in _STATUSES or not location:
        return None
    try:
        target = url.join(location)
    except (httpx2.InvalidURL, ValueError):
        return None
    return target.copy_with(fragment=None) if _origin(target) == _origin(url) else None


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # None, even if the default port is given
