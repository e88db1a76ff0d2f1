"""Jobs that the API no longer has: what is reported, and what the local state records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fault_runs import FAST, LONG, last_error, monitored
from harness import response
from oaibg.contract.errors import CallFailed
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

KEYED = ("submit", "--prompt", "x", "--job-key", "k")
GONE = CallFailed("http_404", "HTTP 404: gone", http_status=404, envelope=True)


def listed(run: Callable[..., Result]) -> list[str]:
    """Return the status of each job in the local state."""
    return [line["status"] for line in run("show", "--list").lines if line["event"] == "job"]


def check_gone(result: Result, before: str | None) -> None:
    """Check the error for a job that was known, and that had this status before."""
    error: dict[str, Any] = result.last
    assert (result.code, error["code"], error["next"]) == (5, "not_found", None)
    seen = "" if before is None else f" (it was {before} before)"
    assert error["message"].startswith(f"The server no longer has this job{seen}: HTTP 404: ")
    assert "--retry-failed" in error["hint"]


@pytest.mark.parametrize("command", ["monitor", "show", "cancel"])
@pytest.mark.parametrize("by_key", [False, True])
def test_a_known_job_that_is_gone(
    run: Callable[..., Result],
    sandbox: Sandbox,
    instant_sleep: None,
    command: str,
    by_key: bool,
) -> None:
    """Exit 5 without `next` says what the job was; the state then lists it as not found."""
    identifier = run(*KEYED, "--detach", *LONG).id
    sandbox.forget(identifier)
    target = ("--job-key", "k") if by_key else (identifier,)
    check_gone(run(command, *target), "queued")
    assert listed(run) == ["not_found"]
    before = len(sandbox.requests)
    check_gone(run("monitor", *target), None)
    assert len(sandbox.requests) == before + 2, "two retrieves are enough to confirm it"


def test_a_job_key_whose_job_is_gone(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A rerun with the key confirms with two retrieves that the job is gone; it creates no job."""
    identifier = run(*KEYED, "--detach", *LONG).id
    sandbox.forget(identifier)
    check_gone(run(*KEYED, *LONG), "queued")
    for _ in range(2):
        result = run(*KEYED, *LONG)
        assert result.events == ["submit_start", "submitted", "poll_error", "error"]
        assert result.lines[1]["reattached"] is True
        check_gone(result, None)
    assert len(sandbox.posts) == 1
    assert run("submit", "--prompt", "x", "--job-key", "k2", *FAST).code == 0


