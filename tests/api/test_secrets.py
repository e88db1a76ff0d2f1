"""Keys, private headers and prompts never appear in an event, an error, a log or the state."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from harness import with_text
from oaibg.sandbox import Fault
from raw_server import Answer, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox
    from raw_server import RawServer

KEY = "sk-test-0123456789"
PROMPT = "my private prompt"
SECRETS = (KEY, "custom-header-secret", "url-password", "dXNlcjp1cmwtcGFzc3dvcmQ=")
"""The last one is the user and password of the URL as sent in a header."""
SUBMIT = ("submit", "--prompt", PROMPT, "--poll-seconds", "0.05", "--job-key", "k")


@pytest.fixture
def secretive(command: Command, sandbox: Sandbox) -> Command:
    """The command with secrets in all variables, and the SDK's log at level debug."""
    command.environment |= {
        "OPENAI_LOG": "debug",
        "OPENAI_CUSTOM_HEADERS": "X-Gateway-Key: Token key=custom-header-secret",
        "OPENAI_BASE_URL": sandbox.base_url.replace("://", "://user:url-password@"),
    }
    return command


def leaked(secrets: tuple[str, ...], state: Path, *results: Result) -> list[str]:
    """Return the secrets that appear in the output of the runs or in the state."""
    texts = [text for result in results for text in (result.out, result.err.encode())]
    texts += [path.read_bytes() for path in state.rglob("*") if path.is_file()]
    return [secret for secret in secrets if any(secret.encode() in text for text in texts)]


def test_whole_run(secretive: Command, sandbox: Sandbox, state: Path) -> None:
    """Secrets and the prompt are sent, but not written anywhere."""
    # The text of the answer is set, because by default it repeats the prompt.
    run = secretive.run(*SUBMIT, "--metadata", "sandbox_text=a", fresh=True)
    shown = secretive.run("show", "--list", fresh=True)
    assert (run.code, shown.code) == (0, 0)
    assert "HTTP Response" in run.err, "the SDK logs"
    assert sandbox.posts[0].headers["x-gateway-key"] == "Token key=custom-header-secret"
    assert leaked((*SECRETS, PROMPT), state, run, shown) == []


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
@pytest.mark.parametrize("place", ["message", "code", "param", "header", "text", "far"])
def test_secrets_in_an_error_reply_are_masked(
    secretive: Command, sandbox: Sandbox, state: Path, status: int, place: str
) -> None:
    """A server's error is printed without secrets, even if the cut of a long text splits one."""
    echo = f"Bearer {KEY} custom-header-secret dXNlcjp1cmwtcGFzc3dvcmQ= url-password"
    error = {"message": "no", "code": "c", "param": "p"}
    body: object = {"error": error}
    headers = {}
    if place in error:
        error[place] = echo
    elif place == "far":
        error["message"] = f"{'x' * 979}{KEY}"
    elif place == "header":
        headers["x-request-id"] = echo
    else:
        body = echo
    sandbox.script(Fault(kind="status", status=status, body=body, headers=headers, times=0))
    results = [
        # The SDK reads OPENAI_LOG when it is imported, so a log needs a new process.
        secretive.run(*SUBMIT, "--max-wait-seconds", "5", fresh=True)
        if status == 400
        else secretive.run(*SUBMIT, "--max-wait-seconds", "0.4"),
        secretive.run("monitor", "resp_1", "--max-wait-seconds", "0.2", "--poll-seconds", "0.1"),
    ]
    assert all(result.code for result in results)
    assert leaked(SECRETS, state, *results) == []
    assert b"sk-test-01" not in results[0].out, "a part of the key is masked, too"


def test_secret_in_a_request_id_is_masked(
    secretive: Command, sandbox: Sandbox, state: Path
) -> None:
    """A successful reply whose request ID is the key is printed and logged without it."""
    sandbox.script(Fault(on="create", kind="delay", seconds=0, headers={"x-request-id": KEY}))
    result = secretive.run(*SUBMIT, "--detach", fresh=True)
    assert (result.code, result.lines[1]["request_id"]) == (0, "***")
    assert "request_id: ***" in result.err
    assert leaked(SECRETS, state, result) == []


def test_key_after_the_word_bearer_is_masked(
    secretive: Command, sandbox: Sandbox, state: Path
) -> None:
    """If OPENAI_API_KEY is `Bearer KEY`, a reply that repeats only KEY is masked."""
    secretive.environment["OPENAI_API_KEY"] = f"Bearer {KEY}"
    body = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    sandbox.script(Fault(on="create", kind="status", status=401, body=body))
    result = secretive.run(*SUBMIT)
    assert (result.code, result.last["message"][-4:]) == (8, " ***")
    assert leaked(SECRETS, state, result) == []


def test_credentials_of_a_proxy_are_masked(secretive: Command, state: Path) -> None:
    """Errors about an unreachable or invalid proxy don't contain its password."""
    results = []
    for proxy in ("http://user:url-password@127.0.0.1:9", "nonsense://user:url-password@x:9"):
        secretive.environment |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": ""}
        results.append(secretive.run(*SUBMIT, "--max-wait-seconds", "1.5"))
    assert [result.code for result in results] == [7, 2]
    assert leaked(SECRETS, state, *results) == []


