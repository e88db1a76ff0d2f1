"""`oaibg monitor`, `cancel` and `show`, whole runs over real HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from harness import with_text
from oaibg.api.client import Client
from oaibg.contract.errors import CallFailed
from oaibg.sandbox import Fault
from oaibg.state.store import Intent, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.03")
LONG = ("--metadata", "sandbox_seconds=600")


@pytest.fixture
def started(run: Callable[..., Result]) -> Callable[..., str]:
    """Submit a job and let it run; gives its id."""
    return lambda *options: run("submit", "--prompt", "x", "--detach", *options).id


def test_monitor_whole_run(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox
) -> None:
    """The first poll comes at once; then each poll, and the end."""
    identifier = started("--metadata", "sandbox_text=ok", *LONG)
    sandbox.script(
        Fault(on="retrieve", kind="raw", body='{"status":"in_progress"}'),
        Fault(on="retrieve", kind="raw", body=json.dumps(with_text("ok"))),
    )
    result = run("monitor", identifier, "--poll-seconds", "0.4", "--show-output-text")
    first, second = result.story[:2]
    assert first == {
        "event": "poll",
        "response_id": identifier,
        "attempt": 1,
        "status": "in_progress",
        "elapsed_seconds": "…",
        "next_poll_seconds": 0.4,
    }
    assert (second["attempt"], second["status"], second["next_poll_seconds"]) == (
        2,
        "completed",
        None,
    )
    assert result.events == ["poll", "poll", "output_text", "final"]
    assert result.code == 0


def test_monitor_of_an_unknown_id(run: Callable[..., Result], instant_sleep: None) -> None:
    """Exit 5 after the grace for an id that the API doesn't have."""
    result = run("monitor", "resp_unknown")
    assert (result.code, result.last["code"], result.last["http_status"]) == (5, "not_found", 404)


def test_monitor_by_job_key(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """A job key stands for the id; an unknown one is not found, without asking anybody."""
    identifier = started("--job-key", "k 1")
    assert run("monitor", "--job-key", "k 1", *FAST).id == identifier
    unknown = run("monitor", "--job-key", "other")
    assert (unknown.code, unknown.events) == (5, ["error"])


@pytest.mark.slow
def test_interrupted_monitor_is_taken_up_by_next(
    run: Callable[..., Result], started: Callable[..., str], tmp_path: Path
) -> None:
    """`next` repeats the wait and output options, and works as it stands."""
    identifier = started("--metadata", "sandbox_seconds=2")
    text = tmp_path / "o.md"
    result = run(
        "monitor", identifier, *FAST, "--max-wait-seconds", "0.5", "--output-text-file", str(text)
    )
    assert result.code == 3
    while result.code == 3:
        command = result.last["next"]
        result = run(*command[command.index("monitor") :])
    assert (result.code, text.exists()) == (0, True)


@pytest.mark.parametrize(
    ("outcome", "code", "cancelled"),
    [(None, 0, True), ("completed", 4, False), ("failed", 4, False), ("cancelled", 0, True)],
)
def test_cancel(
    run: Callable[..., Result],
    started: Callable[..., str],
    outcome: str | None,
    code: int,
    cancelled: bool,
) -> None:
    """0 where it is cancelled (or was), 4 with the true status where it had ended otherwise."""
    identifier = started(*(("--metadata", f"sandbox_outcome={outcome}") if outcome else LONG))
    if outcome:
        run("monitor", identifier, *FAST)
    result = run("cancel", identifier)
    assert result.code == code
    status = "cancelled" if cancelled else outcome
    assert result.story == [
        {
            "event": "cancel_result",
            "response_id": identifier,
            "status": status,
            "cancelled": cancelled,
            "exit_code": code,
            "next": result.last["next"],
        }
    ]
    assert (result.last["next"] is None) is cancelled
    assert run("show").last["status"] == status


def test_cancel_again_changes_nothing(
    run: Callable[..., Result], started: Callable[..., str]
) -> None:
    """Cancelling twice is as good as once; the job key works too."""
    started(*LONG, "--job-key", "k")
    assert [run("cancel", "--job-key", "k").code for _ in range(2)] == [0, 0]


def test_cancel_that_is_not_confirmed(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    instant_sleep: None,
) -> None:
    """Exit 3 with `next` where the server takes the cancel and the job goes on."""
    identifier = started(*LONG)
    body = {"id": identifier, "status": "in_progress"}
    sandbox.script(Fault(on="cancel", kind="raw", status=200, body=json.dumps(body)))
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(body), times=0))
    result = run("cancel", identifier)
    assert (result.code, result.last["cancelled"]) == (3, False)
    assert result.last["next"][-2:] == ["monitor", identifier]


