"""Faults around the create of a job."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fault_runs import KEYED, last_error, submitted
from harness import await_line, wait_until
from ledger import audit, rows_of
from oaibg.contract.errors import CallFailed
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

OVERLOADED = {"error": {"message": "overloaded", "code": "server_is_overloaded"}}
FORBIDDEN = {"error": {"message": "Missing scopes.", "type": "invalid_request_error"}}
UNREACHABLE = "Create: connection refused, or the DNS lookup fails"
KEY_REUSED = "A job key is used again for a different request"


@pytest.mark.row("`kill -9` before the create is sent")
def test_killed_before_the_post(command: Command, sandbox: Sandbox, state: Path) -> None:
    """A job that was killed before its create was sent is submitted by the rerun."""
    # A new process still has to import the SDK after its first line. On a busy machine it may be
    # killed too late all the same; another one takes its place.
    for number in range(20):
        shutil.rmtree(state, ignore_errors=True)
        sandbox.clear()
        argv = ("submit", "--prompt", "x", "--job-key", f"k{number}", "--detach")
        process = command.start(*argv, fresh=True)
        await_line(process, "submit_start")
        process.kill()
        process.wait(60)
        if "sending" not in (steps := {step for step, _ in rows_of(state)}) and not sandbox.posts:
            break
    assert steps <= {"intent"}
    assert command.run(*argv).code == 0
    assert len(sandbox.posts) == 1


@pytest.mark.row("`kill -9` after the create is sent, before its reply is stored")
@pytest.mark.parametrize("kind", ["hang_before", "hang_after"])
def test_killed_before_the_reply(
    command: Command, sandbox: Sandbox, state: Path, kind: str
) -> None:
    """A rerun sends nothing if the reply to the create was never stored."""
    sandbox.script(Fault(on="create", kind=kind))
    process = command.start(*KEYED)
    wait_until(lambda: sandbox.posts)
    process.kill()
    process.wait(60)
    assert rows_of(state) == [("sending", None)]
    result = command.run(*KEYED)
    assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert "--resubmit-unknown" in result.last["hint"]
    assert len(sandbox.posts) == 1


@pytest.mark.row("`kill -9` after the response ID is stored")
def test_killed_after_the_id(command: Command, sandbox: Sandbox) -> None:
    """A rerun continues with the job whose response ID was stored."""
    argv = (*KEYED, "--metadata", "sandbox_seconds=0.5")
    process = command.start(*argv)
    line, _ = await_line(process, "submitted")
    process.kill()
    process.wait(60)
    again = command.run(*argv, "--poll-seconds", "0.1")
    assert (again.code, again.id) == (0, line["response_id"])
    assert len(sandbox.posts) == 1


@pytest.mark.row(UNREACHABLE)
@pytest.mark.parametrize("host", ["127.0.0.1:9", ".".join(["no-such-host" * 5] * 5)])
def test_unreachable(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, instant_sleep: None, host: str
) -> None:
    """A create that can't connect is retried until the wait limit, and creates nothing."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    result = run(*KEYED, "--max-wait-seconds", "20")
    assert (result.code, result.last["outcome"]) == (7, "not_created")
    assert result.last["retryable"]
    errors = [line for line in result.lines if line["event"] == "submit_error"]
    assert {error["error"]["code"] for error in errors} == {"connect_error"}
    assert run("show", "--list").last["counts"] == {}


@pytest.mark.row(UNREACHABLE)
def test_unreachable_for_a_minute() -> None:
    """Without a wait limit, a create that can't connect is retried for a minute."""
    refused = CallFailed("connect_error", "refused", sent=False)
    events, client = submitted([refused])
    error = last_error(events)
    assert (error.exit_code, error.outcome, error.next) == (7, "not_created", None)
    assert client.times("create") == [0, 1, 3, 7, 15, 31, 60]


@pytest.mark.row("Create: reset, timeout, 408, 500, 502, 504, or a reply without a valid ID")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="create", kind="reset_before"),
        Fault(on="create", kind="reset_after"),
        Fault(on="create", kind="status", status=303, headers={"location": "/v1/elsewhere"}),
        Fault(on="create", kind="status", status=408),
        Fault(on="create", kind="status", status=500),
        Fault(on="create", kind="status", status=502),
        Fault(on="create", kind="status", status=503, body="no upstream"),
        Fault(on="create", kind="status", status=504),
        Fault(on="create", kind="html"),
        Fault(on="create", kind="truncate", after=9),
        Fault(on="create", kind="raw", body="{}"),
        Fault(on="create", kind="raw", body='{"id": ""}'),
        Fault(on="create", kind="raw", body="[1]"),
        Fault(on="create", kind="raw", body='{"id": "..", "status": "queued"}'),
        Fault(on="create", kind="raw", body='{"id": "a/b", "status": "queued"}'),
        Fault(on="create", kind="raw", body=r'{"id": "resp_\ud800", "status": "queued"}'),
        Fault(on="create", kind="raw", body=""),
        pytest.param(Fault(on="create", kind="hang_after"), marks=pytest.mark.slow),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{str(fault.body)[:12]}",
)
def test_lost_reply(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, fault: Fault
) -> None:
    """A create without a usable reply has an unknown outcome and is not sent again."""
    sandbox.script(fault)
    # Without any reply, the command waits until 5 s after the wait limit.
    waits = ("--max-wait-seconds", "0.5") if fault.kind == "hang_after" else ()
    result = run(*KEYED, *waits)
    assert (result.code, result.last["outcome"], result.last["next"]) == (6, "unknown", None)
    again = run(*KEYED)
    assert (again.code, again.last["code"], again.last["outcome"]) == (
        6,
        "outcome_unknown",
        "unknown",
    )
    assert len(sandbox.posts) == 1
    assert run("show").code == 6
    assert run("show", "--list").last["counts"] == {"outcome_unknown": 1}
    audit(sandbox, state)
    decided = run(*KEYED, "--resubmit-unknown", "--detach")
    assert (decided.code, len(sandbox.posts)) == (0, 2)
    assert run("show", "--job-key", "k").id == decided.id


