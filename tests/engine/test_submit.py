"""`oaibg submit`, whole runs over real HTTP."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.03")


def test_whole_run(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """A submit tells every step, saves what was asked for, and ends with 0."""
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    result = run(
        "submit",
        *("--prompt", "hi", "--metadata", "sandbox_text=The answer.", "--poll-seconds", "0.2"),
        *("--show-output-text", "--output-json-file", str(out), "--output-text-file", str(text)),
    )
    identifier = result.id
    raw = out.read_bytes()
    assert result.code == 0
    assert result.err == ""
    assert result.story == [
        {
            "event": "submit_start",
            "response_id": None,
            "model": "gpt-5.2",
            "reasoning_effort": "medium",
            "verbosity": "medium",
            "poll_seconds": 0.2,
            "job_key": None,
            "request_sha256": "…",
        },
        {
            "event": "submitted",
            "response_id": identifier,
            "status": "queued",
            "request_id": "…",
            "reattached": False,
        },
        {
            "event": "poll",
            "response_id": identifier,
            "attempt": 1,
            "status": "completed",
            "elapsed_seconds": "…",
            "next_poll_seconds": None,
        },
        {
            "event": "wrote_json",
            "response_id": identifier,
            "path": str(out),
            "bytes": len(raw),
            "sha256": "…",
        },
        {
            "event": "wrote_text",
            "response_id": identifier,
            "path": str(text),
            "bytes": 11,
            "sha256": "…",
        },
        {
            "event": "output_text",
            "response_id": identifier,
            "text": "The answer.",
            "bytes": 11,
        },
        {
            "event": "final",
            "response_id": identifier,
            "status": "completed",
            "ok": True,
            "elapsed_seconds": "…",
            "model": "gpt-5.2",
            "usage": json.loads(raw)["usage"],
            "error": None,
            "incomplete_details": None,
            "output_text_bytes": 11,
            "exit_code": 0,
            "next": None,
        },
    ]
    assert text.read_text() == "The answer."
    assert result.lines[3]["sha256"] == hashlib.sha256(raw).hexdigest()
    assert list(sandbox.jobs) == [identifier]


def test_request_is_exactly_the_documented_one(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """Nothing goes out that the user did not ask for: no store, no tools."""
    assert run("submit", "--prompt", "hi", "--system-prompt", "s", "--detach").code == 0
    assert [post.body for post in sandbox.posts] == [
        {
            "model": "gpt-5.2",
            "input": [
                {"role": "system", "content": [{"type": "input_text", "text": "s"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            ],
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "reasoning": {"effort": "medium"},
            "background": True,
        }
    ]


def test_every_setting_reaches_the_request(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Each option sets its field; the body file is merged last, and null removes (RFC 7396)."""
    previous = run("submit", "--prompt", "first", *FAST).id
    files: dict[str, Any] = {
        "tools": [{"type": "web_search"}],
        "schema": {"title": "My answer", "type": "object", "properties": {}},
        "body": {"top_p": 0.5, "text": {"verbosity": None}, "store": True},
        "input": "just text",
    }
    paths = {}
    for name, value in files.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(value))
        paths[name] = str(path)
    result = run(
        "submit",
        *("--input-json-file", paths["input"], "--model", "m", "--reasoning-effort", "omit"),
        *("--verbosity", "high", "--instructions", "be brief", "--max-output-tokens", "1000"),
        *("--completion-window", "soonest", "--previous-response-id", previous),
        *("--tools-json-file", paths["tools"], "--json-schema-file", paths["schema"]),
        *("--metadata", "a=b", "--metadata", "c=d=e", "--body-json-file", paths["body"]),
        "--detach",
    )
    assert result.code == 0
    assert sandbox.posts[-1].body == {
        "model": "m",
        "input": "just text",
        "text": {
            "format": {
                "type": "json_schema",
                "name": "My_answer",
                "schema": files["schema"],
                "strict": True,
            }
        },
        "background": True,
        "instructions": "be brief",
        "max_output_tokens": 1000,
        "background_options": {"completion_window": "soonest"},
        "previous_response_id": previous,
        "tools": [{"type": "web_search"}],
        "metadata": {"a": "b", "c": "d=e"},
        "top_p": 0.5,
        "store": True,
    }