@pytest.mark.parametrize("status", [400, 409, 501])
def test_cancel_that_is_refused(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox, status: int
) -> None:
    """Exit 1 with `next` where the server refuses and the job runs."""
    identifier = started(*LONG)
    sandbox.script(Fault(on="cancel", kind="status", status=status))
    result = run("cancel", identifier)
    assert (result.code, result.last["event"]) == (1, "cancel_result")
    assert result.last["next"][-2:] == ["monitor", identifier]
    assert result.lines[0]["code"] == "cancel_refused"


def test_cancel_of_an_unknown_id(run: Callable[..., Result]) -> None:
    """Exit 5."""
    result = run("cancel", "resp_unknown")
    assert (result.code, result.last["code"]) == (5, "not_found")


def test_cancel_that_is_taken_without_a_word(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox
) -> None:
    """Some servers answer a cancel with nothing: the retrieve tells what came of it."""
    for body in ("{}", "", "ok"):
        identifier = started(*LONG)
        sandbox.script(Fault(on="cancel", kind="raw", body=body))
        result = run("cancel", identifier)
        assert (result.code, result.last["status"]) == (0, "cancelled")


def test_cancelled_job_without_the_api(
    run: Callable[..., Result], started: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its local copy answers where the API can't be asked."""
    identifier = started(*LONG)
    assert run("cancel", identifier).code == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run("show", identifier)
    assert (result.code, result.last["source"], result.last["status"]) == (4, "local", "cancelled")


def test_cancel_is_tried_again(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    instant_sleep: None,
) -> None:
    """A cancel may be repeated, so that a lost reply is no end."""
    identifier = started(*LONG)
    sandbox.script(Fault(on="cancel", kind="reset_after"), Fault(on="cancel", kind="status"))
    assert run("cancel", identifier).code == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--metadata", "sandbox_outcome=failed"), 4),
        (("--metadata", "sandbox_outcome=incomplete"), 4),
    ],
)
def test_show_is_the_one_shot_check(
    run: Callable[..., Result], sandbox: Sandbox, options: tuple[str, ...], code: int
) -> None:
    """The exit code tells the state; an ended job comes from the local copy, without a request."""
    identifier = run("submit", "--prompt", "x", *options, *FAST).id
    asked = len(sandbox.requests)
    result = run("show")
    assert (result.code, result.id, result.last["source"]) == (code, identifier, "local")
    assert result.last["next"] is None
    assert len(sandbox.requests) == asked


