"""`oaibg cancel`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness import FakeClient, FakeClock, Step, cancel_steps, collect, fake_context, response
from oaibg.contract.events import CancelResult
from oaibg.engine.find import Target
from oaibg.sandbox import Fault
from scripted import RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")
LONG = ("--metadata", "sandbox_seconds=600")


_HINTS: dict[str | None, str] = {
    "completed": "It had already completed. To print the answer, run `oaibg show {} "
    "--output-text`.",
    "failed": "It had already ended (failed).",
    "cancelled": "The job is cancelled.",
}


@pytest.mark.parametrize(
    ("outcome", "code", "cancelled"),
    [(None, 0, True), ("completed", 4, False), ("failed", 4, False), ("cancelled", 0, True)],
)
def test_cancel_result(
    run: Callable[..., Result],
    started: Callable[..., str],
    outcome: str | None,
    code: int,
    cancelled: bool,
) -> None:
    """A cancelled job gives exit 0; a job that ended otherwise gives exit 4 and its status."""
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
            "job_key": None,
            "hint": _HINTS[status].format(identifier),
            "exit_code": code,
            "next": None,
        }
    ]
    assert run("show").last["status"] == status


def test_cancel_again_changes_nothing(
    run: Callable[..., Result], started: Callable[..., str]
) -> None:
    """Cancelling a cancelled job ends with exit 0; a job key works as well as an ID."""
    started(*LONG, "--job-key", "k")
    assert [run("cancel", "--job-key", "k").code for _ in range(2)] == [0, 0]


def test_cancel_that_is_confirmed_late() -> None:
    """A cancel that a server confirms only after a few retrieves ends with exit 0."""
    steps: list[Step] = [RUNNING, RUNNING, response("cancelled")]
    client = FakeClient(FakeClock(), cancels=[RUNNING], retrieves=steps)
    target = Target(response_id="r")
    events = collect(lambda context: cancel_steps(target, context), fake_context(client))
    assert client.times("retrieve") == [1, 2, 3]
    assert isinstance(events[-1], CancelResult)
    assert (events[-1].exit_code, events[-1].cancelled) == (0, True)


def test_cancel_that_is_not_confirmed(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    instant_sleep: None,
) -> None:
    """If the server accepts the cancel but the job keeps running, the exit code is 3."""
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
    """If the server refuses the cancel and the job keeps running, the exit code is 1."""
    identifier = started(*LONG)
    sandbox.script(Fault(on="cancel", kind="status", status=status))
    result = run("cancel", identifier)
    assert (result.code, result.last["event"]) == (1, "cancel_result")
    assert result.last["next"][-2:] == ["monitor", identifier]
    assert result.lines[0]["code"] == "cancel_refused"


ERROR = {"message": "Cannot cancel a completed response.", "type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": ERROR}, "Cannot cancel a completed response"),
        ({"detail": "No worker runs this job."}, "No worker runs this job"),
        ({"success": False, "message": "Not now."}, "Not now"),
        ("<html><title>Sign in</title></html>", "an HTML page (Sign in)"),
        ([{"error": ERROR}], "Cannot cancel a completed response"),
    ],
)
def test_cancel_that_is_refused_in_a_200(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox, body: Any, words: str
) -> None:
    """An error in a 200 refuses the cancel: exit 1 with its words, or the status of a job's end."""
    identifier = started(*LONG)
    sandbox.script(Fault(on="cancel", kind="status", status=200, body=body))
    result = run("cancel", identifier)
    assert (result.code, result.events) == (1, ["warning", "cancel_result"])
    assert (result.lines[0]["code"], result.last["next"][-1]) == ("cancel_refused", identifier)
    assert words in result.lines[0]["message"]

    ended = started("--metadata", "sandbox_seconds=0")
    sandbox.script(Fault(on="cancel", kind="status", status=200, body=body))
    result = run("cancel", ended)
    assert (result.code, result.events) == (4, ["cancel_result"])
    assert result.last["status"] == "completed"


def test_cancel_of_an_unknown_id(run: Callable[..., Result]) -> None:
    """A cancel of an ID that the API does not have ends with exit 5."""
    result = run("cancel", "resp_unknown")
    assert (result.code, result.last["code"]) == (5, "not_found")


def test_cancel_with_an_empty_reply(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox
) -> None:
    """If the reply to a cancel has no response object, a retrieve gets the job's status."""
    for body in ("{}", "", "ok"):
        identifier = started(*LONG)
        sandbox.script(Fault(on="cancel", kind="raw", body=body))
        result = run("cancel", identifier)
        assert (result.code, result.last["status"]) == (0, "cancelled")


def test_cancel_is_retried(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    instant_sleep: None,
) -> None:
    """A cancel is retried after a lost reply and after a server error."""
    identifier = started(*LONG)
    sandbox.script(Fault(on="cancel", kind="reset_after"), Fault(on="cancel", kind="status"))
    assert run("cancel", identifier).code == 0
