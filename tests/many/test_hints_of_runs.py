"""What the hint of a summary says about jobs that were cancelled, or may be running somewhere."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from harness import await_line, wait_until
from oaibg.sandbox import Fault
from runs import ENDLESS, FAST, SLOW, Files, line, new_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

REFUSED: Any = {"error": {"code": None, "message": "No."}}
CANCELS: dict[str, tuple[list[str], int, str]] = {
    "completed": (["running", "ended"], 4, "`counts` says how the jobs ended."),
    "unknown": (["running", "resp_other"], 5, "check the ID and OPENAI_BASE_URL"),
    "refused": (["running"] * 2, 1, "Run the same command again, or `next` to wait"),
}
"""Jobs to cancel, the exit code, and what the hint says."""


@pytest.mark.parametrize("case", CANCELS)
def test_cancel_of_several_jobs(many: Callable[..., Result], sandbox: Sandbox, case: str) -> None:
    """The hint of a cancel says nothing about submitting the jobs again."""
    kinds, code, words = CANCELS[case]
    if case == "refused":
        sandbox.script(Fault(on="cancel", kind="status", times=2, status=400, body=REFUSED))
    seconds = {"running": 600.0, "ended": 0.0}
    ids = [new_jobs(sandbox, 1, seconds[kind])[0] if kind in seconds else kind for kind in kinds]
    result = many("cancel", *ids)
    assert result.code == code
    assert words in result.last["hint"]
    assert "pay again" not in result.last["hint"]
    assert "unsuccessful" not in result.last["hint"] or result.last["unsuccessful"]


def test_monitor_of_an_unknown_id(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """A job that this server does not have may be running elsewhere: nothing says to pay again."""
    result = many("monitor", *new_jobs(sandbox, 1, 0.0), "resp_other", *FAST)
    assert result.code == 5
    assert "1 job counted as `not_found` may be running elsewhere" in result.last["hint"]
    assert "pay again" not in result.last["hint"]


def test_signal_that_cancels_all_jobs(command: Command, files: Files) -> None:
    """After --cancel-on-interrupt the hint does not say that jobs keep running."""
    files.add(2, **ENDLESS)
    process = command.start(*files.argv("--cancel-on-interrupt", "--events", "all"))
    await_line(process, "submitted")
    await_line(process, "submitted")
    process.send_signal(signal.SIGTERM)
    last = command.end(process).last
    assert (last["exit_code"], last["counts"]) == (143, {"cancelled": 2})
    assert "keep running" not in last["hint"]
    assert last["hint"].startswith("Run `next` to continue")


def test_cancel_while_a_job_is_being_submitted(
    command: Command, run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A request that another process has sent may create a job, so the cancel is not done yet."""
    sandbox.script(Fault(on="create", kind="hang_before"))
    files.write(line("a", **SLOW))
    process = command.start(*files.argv("--job-key", "k"))
    wait_until(lambda: len(sandbox.requests) > 0)
    cancelled = run("cancel", "k")
    assert (cancelled.code, cancelled.last["counts"]) == (3, {"not_submitted": 1})
    assert cancelled.last["next"][-2:] == ["cancel", "k"]
    assert "Stop it, and cancel the run again." in cancelled.last["hint"]
    process.kill()
    process.wait(20)


def test_more_ids_than_a_command_can_have(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """If `next` would be too long, nothing says to submit the jobs again: they have no key."""
    ids = [*new_jobs(sandbox, 1, 600.0), *(f"resp_{number:01000}" for number in range(1100))]
    result = many("monitor", *ids, *FAST, "--max-wait-seconds", "2")
    assert (result.code, result.last["next"]) == (3, None)
    assert "To continue, run the same command." in result.last["hint"]
    assert "repeat the submit command" not in result.last["hint"]
