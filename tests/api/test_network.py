"""Proxies, certificates and the base URL, as the environment variables set them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from harness import response, with_text
from oaibg.api import network
from oaibg.api.network import proxy_for
from raw_server import Answer, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox
    from raw_server import RawServer

FAST = ("--poll-seconds", "0.05", "--max-wait-seconds", "20")
SOCKS = "socks5://me:hush-0123456789@127.0.0.1:9"
DETACHED = ("submit", "--prompt", "x", "--detach")

NO_PROXY = [
    *("*", "api.test", "test", ".test", "*.test", ".api.test", "i.test", "other.test", "", " , "),
    *("api.test:8080", "http://api.test", "https://api.test", "all://api.test"),
    *("127.0.0.1", "127.0.0.0/8", "10.0.0.0/8", "127.0.0.1:8080", "::1", "[::1]", "::/64"),
    *("localhost", "LOCALHOST", "API.TEST", "other, api.test", "127.0.0.1/99", "fe80::/10"),
]
URLS = [
    *("http://api.test/v1", "http://api.test:8080/v1", "https://api.test/v1", "http://test/v1"),
    *("http://127.0.0.1/v1", "http://127.0.0.1:8080/v1", "http://[::1]/v1", "http://localhost/v1"),
    *("http://xapi.test/v1", "https://deep.api.test/v1", "http://10.1.2.3/v1"),
]


def in_turn(*bodies: dict[str, Any]) -> Callable[[bytes], Answer]:
    """Answer each request with the next body."""
    replies = iter(bodies)
    return lambda _: Answer(reply(json.dumps(next(replies))))


def targets(raw: RawServer) -> list[str]:
    """Return the paths and queries that were requested."""
    return [request.split(b" ")[1].decode() for request in raw.requests]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("names", [("HTTP_PROXY",), ("ALL_PROXY", "https_proxy")])
def test_the_same_proxy_as_httpx2(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, url: str, names: tuple[str, ...]
) -> None:
    """The proxy of a URL is the one that httpx2 itself would use, for each kind of `NO_PROXY`."""
    for number, name in enumerate(names):
        monkeypatch.setenv(name, f"http://proxy{number}.test:3128")
    for entry in NO_PROXY:
        monkeypatch.setenv("NO_PROXY", entry)
        client = httpx2.AsyncClient()
        used = client._transport_for_url(httpx2.URL(url))
        expected = None
        if used is not client._transport:
            assert isinstance(used, httpx2.AsyncHTTPTransport)
            expected = used._pool._proxy_url.host.decode()  # type: ignore[attr-defined]
        found = proxy_for(httpx2.URL(url))
        assert (found and httpx2.URL(found.url).host) == expected, (entry, names)
        assert found is None or os.environ[found.variable] == found.url


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.0/8", "*", "x.test,127.0.0.1"])
@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
def test_proxy_that_is_bypassed(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    entry: str,
) -> None:
    """A proxy that can't be used doesn't matter for a host in `NO_PROXY`."""
    monkeypatch.setenv(name, SOCKS)
    monkeypatch.setenv("NO_PROXY", entry)
    assert run(*DETACHED).code == 0
    assert len(sandbox.posts) == 1


def test_exceptions_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exceptions of the system's proxy setting count, as on macOS."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(network, "getproxies", lambda: {"http": "http://proxy.test:3128"})
    monkeypatch.setattr(network, "proxy_bypass", lambda host: host == "local.test")
    assert proxy_for(httpx2.URL("http://local.test/v1")) is None
    found = proxy_for(httpx2.URL("http://api.test/v1"))
    assert found is not None
    assert found.variable == "the system's proxy setting"


def test_proxy_of_another_scheme(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for HTTPS that can't be used doesn't matter for an HTTP URL."""
    monkeypatch.setenv("HTTPS_PROXY", SOCKS)
    monkeypatch.setenv("NO_PROXY", "")
    assert run(*DETACHED).code == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", SOCKS, 'pip install "httpx2[socks]"'),
        ("http_proxy", "socks5h://127.0.0.1:9", 'pip install "httpx2[socks]"'),
        ("HTTP_PROXY", "ftp://127.0.0.1:9", "Use an HTTP proxy"),
        ("ALL_PROXY", "http://127.0.0.1:port", "Use an HTTP proxy"),
    ],
)
def test_proxy_that_cannot_be_used(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    words: str,
) -> None:
    """A proxy that applies and can't be used ends with exit 2; the error names its variable."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "other.test")
    result = run(*DETACHED)
    assert (result.code, result.last["outcome"]) == (2, "not_created")
    assert f"The proxy in {name} can't be used" in result.last["message"]
    assert words in result.last["hint"]
    assert "NO_PROXY" in result.last["hint"]
    assert b"hush" not in result.out
    assert "hush" not in result.err


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "text"])
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_cannot_be_read(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    kind: str,
) -> None:
    """A file or directory of certificates that can't be used is named, with its variable."""
    path = tmp_path / "certificates"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("no certificate\n" if kind == "text" else "")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(name, str(path))
    result = run(*DETACHED)
    if (name, kind) == ("SSL_CERT_DIR", "folder"):
        assert result.code == 0
        return
    assert (result.code, result.last["outcome"]) == (2, "not_created")
    assert f"{name} can't be used: {path}" in result.last["message"]
    assert name in result.last["hint"]
    assert not sandbox.posts


