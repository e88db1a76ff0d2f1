"""Finds the proxy that the environment variables set for a URL, by httpx2's rules."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import getproxies

if TYPE_CHECKING:
    import httpx2


_HOST = re.compile(r"(?P<name>\[[^]]+\]|[^:/]+)(?::(?P<port>[0-9]{1,5}))?")


class FoundProxy(NamedTuple):
    """The URL of a proxy, and where it is set."""

    url: str
    variable: str


def proxy_for(url: httpx2.URL) -> FoundProxy | None:
    """Return the proxy for a URL; None if there is none, or if `NO_PROXY` contains the host."""
    proxies = getproxies()
    scheme = next((one for one in (url.scheme, "all") if proxies.get(one)), None)
    if scheme is None or any(_matches(entry, url) for entry in proxies.get("no", "").split(",")):
        return None
    address, name = proxies[scheme], f"{scheme}_proxy"
    variable = next((one for one in (name, name.upper()) if os.environ.get(one)), None)
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