def test_messages_are_sent_as_they_stand(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """All four roles, texts and parts, unknown keys and a byte order mark."""
    messages = [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "input_text", "text": "b", "extra": 1}]},
        {"role": "user", "content": "c \u00e9 \U0001f600", "unknown": {"kept": [1.5, None]}},
        {"role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
        {"role": "user", "content": "e"},
    ]
    path = tmp_path / "m.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(messages).encode())
    assert run("submit", "--messages-json-file", str(path), "--detach").code == 0
    assert sandbox.posts[0].body["input"] == messages


def test_payload_is_kept_to_the_byte(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Unknown keys, item types and spellings stay: in the file, in `show` and in the state."""
    started = run("submit", "--prompt", "x", "--detach")
    odd = (
        f'{{ "id":"{started.id}","status" : "completed", "model":null, "zzz": [1.0, 1e3],'
        '"output":[{"type":"hologram","data":"\\ud83d\\ude00"}], "usage": null }'
    )
    sandbox.script(Fault(on="retrieve", kind="raw", body=odd, times=1))
    out, shown = tmp_path / "o.json", tmp_path / "s.json"
    assert run("monitor", started.id, "--output-json-file", str(out)).code == 0
    assert out.read_text() == odd
    sandbox.forget(started.id)
    result = run("show")
    assert result.last["source"] == "local"
    assert result.last["response"] == json.loads(odd)
    assert run("show", "--output-json-file", str(shown)).last["response"] is None
    assert shown.read_text() == odd


def test_detach_ends_at_once(run: Callable[..., Result]) -> None:
    """The id and the command to go on with, and exit 0."""
    waits = ("--poll-seconds", "2", "--max-wait-seconds", "60", "--show-output-text")
    result = run("submit", "--prompt", "x", "--detach", *waits)
    assert result.events == ["submit_start", "submitted", "detached"]
    assert (result.code, result.last["status"]) == (0, "queued")
    assert result.last["next"][1 if result.last["next"][0] == "oaibg" else 3 :] == [
        "monitor",
        *("--poll-seconds", "2", "--max-wait-seconds", "60", "--show-output-text"),
        result.id,
    ]


def test_dry_run_sends_nothing(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    """The request as it would go out, without a key; the hash is that of the real run."""
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run("submit", "--prompt", "hi", "--dry-run")
    assert result.code == 0
    assert [result.last[key] for key in ("event", "method", "url")] == [
        "dry_run",
        "POST",
        f"{sandbox.base_url}/responses",
    ]
    assert not sandbox.requests
    assert not state.exists()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    real = run("submit", "--prompt", "hi", "--detach")
    assert real.lines[0]["request_sha256"] == result.last["request_sha256"]
    assert sandbox.posts[0].body == result.last["body"]


def test_events_changes_is_quiet(run: Callable[..., Result]) -> None:
    """A poll line only when the status changes."""
    setting = ("--metadata", "sandbox_seconds=0.6", "--poll-seconds", "0.02")
    result = run("submit", "--prompt", "x", *setting, "--events", "changes")
    assert [line["status"] for line in result.lines if line["event"] == "poll"] == [
        "queued",
        "in_progress",
        "completed",
    ]


def test_job_key_reattaches(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The same key and request go on with the same job, running or ended: one POST."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_seconds=0.5")
    first = run(*argv, "--detach")
    second = run(*argv, *FAST)
    third = run(*argv)
    assert first.id == second.id == third.id
    assert len(sandbox.posts) == 1
    assert (second.lines[1]["reattached"], second.lines[1]["event"]) == (True, "submitted")
    assert third.events == ["submit_start", "submitted", "warning", "final"]
    assert (third.lines[2]["code"], third.code) == ("job_key_ended", 0)
    assert "has completed before" in third.lines[2]["message"]


@pytest.mark.parametrize(
    ("fault", "code", "exit_code"),
    [
        (Fault(on="create", kind="status", status=400), None, 1),
        (Fault(on="create", kind="status", status=404), None, 1),
        (Fault(on="create", kind="status", status=401), None, 8),
        (Fault(on="create", kind="status", status=403), None, 8),
        (Fault(on="create", kind="status", status=403, body="<html>no</html>"), "unavailable", 7),
        (Fault(on="create", kind="status", status=407, body="proxy"), "unavailable", 7),
        (
            Fault(on="create", kind="status", status=307, headers={"location": "/v1/responses"}),
            "http_307",
            1,
        ),
        (
            Fault(
                on="create",
                kind="status",
                status=429,
                body={"error": {"message": "You exceeded it.", "code": "insufficient_quota"}},
            ),
            "insufficient_quota",
            1,
        ),
    ],
)
def test_refused_create(
    run: Callable[..., Result], sandbox: Sandbox, fault: Fault, code: str | None, exit_code: int
) -> None:
    """Certainly not created, one try, and the state has nothing of it."""
    sandbox.script(fault)
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["outcome"]) == (exit_code, "not_created")
    assert result.last["http_status"] == fault.status
    assert code is None or result.last["code"] == code
    assert len(sandbox.posts) == 1
    assert run("show", "--list").last["counts"] == {}


def test_without_a_key(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 8 before anything is sent."""
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["code"]) == (8, "no_api_key")
    assert not sandbox.requests


