"""The network settings in the environment variables: the proxy and the certificates.

httpx2 reads no proxy variables for a client that has its own transport, as ours do, and its errors
name no variable. The rules are httpx2's.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

from oaibg.api.connections import Connections, core_url
from oaibg.api.failures import plain
from oaibg.api.secrets import mask_credentials
from oaibg.api.sockets import Backend
from oaibg.base.text import host_of
from oaibg.contract.errors import UsageError

if TYPE_CHECKING:
    import ssl

_VARIABLES = {
    "SSL_CERT_FILE": "a readable file of certificates in PEM format",
    "SSL_CERT_DIR": "a directory of certificates",
}
"""The variables in the order in which they count; httpx2 only uses the first that is set."""

_HOST = re.compile(r"(?P<name>\[[^]]+\]|[^:/]+)(?::(?P<port>[0-9]{1,5}))?")


def transport_to(
    base: httpx2.URL, tls: ssl.SSLContext, limits: httpx2.Limits, *, waits: bool
) -> httpx2.AsyncBaseTransport:
    """Return the transport for a base URL, through a proxy only if one applies to its host.

    It opens as many connections as `limits` says; a further request `waits` or fails.

    Raises `UsageError` if the proxy can't be used.
    """
    proxy = proxy_for(base)
    if proxy is None:
        most = limits.max_connections
        assert most is not None  # noqa: S101 - for the type checker
        origin = core_url(base).origin

        def connect() -> httpcore2.AsyncHTTPConnection:
            return httpcore2.AsyncHTTPConnection(
                origin, tls, limits.keepalive_expiry, network_backend=Backend()
            )

        return Connections(connect, most=most, waits=waits)
    try:
        # Only httpx2's own pool supports proxies.
        return _Transport(verify=tls, limits=limits, proxy=proxy.url)
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        problem, hint = mask_credentials(plain(error)), "Use"
        if isinstance(error, ImportError):
            problem = "support for SOCKS is not installed"
            hint = 'Run: pip install "httpx2[socks]". Or use'
        raise UsageError(
            f"The proxy in {proxy.variable} can't be used: {problem}.",
            hint=f"{hint} an HTTP proxy, or add the API's host to NO_PROXY.",
            outcome="not_created",
        ) from error


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2's transport on our own streams, for which it has no parameter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pool._network_backend = Backend()  # noqa: SLF001


def tls_context() -> ssl.SSLContext:
    """Return the settings for TLS, which takes about 50 ms.

    They have the certificates that `SSL_CERT_FILE` or `SSL_CERT_DIR` names, or else the system's.
    Raises `UsageError` if a variable names anything other than certificates.
    """
    name = next((one for one in _VARIABLES if os.environ.get(one)), None)
    try:
        if name == "SSL_CERT_DIR":
            _check_folders(os.environ[name])
        return httpx2.create_ssl_context()
    except OSError as error:  # `ssl.SSLError` is one
        if name is None:
            raise
        raise UsageError(
            f"{name} can't be used: {os.environ[name]} ({error.strerror or plain(error)}).",
            hint=f"Set {name} to {_VARIABLES[name]}, or unset it.",
            outcome="not_created",
        ) from error


def _check_folders(paths: str) -> None:
    """Raise `OSError` unless there is at least one directory; OpenSSL ignores missing ones."""
    if not any(Path(path).is_dir() for path in paths.split(os.pathsep)):
        raise NotADirectoryError("not a directory")


class FoundProxy(NamedTuple):
    """The URL of a proxy, and where it is set."""

    url: str
    variable: str

    @property
    def name(self) -> str:
        """The host and port of the proxy, and the variable, for messages."""
        return f"{host_of(self.url)} ({self.variable})"


def proxy_for(url: httpx2.URL) -> FoundProxy | None:
    """Return the proxy for a URL; None if there is none, or if `NO_PROXY` contains the host."""
    proxies = getproxies()
    scheme = next((one for one in (url.scheme, "all") if proxies.get(one)), None)
    if scheme is None or any(_matches(entry, url) for entry in proxies.get("no", "").split(",")):
        return None
    address, name = proxies[scheme], f"{scheme}_proxy"
    variable = next((one for one in (name, name.upper()) if os.environ.get(one)), None)
    if variable is None and proxy_bypass(url.host):  # the system's own exceptions
        return None
    address = address if "://" in address else f"http://{address}"
    return FoundProxy(address, variable or "the system's proxy setting")


def _matches(entry: str, url: httpx2.URL) -> bool:
    """Whether an entry of `NO_PROXY` matches a URL: a host, domain, network, or `*`."""
    entry = entry.strip().lower()
    if entry == "*" or _is_network(entry, url.host):
        return True
    scheme, _, rest = entry.rpartition("://")
    named = _HOST.fullmatch(rest)
    if named is None or scheme not in ("", "all", url.scheme):
        return False
    name, port = named["name"].strip("[]"), named["port"]
    if port and int(port) != (url.port or {"http": 80, "https": 443}.get(url.scheme)):
        return False
    if name.startswith((".", "*.")):
        return url.host.endswith(name.removeprefix("*"))
    return url.host == name or (not scheme and url.host.endswith(f".{name}"))


def _is_network(entry: str, host: str) -> bool:
    """Whether an entry is an IP address or network that contains the host."""
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False