@pytest.mark.row("Create: 429 with or without `Retry-After`, or 503 `server_is_overloaded`")
@pytest.mark.parametrize(
    ("fault", "delay"),
    [
        (Fault(on="create", kind="status", status=429, headers={"retry-after": "7"}), 7),
        (Fault(on="create", kind="status", status=429, headers={"retry-after-ms": "2500"}), 2.5),
        (Fault(on="create", kind="status", status=429, times=2), 0),
        (Fault(on="create", kind="status", status=503, body=OVERLOADED), 0),
    ],
)
def test_busy(
    run: Callable[..., Result],
    sandbox: Sandbox,
    state: Path,
    instant_sleep: None,
    fault: Fault,
    delay: float,
) -> None:
    """A create that the API was too busy for is retried after the delay it asks for."""
    sandbox.script(fault)
    result = run(*KEYED, "--detach")
    errors = ["submit_error"] * fault.times
    assert result.events == ["submit_start", *errors, "submitted", "detached"]
    assert result.lines[1]["error"]["http_status"] == fault.status
    assert result.lines[1]["retry_in_seconds"] == (delay or pytest.approx(1, abs=0.26))
    assert len(sandbox.jobs) == 1
    audit(sandbox, state)


@pytest.mark.row("Create: 429 because the quota or a spend limit is exhausted")
@pytest.mark.parametrize(
    "code",
    [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    ],
)
def test_exhausted(run: Callable[..., Result], sandbox: Sandbox, code: str) -> None:
    """A create that fails because of an exhausted quota is not retried."""
    body = {"error": {"message": "You exceeded it.", "code": code}}
    sandbox.script(Fault(on="create", kind="status", status=429, body=body))
    result = run(*KEYED)
    assert (result.code, result.last["code"], result.last["outcome"]) == (1, code, "not_created")
    assert "credit" in result.last["hint"]
    assert len(sandbox.posts) == 1


@pytest.mark.row("Create: 400, or 404 `model_not_found`")
@pytest.mark.parametrize(
    ("options", "code", "message", "hint"),
    [
        (("--model", "missing-model"), "model_not_found", "does not exist", "--model"),
        (("--metadata", "sandbox_outcome=x"), "invalid_value", "(field: metadata)", None),
    ],
)
def test_refused(
    run: Callable[..., Result],
    sandbox: Sandbox,
    options: tuple[str, ...],
    code: str,
    message: str,
    hint: str | None,
) -> None:
    """A create that the API refuses reports the API's message, and leaves the job key free."""
    result = run(*KEYED, *options)
    assert (result.code, result.last["code"], result.last["outcome"]) == (1, code, "not_created")
    assert message in result.last["message"]
    assert hint is None or hint in result.last["hint"]
    assert len(sandbox.posts) == 1
    assert run("show", "--list").last["counts"] == {}
    assert run(*KEYED, "--detach").code == 0, "the job key is free"


@pytest.mark.row("401, 403, or no API key")
@pytest.mark.parametrize("command", ["submit", "monitor", "cancel", "show"])
@pytest.mark.parametrize("fault", [401, 403, None])
def test_refused_key(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    fault: int | None,
    instant_sleep: None,
) -> None:
    """A refused or missing API key ends every command with exit 8."""
    if fault is None:
        monkeypatch.delenv("OPENAI_API_KEY")
    else:
        body = FORBIDDEN if fault == 403 else None
        sandbox.script(Fault(kind="status", status=fault, body=body, times=0))
    result = run(*(KEYED if command == "submit" else (command, "resp_1")))
    assert (result.code, result.last["http_status"]) == (8, fault)
    # A monitor ends only after two refusals in a row, and says how to continue.
    requests = 0 if fault is None else 2 if command == "monitor" else 1
    assert len(sandbox.requests) == requests
    assert (result.last["next"] is not None) == (requests == 2)


@pytest.mark.row("Several processes submit the same job key at once")
def test_racers(command: Command, sandbox: Sandbox, state: Path) -> None:
    """Processes that submit one job key at once send one create and follow one job."""
    sandbox.script(Fault(on="create", kind="delay", seconds=0.5))
    racers = [command.start(*KEYED, "--poll-seconds", "0.1") for _ in range(12)]
    results = [command.end(racer) for racer in racers]
    assert [result.code for result in results] == [0] * 12
    assert {result.id for result in results} == set(sandbox.jobs)
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


@pytest.mark.row(KEY_REUSED)
def test_reused_key(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A job key can't be used for a second, different request."""
    run(*KEYED, "--detach")
    result = run("submit", "--prompt", "y", "--job-key", "k")
    assert (result.code, result.last["code"]) == (2, "job_key_reused")
    assert result.last["outcome"] == "not_created"
    assert len(sandbox.posts) == 1


@pytest.mark.row(KEY_REUSED)
def test_reused_key_of_unknown_outcome(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """--resubmit-unknown does not send a different request under the same job key."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    assert run(*KEYED).code == 6
    result = run("submit", "--prompt", "y", "--job-key", "k", "--resubmit-unknown")
    assert (result.code, result.last["code"]) == (2, "job_key_reused")
    assert len(sandbox.posts) == 1