def test_empty_base_url_is_openais_own(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable would break every call of the SDK; here it counts as unset."""
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    result = run("submit", "--prompt", "x", "--dry-run")
    assert result.last["url"] == "https://api.openai.com/v1/responses"


def test_odd_status_and_model(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Whatever a server spells, the id is kept and told."""
    body = r'{"id": "resp_1", "status": "q\ud800", "model": "\udfff"}'
    sandbox.script(Fault(on="create", kind="raw", body=body))
    result = run("submit", "--prompt", "x", "--detach")
    assert (result.code, result.id, result.last["status"]) == (0, "resp_1", "q\ufffd")
    assert run("show", "--list").lines[0]["response_id"] == "resp_1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_ORG_ID", "a\nb"),
        ("OPENAI_ORG_ID", "\u00e4"),
        ("OPENAI_CUSTOM_HEADERS", "a b: c"),
        ("OPENAI_CUSTOM_HEADERS", "a: \u00e4"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/no/such/file"),
    ],
)
def test_environment_that_cannot_be_used(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    """Exit 2 with the variables to look at; nothing was sent, and the key is free."""
    monkeypatch.setenv(name, value)
    result = run("submit", "--prompt", "x", "--job-key", "k")
    assert (result.code, result.last["outcome"]) == (2, "not_created")
    assert name in result.last["hint"] or name == "ALL_PROXY"
    monkeypatch.delenv(name)
    assert run("submit", "--prompt", "x", "--job-key", "k", "--detach").code == 0
    assert len(sandbox.posts) == 1


def test_resubmit_that_creates_nothing_leaves_the_unknown_outcome(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision for another submit is spent only when one has gone out."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    argv = ("submit", "--prompt", "x", "--job-key", "k")
    assert run(*argv).code == 6
    with monkeypatch.context() as without_key:
        without_key.delenv("OPENAI_API_KEY")
        assert run(*argv, "--resubmit-unknown").code == 8
    assert run(*argv).code == 6
    sandbox.script(Fault(on="create", kind="status", status=400))
    assert run(*argv, "--resubmit-unknown").code == 1
    assert run(*argv).code == 6
    assert len(sandbox.posts) == 2
    assert run(*argv, "--resubmit-unknown", *FAST).code == 0
    assert run(*argv).code == 0
    assert len(sandbox.posts) == 3


def test_reattached_without_a_key(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job exists, and that is told with the error."""
    argv = ("submit", "--prompt", "x", "--job-key", "k")
    identifier = run(*argv, "--detach").id
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run(*argv)
    assert (result.code, result.id, result.last["outcome"]) == (8, identifier, "created")
    assert result.last["next"][-2:] == ["monitor", identifier]


def test_detach_of_a_job_that_has_ended(run: Callable[..., Result]) -> None:
    """Its end is told: there is nothing to detach from."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_outcome=failed")
    assert run(*argv, *FAST).code == 4
    result = run(*argv, "--detach")
    assert (result.code, result.events[-1]) == (4, "final")


def test_spelling_of_the_base_url(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server is one server, however its name is written."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--detach")
    url = sandbox.base_url.replace("127.0.0.1", "localhost")
    for spelling in (url, url.replace("localhost", "LocalHost"), f"{url}/"):
        monkeypatch.setenv("OPENAI_BASE_URL", spelling)
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert run(*argv).code == 0
    assert len(sandbox.posts) == 1


def test_output_files_that_are_no_files(run: Callable[..., Result], tmp_path: Path) -> None:
    """The null device takes everything; two names of one file are refused."""
    null = ("--output-json-file", "/dev/null", "--output-text-file", "/dev/null")
    assert run("submit", "--prompt", "x", *null, *FAST).code == 0
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    same = ("--output-json-file", str(tmp_path / "a"), "--output-text-file", str(tmp_path / "b"))
    assert run("submit", "--prompt", "x", *same).code == 2
    long = tmp_path / ("\u6f22" * 84)
    assert run("submit", "--prompt", "x", "--output-text-file", str(long), *FAST).code == 0
    assert long.exists()


def test_deep_input_is_refused(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Before anything is sent, at any depth that JSON's readers could stumble over."""
    path = tmp_path / "i.json"
    for depth in (300, 960, 5000):
        path.write_text('[{"a":' + "[" * depth + "]" * depth + "}]")
        result = run("submit", "--input-json-file", str(path))
        assert (result.code, result.last["code"]) == (2, "usage")
        assert "nested too deeply" in result.last["message"]
    assert not sandbox.posts


def test_an_option_as_a_value(run: Callable[..., Result]) -> None:
    """`--human` as the text of a prompt chooses no renderer."""
    result = run("submit", "--prompt", "--human", "--messages-json-file", "x")
    assert (result.code, result.events) == (2, ["error"])


@pytest.mark.slow
def test_proxy_that_refuses_the_tunnel(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request itself never went out: nothing was created, and the key is free."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = proxy.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("OPENAI_BASE_URL", "https://api.invalid/v1")
        result = run("submit", "--prompt", "x", "--job-key", "k", "--max-wait-seconds", "2.5")
        listed = run("show", "--list")
    assert (result.code, result.last["outcome"]) == (7, "not_created")
    assert "submit_error" in result.events
    assert listed.last["counts"] == {}
    assert not sandbox.posts


def test_each_try_has_a_connection_of_its_own(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, instant_sleep: None
) -> None:
    """One that was kept alive may be closing as the request goes out: that could not be told."""
    replies = [(429, b"{}"), (200, b'{"id":"resp_1","status":"queued"}')]
    served: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, body = replies[min(len(served), 1)]
            served.append(self.client_address[1])
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        result = run("submit", "--prompt", "x", "--detach")
        server.shutdown()
    assert (result.code, result.id) == (0, "resp_1")
    assert len(set(served)) == 2


def test_error_with_a_byte_order_mark(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """As some gateways send them: it is the API's envelope all the same."""
    body = '\ufeff{"error":{"message":"Slow down.","code":"rate_limit_exceeded","param":null}}'
    sandbox.script(
        Fault(on="create", kind="status", status=429, body=body),
        Fault(on="retrieve", kind="status", status=500, body=body),
    )
    result = run("submit", "--prompt", "x", "--job-key", "k", *FAST)
    assert result.code == 0
    errors = [line["error"] for line in result.lines if line["event"].endswith("_error")]
    assert [error["code"] for error in errors] == ["rate_limit_exceeded"] * 2
    assert [error["message"] for error in errors] == [
        "HTTP 429: Slow down.",
        "HTTP 500: Slow down.",
    ]


def test_id_that_is_a_number(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """It is an id, too: it was paid for."""
    sandbox.script(Fault(on="create", kind="raw", body='{"id":12345,"status":"queued"}'))
    result = run("submit", "--prompt", "x", "--detach")
    assert (result.code, result.id) == (0, "12345")


def test_address_without_the_api(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base URL that lacks its `/v1` is what to look at."""
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url.removesuffix("/v1"))
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["http_status"]) == (1, 404)
    assert "usually ends in /v1" in result.last["hint"]


def test_a_working_directory_that_is_gone(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt needs no folder."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run("submit", "--prompt", "x", "--dry-run").code == 0