def test_show_of_a_running_job(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """Exit 3, from the API, with the monitor as `next`."""
    identifier = started(*LONG)
    result = run("show", identifier)
    assert (result.code, result.last["source"], result.last["status"]) == (3, "api", "queued")
    assert result.last["next"][-2:] == ["monitor", identifier]


def test_show_output_text_alone(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """Stdout has the raw text to the byte, and nothing else; notices go to stderr."""
    text = "Line 1\n\u00e9 \x1b[31m no newline at the end"
    run("submit", "--prompt", "x", "--metadata", f"sandbox_text={text}", *FAST)
    result = run("show", "--output-text")
    assert (result.code, result.out, result.err) == (0, text.encode(), "")
    identifier = started(*LONG)
    running = run("show", "--output-text")
    assert (running.code, running.out) == (3, b"")
    assert identifier in running.err
    missing = run("show", "resp_unknown", "--output-text")
    assert (missing.code, missing.out) == (5, b"")
    assert "No such response" in missing.err


def test_bare_404s_are_not_believed_at_once(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox, instant_sleep: None
) -> None:
    """Gateways answer them now and then; the API's own 404 is believed."""
    identifier = started(*LONG)
    sandbox.script(Fault(on="retrieve", kind="status", status=404, body="not here", times=2))
    assert run("show", identifier).code == 3
    asked = len(sandbox.requests)
    assert run("show", "resp_unknown").code == 5
    assert len(sandbox.requests) == asked + 1


def test_show_without_any_job(run: Callable[..., Result]) -> None:
    """Exit 5: nothing was submitted from here."""
    result = run("show")
    assert (result.code, result.last["code"]) == (5, "not_found")


def test_show_list(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """Every job, newest first, and a summary that has the exit code."""
    first = run("submit", "--prompt", "x", "--job-key", "k", *FAST).id
    second = started(*LONG)
    result = run("show", "--list")
    assert [line["response_id"] for line in result.lines] == [second, first, None]
    assert result.events == ["job", "job", "summary"]
    assert result.lines[1]["job_key"] == "k"
    assert result.last["counts"] == {"queued": 1, "completed": 1}
    assert run("show", "--list", "--limit", "1").last["counts"] == {"queued": 1}


def test_id_of_another_base_url(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It gets a warning that names the other one; the newest submit is that of the present one."""
    identifier = started(*LONG)
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url.replace("127.0.0.1", "localhost"))
    result = run("show", identifier)
    assert (result.code, result.events) == (3, ["warning", "response"])
    assert result.lines[0]["code"] == "other_base_url"
    assert sandbox.base_url in result.lines[0]["message"]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert run("show").code == 5


@pytest.mark.parametrize(
    "argv",
    [
        ("monitor",),
        ("monitor", "resp_1", "--job-key", "k"),
        ("monitor", "resp_1", "--poll-seconds", "0"),
        ("monitor", "resp_1", "--poll-seconds", "nan"),
        ("monitor", "resp_1", "--max-wait-seconds", "inf"),
        ("monitor", "resp_1", "--events", "some"),
        ("monitor", "../x"),
        ("monitor", ".."),
        ("monitor", ""),
        ("monitor", "a\nb"),
        ("monitor", "resp_1\n"),
        ("monitor", "x" * 1025),
        ("cancel",),
        ("cancel", "r\u00e9sp"),
        ("show", "a/b"),
        ("show", "resp_1", "--job-key", "k"),
        ("show", "--limit", "1"),
        ("show", "--list", "--limit", "99999999999999999999"),
        ("show", "--list", "resp_1"),
        ("submit",),
        ("submit", "--prompt", ""),
        ("submit", "--prompt", "x", "--prompt-file", "y"),
        ("submit", "--prompt-file", "-", "--tools-json-file", "-"),
        ("submit", "--prompt", "x", "--model", ""),
        ("submit", "--prompt", "x", "--verbosity", "loud"),
        ("submit", "--prompt", "x", "--job-key", ""),
        ("submit", "--prompt", "x", "--resubmit-unknown"),
        ("submit", "--prompt", "x", "--max-output-tokens", "0"),
        ("submit", "--prompt", "x", "--metadata", "novalue"),
        ("submit", "--prompt", "x", "--output-json-file", "/"),
        ("submit", "--prompt", "x", "--output-json-file", "-"),
        ("submit", "--prompt", "x", "--output-json-file", "/no/such/folder/f"),
        ("submit", "--prompt", "x", "--output-json-file", "a", "--output-text-file", "a"),
        ("submit", "--prompt", "a\udc80b"),
        ("submit", "--nonsense"),
        ("nonsense",),
        ("--nonsense",),
    ],
    ids=lambda argv: " ".join(argv)[:60].encode("ascii", "backslashreplace").decode(),
)
def test_usage_errors(run: Callable[..., Result], sandbox: Sandbox, argv: tuple[str, ...]) -> None:
    """Exit 2, one error line, prose on stderr, and no request."""
    result = run(*argv)
    assert (result.code, result.events) == (2, ["error"])
    assert result.last["code"] == "usage"
    assert result.err.startswith("Error: ")
    assert not sandbox.requests


@pytest.mark.parametrize("extra", ["--human", "--list"])
def test_usage_error_beside_raw_text(run: Callable[..., Result], extra: str) -> None:
    """With --output-text stdout stays empty: it may be somebody's file."""
    result = run("show", "--output-text", extra)
    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith("Error: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_BASE_URL", "ftp://x"),
        ("OPENAI_BASE_URL", "nonsense"),
        ("OPENAI_BASE_URL", "http://["),
        ("OAIBG_KEEP_DAYS", "many"),
        ("OAIBG_KEEP_DAYS", "-1"),
    ],
)
def test_bad_environment(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Exit 2 with the variable's name."""
    monkeypatch.setenv(name, value)
    result = run("show")
    assert (result.code, result.last["code"]) == (2, "usage")
    assert name in result.last["message"]


def test_model_from_the_environment(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAIBG_MODEL is the default, and the option stands above it."""
    monkeypatch.setenv("OAIBG_MODEL", "m1")

    def model(*options: str) -> Any:
        return run("submit", "--prompt", "x", "--dry-run", *options).last["body"]["model"]

    assert model() == "m1"
    assert model("--model", "m2") == "m2"
    monkeypatch.setenv("OAIBG_MODEL", "")
    assert model() == "gpt-5.2"


@pytest.mark.parametrize("command", ["show", "cancel"])
@pytest.mark.parametrize("status", [403, 407])
def test_proxy_that_refuses(
    run: Callable[..., Result], sandbox: Sandbox, command: str, status: int
) -> None:
    """It is the network's word, and not the API's: exit 7."""
    sandbox.script(Fault(kind="status", status=status, body="<html>no</html>", times=0))
    result = run(command, "resp_1")
    assert (result.code, result.last["code"], result.last["http_status"]) == (
        7,
        "unavailable",
        status,
    )


@pytest.mark.parametrize(("kind", "begun"), [("drip", True), ("hang_before", False)])
def test_what_a_timeout_tells(sandbox: Sandbox, kind: str, begun: bool) -> None:
    """Whether an answer had begun to arrive: it may need more time, and nothing else does."""
    sandbox.script(Fault(on="retrieve", kind=kind))

    async def asked() -> CallFailed:
        api = Client(sandbox.base_url, "key")
        with pytest.raises(CallFailed) as caught:
            await api.retrieve("resp_1", 0.4)
        await api.close()
        return caught.value

    failure = asyncio.run(asked())
    assert (failure.code, failure.begun) == ("timeout", begun)


def test_show_while_it_is_being_submitted(
    run: Callable[..., Result], state: Path, sandbox: Sandbox
) -> None:
    """A keyed submit that another process is at is no unknown outcome."""
    run("submit", "--prompt", "x", "--detach", *LONG)
    store = Store(str(state))
    lock = store.lock(sandbox.base_url, "k")
    assert lock is not None
    intent = Intent(base_url=sandbox.base_url, request_sha256="h", job_key="k")
    number = store.intent(intent)
    store.sending(number)

    def finish() -> None:
        other = Store(str(state))
        other.submitted(number, "resp_2", "queued")
        other.close()

    timer = threading.Timer(0.5, finish)
    timer.start()
    sandbox.script(Fault(on="retrieve", kind="raw", body='{"status":"queued"}'))
    result = run("show")
    timer.join()
    store.unlock(lock)
    store.close()
    assert (result.code, result.id) == (3, "resp_2")
