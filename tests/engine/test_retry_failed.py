"""`--retry-failed` with a job key: when a job is submitted again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from ledger import audit
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

RETRY = "--retry-failed"
FAST = ("--poll-seconds", "0.05")
KEYED = ("submit", "--prompt", "x", "--job-key", "k", *FAST)
ONCE = ("--metadata", "sandbox_failures=1")
"""The option of a job whose first attempt fails."""
LONG = ("--metadata", "sandbox_seconds=600")


def outcome(name: str) -> tuple[str, ...]:
    """Return the option of a job that ends in some way."""
    return ("--metadata", f"sandbox_outcome={name}")


def test_a_failed_job_is_submitted_again(
    run: Callable[..., Result], sandbox: Sandbox, state: Path
) -> None:
    """Only with the flag is a failed job submitted again, and the key then has the new job."""
    failed = run(*KEYED, *ONCE)
    again = run(*KEYED, *ONCE)
    assert (again.code, again.id) == (4, failed.id)
    warning = again.lines[2]
    assert warning["code"] == "job_key_ended"
    assert RETRY in warning["message"]
    done = run(*KEYED, *ONCE, RETRY)
    assert (done.code, done.events[:2]) == (0, ["submit_start", "submitted"])
    assert (done.lines[1]["reattached"], done.id != failed.id) == (False, True)
    for more in ((), (RETRY,)):
        assert (run(*KEYED, *ONCE, *more).id, len(sandbox.posts)) == (done.id, 2)
    assert run("show", "--job-key", "k").id == done.id
    audit(sandbox, state, decided=1)


@pytest.mark.parametrize("status", ["failed", "incomplete", "cancelled", "expired"])
def test_every_way_to_fail(run: Callable[..., Result], sandbox: Sandbox, status: str) -> None:
    """Every job without success is submitted again, also with another request."""
    assert run(*KEYED, *outcome(status)).code == 4
    changed = run(*KEYED, *LONG)
    assert (changed.code, changed.last["code"]) == (2, "job_key_reused")
    assert RETRY in changed.last["hint"]
    assert run(*KEYED, RETRY).code == 0
    assert len(sandbox.posts) == 2


@pytest.mark.parametrize(("name", "code"), [("completed", 0), ("refusal", 10)])
def test_a_completed_job_is_left(
    run: Callable[..., Result], sandbox: Sandbox, name: str, code: int
) -> None:
    """A completed job is not submitted again, even if the model refused."""
    first = run(*KEYED, *outcome(name))
    again = run(*KEYED, *outcome(name), RETRY)
    assert (again.code, again.id) == (code, first.id)
    changed = run(*KEYED, RETRY)
    expected = (2, "job_key_reused") if name == "refusal" else (0, None)
    if name == "refusal":
        assert (changed.code, changed.last["code"]) == expected
        assert RETRY not in changed.last["hint"]
    assert len(sandbox.posts) == 1


def test_a_running_retry_is_followed(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A second run with the flag reattaches to a retry that runs; `next` monitors it."""
    run(*KEYED, *outcome("failed"))
    wait = ("--poll-seconds", "5", "--max-wait-seconds", "30")
    first, second = (run(*KEYED, *LONG, RETRY, *wait) for _ in range(2))
    assert (first.code, second.code, first.id == second.id) == (3, 3, True)
    assert second.lines[1]["reattached"] is True
    argv = first.last["next"]
    assert argv[argv.index("monitor") :] == ["monitor", *wait, first.id]
    assert len(sandbox.posts) == 2