def test_a_server_that_loses_the_job_during_the_wait(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A submit that saw its job running says so when the server loses the job."""
    sandbox.script(
        Fault(on="retrieve", kind="raw", body=response("in_progress"), times=2),
        Fault(on="retrieve", kind="status", status=404, times=0),
    )
    check_gone(run("submit", "--prompt", "x", *LONG), "in_progress")
    assert listed(run) == ["not_found"]


def test_a_job_that_comes_back(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """If the server has the job again, it is followed as before, and the state records that."""
    identifier = run(*KEYED, "--detach", *LONG).id
    job = sandbox.jobs[identifier]
    sandbox.forget(identifier)
    assert run("show", identifier).code == 5
    sandbox.jobs[identifier] = job
    assert run("show", identifier).code == 3
    assert listed(run) == ["queued"]
    sandbox.forget(identifier)
    assert run("show", identifier).code == 5
    job.seconds = 0
    sandbox.jobs[identifier] = job
    assert run(*KEYED, *LONG).code == 0
    assert listed(run) == ["completed"]


@pytest.mark.parametrize("command", ["show", "cancel"])
@pytest.mark.parametrize("rerun", ["monitor", "submit"])
def test_a_job_that_was_not_there_yet(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, command: str, rerun: str
) -> None:
    """A 404 soon after the create, and another one later, don't end a wait for the job."""
    identifier = run(*KEYED, "--detach", "--metadata", "sandbox_seconds=0").id
    sandbox.script(*(Fault(on="retrieve", kind="status", status=404, times=2),))
    if command == "cancel":
        sandbox.script(Fault(on="cancel", kind="status", status=404))
    assert run(command, identifier).code == 5
    assert listed(run) == ["not_found"]
    argv = ("monitor", identifier) if rerun == "monitor" else KEYED
    if rerun == "submit":
        argv = (*argv, "--metadata", "sandbox_seconds=0")
    result = run(*argv, *FAST)
    assert (result.code, result.events.count("poll_error")) == (0, 1)


def test_a_404_of_a_gateway_is_not_recorded(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A `show` that gets 404s which are not the API's records nothing about the job."""
    identifier = run(*KEYED, "--detach", *LONG).id
    for body in ("<html><title>404 Not Found</title></html>", {"detail": "Not Found"}):
        sandbox.script(Fault(on="retrieve", kind="status", status=404, body=body, times=3))
        assert run("show", identifier).code == 5
        assert listed(run) == ["queued"]


def test_an_unknown_id_is_not_recorded(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """An ID that neither the API nor the state knows is not added to the state."""
    for command in ("show", "monitor", "cancel"):
        result = run(command, "resp_typo")
        assert (result.code, result.last["message"][:16]) == (5, "No such response")
        assert "Check the ID" in result.last["hint"]
    assert listed(run) == []


def test_a_local_copy_is_not_forgotten(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A job whose result is kept locally stays completed when the API no longer has it."""
    identifier = run(*KEYED, *FAST).id
    sandbox.forget(identifier)
    for argv in (("monitor", identifier), ("show", identifier), KEYED):
        assert run(*argv).code == 0
    assert run("cancel", identifier).last["status"] == "completed"
    assert listed(run) == ["completed"]


def test_one_of_several_ids(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """In a run over several IDs, `next` has only the jobs that still run."""
    gone = run("submit", "--prompt", "x", "--detach", *LONG).id
    left = run("submit", "--prompt", "y", "--detach", *LONG).id
    sandbox.forget(gone)
    result = run("monitor", gone, left, "--max-wait-seconds", "60")
    assert result.last["counts"] == {"not_found": 1, "queued": 1}
    assert (gone in result.last["next"], left in result.last["next"]) == (False, True)
    assert listed(run) == ["queued", "not_found"]


def test_the_usual_patience() -> None:
    """A job that was not known to be gone counts as gone only after three 404s over 15 s."""
    events, client = monitored([response("queued"), GONE], wait=Wait(poll_seconds=5))
    assert client.times("retrieve") == [0, 5, 10, 15, 20]
    error = last_error(events)
    assert (error.exit_code, error.next) == (5, None)
    assert "it was queued before" in error.message


MISSING: dict[str, Any] = {"on": "retrieve", "kind": "status", "status": 404, "times": 0}
SHORT = ("--poll-seconds", "0.05", "--max-wait-seconds", "1.5")


@pytest.mark.parametrize("name", ["resp_nonexistent", "nokey"])
@pytest.mark.parametrize("several", [False, True])
def test_an_unknown_name_within_a_short_wait_limit(
    run: Callable[..., Result], sandbox: Sandbox, name: str, several: bool
) -> None:
    """If every reply was the API's 404, a name that the state doesn't know ends with exit 5."""
    names = [name, run(*KEYED, "--detach", *LONG).id] if several else [name]
    result = run("monitor", *names, *SHORT)
    error = next(line for line in result.lines if line["event"] == "error")
    assert (error["code"], error["response_id"]) == ("not_found", name)
    assert "The local state in" in error["hint"]
    if not several:
        assert (result.code, result.last["next"]) == (5, None)
    assert "no_answer" not in [line.get("code") for line in result.lines]


@pytest.mark.parametrize("status", [404, 503])
def test_an_unknown_id_and_another_reply(
    run: Callable[..., Result], sandbox: Sandbox, status: int
) -> None:
    """After any other reply, or 404s that a gateway may have sent, the wait limit is exit 3."""
    body: dict[str, Any] = {} if status == 503 else {"body": "not found"}
    sandbox.script(Fault(on="retrieve", kind="status", status=status, **body))
    result = run("monitor", "resp_nonexistent", *SHORT)
    assert (result.code, result.last["event"]) == (3, "timeout")
    assert result.last["hint"].startswith("The job was not found so far (HTTP 404: ")


def test_a_known_job_within_a_short_wait_limit(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """A job that the state knows keeps exit 3: its create may have been a moment ago."""
    identifier = run(*KEYED, "--detach", *LONG).id
    sandbox.script(Fault(**MISSING))
    for argv in (("monitor", identifier), ("monitor", "--job-key", "k"), KEYED + LONG):
        result = run(*argv, *SHORT)
        assert (result.code, result.last["response_id"]) == (3, identifier)
        hint = result.last["hint"]
        assert hint.startswith("The job was not found so far (HTTP 404: ")
        assert hint.endswith("Run `next` to wait for it.")
        assert "busy or failing" not in hint


def test_an_id_and_an_unusable_state(
    run: Callable[..., Result], sandbox: Sandbox, state: Path
) -> None:
    """If the state can't be read, it may have the ID, so the wait limit is exit 3."""
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("not a directory")
    result = run("monitor", "resp_nonexistent", *SHORT)
    assert (result.code, result.last["event"]) == (3, "timeout")