@pytest.mark.parametrize(
    "suffix",
    [
        "?api-version=preview",
        "/?api-version=preview",
        "?api-version=preview&sig=hush+0123",
        "?api-version=1&api-version=2",
        "?api-version=preview/",
        "?flag&api-version=a%2Fb%2fc,d;e",
    ],
)
def test_query_of_the_base_url(
    run: Callable[..., Result], raw: RawServer, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The base URL's query is sent with every request, and is neither stored nor shown."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{raw.base_url}{suffix}")
    raw.answer = in_turn(response("queued"), response("in_progress"), with_text("ok"))
    result = run("submit", "--prompt", "x", *FAST)
    assert result.code == 0
    query = suffix.removeprefix("/")
    assert targets(raw) == [f"/v1/responses{query}", *[f"/v1/responses/resp_1{query}"] * 2]
    shown = run("show", "--list")
    for text in (result.out, shown.out, run(*DETACHED[:3], "--dry-run").out):
        assert b"hush" not in text
        assert b"api-version" not in text
    monkeypatch.setenv("OPENAI_BASE_URL", raw.base_url)
    assert run("show", "resp_1").last["source"] == "local"


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/a%20b//"])
def test_path_of_the_base_url(
    run: Callable[..., Result], raw: RawServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """All requests about a job go to the path of the base URL, also if that is the root."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{raw.address}{path}")
    raw.answer = in_turn(response("queued"), with_text("ok"), response("cancelled"))
    assert run("submit", "--prompt", "x", *FAST).code == 0
    run("cancel", "resp_1")
    places = ["responses", "responses/resp_1", "responses/resp_1/cancel"]
    assert targets(raw) == [f"{path.rstrip('/')}/{place}" for place in places]


def test_query_of_a_stream(
    run: Callable[..., Result], raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query is combined with the parameters of a stream."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{raw.base_url}?api-version=preview")
    raw.answer = in_turn(response("queued"), with_text("ok"))
    assert run("monitor", "resp_1", "--stream", *FAST).code == 0
    assert b"?api-version=preview&stream=true " in raw.requests[-1]


def test_query_in_an_error(
    run: Callable[..., Result], raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that repeats the query in an error does not reveal its values."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{raw.base_url}?api-version=2026-01-01&sig=hush+0123")
    body = {"error": {"message": "no version 2026-01-01 for hush 0123 (hush+0123)", "code": "x"}}
    raw.answer = Answer(reply(json.dumps(body), "400 x"))
    result = run("show", "resp_1")
    assert "no version 2026-01-01 for *** (***)" in result.last["message"]


@pytest.mark.parametrize("suffix", ["#part", "#", "?a=b#part"])
def test_fragment_of_the_base_url(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """A base URL with a fragment is a usage error that names the fragment."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{sandbox.base_url}{suffix}")
    result = run(*DETACHED)
    assert (result.code, result.last["code"]) == (2, "usage")
    assert (
        f"fragment, which no request can have: '#{suffix.partition('#')[2]}'"
        in (result.last["message"])
    )
    assert not sandbox.requests


@pytest.mark.parametrize("limit", [(), ("--max-wait-seconds", "1")])
@pytest.mark.parametrize("command", ["submit", "monitor"])
def test_a_proxy_that_refuses_the_connection(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    instant_sleep: None,
    limit: tuple[str, ...],
    command: str,
) -> None:
    """The last line names the proxy and its variable, not the local server behind it."""
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", "http://me:hush-0123456789@127.0.0.1:9")
    argv = DETACHED if command == "submit" else ("monitor", "resp_1")
    result = run(*argv, *limit)
    assert result.code == (3 if command == "monitor" and limit else 7)
    hint = result.last["hint"]
    assert "Requests to 127.0.0.1 go through the proxy 127.0.0.1:9 (HTTP_PROXY)" in hint
    assert "ask the user for network access first" in hint
    assert "local server" not in hint
    assert "After a minute" not in hint
    assert b"hush" not in result.out
    assert not sandbox.requests
    if result.code == 7:
        assert result.last["code"] == "unavailable"
        assert "127.0.0.1:9 refused the connection" in result.last["message"]


@pytest.mark.parametrize("limit", [(), ("--max-wait-seconds", "1")])
def test_no_network(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    instant_sleep: None,
    limit: tuple[str, ...],
) -> None:
    """The last line of a submit that reached no server has one code, and says whom to ask."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.invalid/v1")
    result = run(*DETACHED, *limit)
    assert (result.code, result.last["code"]) == (7, "unavailable")
    assert "no connection to api.invalid" in result.last["message"]
    assert "ask the user for network access first" in result.last["hint"]
    assert result.last["hint"].endswith(" Then run the same command again.")