def test_a_job_that_the_api_lost(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A job that the API no longer has is submitted again."""
    lost = run(*KEYED, *LONG, "--detach").id
    sandbox.forget(lost)
    gone = run(*KEYED, *LONG)
    assert (gone.code, RETRY in gone.last["hint"]) == (5, True)
    assert run(*KEYED, *LONG, RETRY, "--detach").id != lost
    assert len(sandbox.posts) == 2


def test_a_completed_job_that_the_api_lost(
    run: Callable[..., Result],
    sandbox: Sandbox,
    instant_sleep: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that had completed before the API lost it is not submitted again."""
    monkeypatch.setenv("OAIBG_KEEP_DAYS", "0")
    lost = run(*KEYED).id
    sandbox.forget(lost)
    for more in ((), (RETRY,), (RETRY,)):
        gone = run(*KEYED, *more)
        assert (gone.code, gone.id) == (5, lost)
        assert "does not submit it again" in gone.last["hint"]
    assert len(sandbox.posts) == 1


def test_a_retry_that_creates_nothing(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If nothing is created, the key keeps its old job; if the reply is lost, exit 6 follows."""
    failed = run(*KEYED, *ONCE).id
    sandbox.script(Fault(on="create", kind="status", status=400))
    assert run(*KEYED, *ONCE, RETRY).code == 1
    assert (run(*KEYED, *ONCE).id, len(sandbox.posts)) == (failed, 2)
    sandbox.script(Fault(on="create", kind="reset_after"))
    for more in ((RETRY,), (RETRY,), ()):
        assert run(*KEYED, *ONCE, *more).code == 6
    assert len(sandbox.posts) == 3
    assert run(*KEYED, *ONCE, "--resubmit-unknown").code == 0


@pytest.mark.parametrize("flag", [RETRY, "--resubmit-unknown"])
def test_a_key_is_needed(run: Callable[..., Result], sandbox: Sandbox, flag: str) -> None:
    """Without a key or a jobs file the flag is a usage error."""
    result = run("submit", "--prompt", "x", flag)
    assert (result.code, result.last["code"]) == (2, "usage")
    assert result.last["message"] == f"{flag} needs --job-key or --jobs-file."
    assert not sandbox.requests


@pytest.mark.process
def test_several_retries_at_once(command: Command, sandbox: Sandbox) -> None:
    """Several processes with the flag submit one job, and all of them follow it."""
    command.run(*KEYED, *outcome("failed"))
    sandbox.script(Fault(on="create", kind="delay", seconds=0.3))
    argv = (*KEYED, *LONG, RETRY, "--detach")
    processes = [command.start(*argv) for _ in range(4)]
    wait_until(lambda: len(sandbox.posts) == 2)
    results = [command.end(one) for one in processes]
    assert {one.code for one in results} == {0}
    assert len({one.id for one in results}) == 1
    assert len(sandbox.posts) == 2


def test_the_second_failure_is_reported(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """From the second failed attempt on, every command says to report it, not to try again."""
    failing = (*KEYED, *outcome("failed"))
    first = run(*failing)
    assert "try once more. To submit the request again, repeat" in first.last["hint"]
    for attempts in (2, 3):
        again = run(*failing, RETRY)
        for result in (again, run(*failing), run("show", "k"), run("monitor", "k", *FAST)):
            assert result.code == 4
            assert result.last["hint"] == (
                f"All {attempts} attempts ended without success: report this to the user. Only if "
                "the user asks for another attempt, repeat the submit command with --job-key k, "
                "and add --retry-failed; each attempt is billed."
            )
    assert "try once more" in run("show", first.id).last["hint"]
    assert len(sandbox.posts) == 3


def test_a_partial_answer_and_a_retry(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """The hint says that a new answer replaces the partial one, and who set the limit."""
    path = tmp_path / "answer.md"
    argv = (*KEYED, *outcome("incomplete"), "--output-text-file", str(path))
    hint = run(*argv).last["hint"]
    assert "reached the model's limit: ask for a shorter one." in hint
    assert hint.endswith("you pay again; a new answer replaces the file.")
    hint = run(*argv, "--max-output-tokens", "50", "--job-key", "k2").last["hint"]
    assert "cut off: raise --max-output-tokens." in hint
    assert len(sandbox.posts) == 2


def test_one_direction_for_a_reused_key(run: Callable[..., Result]) -> None:
    """The message of a reused key says what happened, and only the hint says what to do."""
    run(*KEYED, *outcome("failed"))
    last = run(*KEYED).last
    assert last["message"] == (
        "The job key 'k' belongs to another request, whose job did not succeed."
    )
    assert last["hint"].startswith("Use a new key for other work. To submit this request in place")


def test_an_unknown_response_to_continue(run: Callable[..., Result]) -> None:
    """If the API has no such previous response, the hint says to check the ID."""
    last = run("submit", "--prompt", "x", "--previous-response-id", "resp_nope", *FAST).last
    assert (last["exit_code"], last["code"]) == (1, "previous_response_not_found")
    assert last["hint"].startswith("Check the ID of the response to continue")