def test_unknown_outcome_stores_no_secret(
    secretive: Command, sandbox: Sandbox, state: Path
) -> None:
    """After an unknown outcome, the state contains the request's hash but not the request."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    result = secretive.run(*SUBMIT, fresh=True)
    assert result.code == 6
    assert leaked(SECRETS, state, result) == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_modes(command: Command, state: Path, tmp_path: Path, mask: int) -> None:
    """Only the owner can read the state, with any umask; output files follow the umask."""
    out = tmp_path / "o.json"
    result = command.run(
        *(*SUBMIT, "--output-json-file", str(out)), preexec_fn=lambda: os.umask(mask) and None
    )
    assert result.code == 0
    modes = {path: path.stat().st_mode & 0o777 for path in (state, *state.rglob("*"))}
    assert len(modes) >= 6
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())
    assert out.stat().st_mode & 0o777 == 0o666 & ~mask


def test_key_that_no_header_can_carry(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that an HTTP header can't carry ends with exit 8, and is not printed."""
    for key in ("sk-\u00e9\u00e8", "sk-a\nb"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        result = run("submit", "--prompt", "x")
        assert (result.code, result.last["code"]) == (8, "invalid_api_key")
        assert b"sk-" not in result.out
    assert not sandbox.requests


ECHOES: dict[str, dict[str, Any]] = {
    "status": {"status": f"at {KEY}"},
    "model": {"model": KEY},
    "tier": {"service_tier": KEY},
    "usage": {"usage": {"note": [KEY]}},
    "error": {"status": "failed", "error": {"code": KEY, "message": f"Key {KEY} failed."}},
    "details": {"status": "incomplete", "incomplete_details": {"reason": KEY}},
    "call": {"output": [{"type": "function_call", "call_id": KEY, "name": KEY, "arguments": KEY}]},
    "refusal": {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": KEY}]}]},
}
"""What a server adds to a response; each contains the key."""


@pytest.mark.parametrize("human", [(), ("--human",)], ids=["lines", "human"])
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_key_in_a_response_is_masked(
    run: Callable[..., Result],
    raw: RawServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    state: Path,
    echo: dict[str, Any],
    human: tuple[str, ...],
) -> None:
    """A key that a server repeats in a response is in no line, local state or results file.

    A file with the response as the API sent it is the exception.
    """
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    body = json.dumps(with_text("The answer.", id="resp_1") | echo).encode()
    raw.answer = Answer(reply(body, "200 OK", f"X-Request-Id: {KEY}"))
    fast = ("--poll-seconds", "0.05", "--max-wait-seconds", "0.6", *human)
    out, results, jobs = (tmp_path / name for name in ("o.json", "results.jsonl", "jobs.jsonl"))
    jobs.write_text('{"custom_id": "a", "prompt": "x"}\n')
    runs = [
        run("submit", "--prompt", "x", *fast, "--output-json-file", str(out)),
        run("monitor", "resp_1", *fast),
        run("show", "resp_1", *human),
        run("show", "--list", *human),
        run("submit", "--jobs-file", str(jobs), "--results-file", str(results), *fast),
    ]
    assert leaked((KEY,), state, *runs) == []
    assert not results.exists() or KEY not in results.read_text()
    assert not out.exists() or out.read_bytes() == body


@pytest.mark.parametrize("url", [KEY, f"{KEY}/v1", f"http:{KEY}", "sk-another-key-0123456789"])
def test_key_as_the_base_url(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A key in OPENAI_BASE_URL, as if the variables were swapped, is not printed."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "https://api.openai.com/v1")
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["code"]) == (2, "usage")
    for text in (result.out.decode(), result.err):
        assert "0123456789" not in text


@pytest.mark.parametrize("place", ["/v1;token={}", "/;token={}/v1", "/v1?token={}", "/v1;{}"])
def test_secret_in_the_base_url(
    run: Callable[..., Result],
    raw: RawServer,
    monkeypatch: pytest.MonkeyPatch,
    state: Path,
    place: str,
) -> None:
    """A secret in the query or the path's parameters of the base URL is sent, and not printed."""
    secret = "url-secret-987654"
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{raw.address}{place.format(secret)}")
    raw.answer = Answer(reply(json.dumps(with_text("x", id="resp_1") | {"model": secret})))
    runs = [
        run("submit", "--prompt", "x", "--poll-seconds", "0.05"),
        run("submit", "--prompt", "x", "--dry-run"),
        run("show", "--list"),
    ]
    assert [one.code for one in runs] == [0, 0, 0]
    assert secret.encode() in raw.requests[0]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:9{place.format(secret)}")
    runs.append(run("submit", "--prompt", "x", "--max-wait-seconds", "0.3"))
    assert leaked((secret,), state, *runs) == []
