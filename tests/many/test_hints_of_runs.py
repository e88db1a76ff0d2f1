"""What the hint of a summary says about jobs that were cancelled, or may be running somewhere."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from harness import await_line, wait_until
from oaibg.sandbox import Fault
from runs import ENDLESS, FAST, SLOW, WINDOW, Files, line, new_jobs

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
    sandbox.script(Fault(on="retrieve", kind="status", status=500, times=0))
    result = many("monitor", *ids, *FAST, "--max-wait-seconds", "2")
    assert (result.code, result.last["next"]) == (3, None)
    assert "To continue, run the same command." in result.last["hint"]
    assert "repeat the submit command" not in result.last["hint"]


ASKS = "The submit command would submit and bill {}: repeat it only if the user asks."


def stopped(run: Callable[..., Result], files: Files, sandbox: Sandbox) -> None:
    """Submit two of five jobs, let one of them end, and cancel the run."""
    files.write(line("a"), line("b", **SLOW), *(line(name, **SLOW) for name in "cde"))
    argv = ("--job-key", "k", "--max-in-flight", "2", "--max-wait-seconds", "1")
    assert run(*files.argv(*argv)).code == 3
    assert len(sandbox.posts) < 5
    assert run("cancel", "k").code == 0


def test_a_cancelled_run_is_not_restarted(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """No line of a cancelled run says to repeat the submit command, which would bill more jobs."""
    stopped(run, files, sandbox)
    left = 5 - len(sandbox.posts)
    ends = [run("cancel", "k"), run("show", "k"), run("monitor", "k", *FAST)]
    for result in ends:
        assert result.last["next"] is None
        assert f"{left} jobs were not submitted. {ASKS.format('them')}" in result.last["hint"]
        text = result.out.decode().replace(ASKS.format("them"), "")
        assert "epeat" not in text
        assert "--retry-failed" not in text
    assert [result.code for result in ends] == [0, 4, 4]
    assert ends[1].last["hint"].startswith("The run was cancelled. ")
    (shown,) = [one for one in ends[1].lines if one["event"] == "run"]
    (listed,) = [one for one in run("show", "--list").lines if one["event"] == "run"]
    assert (shown["is_cancelled"], listed["is_cancelled"]) == (True, True)
    page = run("show", "k", "--human").out.decode()
    assert "Status         cancelled" in page


def test_results_of_a_cancelled_run(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Results that the file lacks are found without a submit."""
    stopped(run, files, sandbox)
    (warning,) = [one for one in run("show", "k").lines if one["event"] == "warning"]
    assert warning["code"] == "results_missing"
    assert "`oaibg show ID` has each of them" in warning["message"]
    found = run("show", "--list", "--job-key", "k")
    assert "`oaibg show --list --job-key k` lists the IDs" in warning["message"]
    posts = len(sandbox.posts)
    ids = [one["response_id"] for one in found.lines if one["event"] == "job"]
    assert [run("show", one).last["status"] for one in ids].count("cancelled") == len(ids) - 1
    assert len(sandbox.posts) == posts


@pytest.mark.parametrize("kind", ["submit", "monitor"])
def test_cancel_while_another_process_follows(
    command: Command, run: Callable[..., Result], sandbox: Sandbox, files: Files, kind: str
) -> None:
    """A process that follows a run while it is cancelled doesn't offer to submit the rest."""
    files.write(*(line(name, **SLOW) for name in "abcde"))
    argv = files.argv("--job-key", "k", "--max-in-flight", "2", "--events", "all")
    submit = process = command.start(*argv)
    await_line(submit, "submitted")
    await_line(submit, "submitted")
    if kind == "monitor":
        process = command.start("monitor", "k", *FAST, "--events", "all")
        await_line(process, "poll")
    assert run("cancel", "k").code in (0, 3)
    last = command.end(process).last
    if kind == "monitor":
        command.end(submit)
    assert (last["exit_code"], last["next"]) == (4, None)
    assert last["hint"].startswith("The run was cancelled. ")
    assert last["counts"]["not_submitted"] == 3
    assert f"3 jobs were not submitted. {ASKS.format('them')}" in last["hint"]
    assert len(sandbox.posts) == 2


def test_a_cancelled_run_that_is_submitted_again(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Once the user has submitted a run again, it counts as cancelled no more."""
    stopped(run, files, sandbox)
    again = run(*files.argv("--job-key", "k", "--max-wait-seconds", "1"))
    assert again.code == 3
    (shown,) = [one for one in run("show", "k").lines if one["event"] == "run"]
    assert shown["is_cancelled"] is False


@pytest.mark.parametrize("window", [(), WINDOW])
def test_a_run_that_fails_again(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, window: tuple[str, ...]
) -> None:
    """After the second failure of a job, every summary says to report it, not to try again."""
    files.write(line("a"), line("b", metadata={"sandbox_outcome": "failed"}))
    argv = files.argv("--job-key", "k", *window)
    first = run(*argv).last["hint"]
    assert "ended without success: see `unsuccessful`. To submit again, repeat" in first
    for result in (run(*argv, "--retry-failed"), run(*argv), run("show", "k")):
        assert result.code == 4
        assert (
            "1 job has failed more than once: report this to the user. Only if the user asks for "
            "another attempt, repeat the submit command with --job-key k, and add --retry-failed; "
            "each attempt is billed."
        ) in result.last["hint"]
    del sandbox


def test_jobs_that_were_cancelled(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """If jobs of a run were cancelled one by one, another attempt is for the user to decide."""
    files.write(line("a", **SLOW))
    argv = files.argv("--job-key", "k", "--max-wait-seconds", "1")
    assert run(*argv).code == 3
    assert run("cancel", *sandbox.jobs).code == 0
    for last in (run(*argv).last, run("show", "k").last):
        assert (last["exit_code"], last["counts"]) == (4, {"cancelled": 1})
        assert "Only if the user asks for another attempt, repeat the submit" in last["hint"]
    shown = run("show", *sandbox.jobs).last["hint"]
    assert shown.startswith("The job was cancelled. Only if the user asks for another attempt, ")
