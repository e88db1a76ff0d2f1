"""A run in one process, and `show` and `cancel` of it in another."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from runs import ENDLESS, FAST, Files, finish, of, rerun

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process


def submitted(command: Command) -> int:
    """Return the number of the run's jobs that the state has with an ID."""
    counts = command.run("show", "k").last["counts"]
    return int(counts.get("queued", 0) + counts.get("in_progress", 0))


def test_show_and_cancel_from_another_shell(
    command: Command,
    start: Callable[..., Callable[..., Result]],
    sandbox: Sandbox,
    files: Files,
) -> None:
    """`show` is current, and `cancel` also stops the other process from submitting more jobs."""
    files.add(4, **ENDLESS)
    end = start(*files.argv("--job-key", "k", "--max-in-flight", "2"))
    wait_until(lambda: len(sandbox.posts) == 2)
    wait_until(lambda: submitted(command) == 2)
    shown = command.run("show", str(files.jobs))
    assert (shown.code, shown.last["counts"]["not_submitted"]) == (3, 2)
    cancelled = command.run("cancel", "k")
    assert cancelled.last["counts"] == {"cancelled": 2, "not_submitted": 2}
    assert (cancelled.code, of(cancelled, "warning")) == (0, [])
    first = end()
    assert (first.code, first.last["counts"]) == (4, {"cancelled": 2, "not_submitted": 2})
    for last in (first.last, command.run("show", "k").last):
        assert (last["exit_code"], last["next"]) == (4, None)
    assert len(sandbox.posts) == 2


def test_a_cancelled_run_is_started_again(command: Command, sandbox: Sandbox, files: Files) -> None:
    """After a cancel, only the submit command itself submits the jobs that are left."""
    files.add(3, **ENDLESS)
    argv = files.argv("--job-key", "k", "--max-in-flight", "1", "--max-wait-seconds", "2")
    assert command.run(*argv).code == 3
    assert command.run("cancel", "k").last["counts"] == {"cancelled": 1, "not_submitted": 2}
    shown = command.run("show", "k").last
    assert (shown["exit_code"], shown["next"]) == (4, None)
    assert command.run(*argv).code == 3
    assert command.run("show", "k").last["next"] is not None
    assert len(sandbox.posts) == 2


def test_the_pace_of_a_run_in_another_shell(
    command: Command,
    start: Callable[..., Callable[..., Result]],
    sandbox: Sandbox,
    files: Files,
) -> None:
    """`show` has the rate and the time left of a run while a process runs it, and only then.

    It says whether one does, and prints the next command only if none does.
    """
    files.add(4, sandbox_seconds="0.01")
    files.add(8, first=4, **ENDLESS)
    end = start(*files.argv("--job-key", "k", "--max-in-flight", "2"))
    wait_until(lambda: len(sandbox.jobs) == 6)
    wait_until(lambda: submitted(command) == 2)
    wait_until(lambda: command.run("show", "k").lines[0]["per_minute"] is not None)  # after 5 s
    found = command.run("show", "k").lines[0]
    assert found["counts"]["completed"] == 4
    assert found["per_minute"] > 0
    assert found["eta_seconds"] == pytest.approx(8 / found["per_minute"] * 60, abs=1)
    assert command.run("show", "--list").lines[0]["eta_seconds"] is None
    shown = command.run("show", "k", "--human")
    page = shown.out.decode()
    assert (found["is_active"], "Continue the run: " in shown.err) == (True, False)
    assert re.search(r"Process +running\n", page)
    assert re.search(r"Pace +[\d,]+ a minute, about \d+ (second|minute)s? left\n", page)
    with pytest.raises(AssertionError):
        _ = end(signal.SIGKILL).last
    dead = command.run("show", "k").lines[0]
    assert (dead["per_minute"], dead["eta_seconds"]) == (None, None)
    ended = command.run("show", "k", "--human")
    assert "Pace" not in ended.out.decode()
    assert (dead["is_active"], "Continue the run: " in ended.err) == (False, True)
    assert re.search(r"Process +none\n", ended.out.decode())
    assert command.run("show", "--list").lines[0]["is_active"] is None


def test_monitor_from_another_shell(
    command: Command,
    start: Callable[..., Callable[..., Result]],
    sandbox: Sandbox,
    files: Files,
) -> None:
    """`monitor` also follows the jobs that the other process submits later, to the end of all."""
    files.add(8, sandbox_seconds="0.5")
    end = start(*files.argv("--job-key", "k", "--max-in-flight", "1"))
    wait_until(lambda: len(sandbox.jobs) == 2)
    followed = command.run("monitor", "k", *FAST)
    assert (followed.code, followed.last["counts"]) == (0, {"completed": 8})
    assert (followed.last["next"], len(sandbox.posts)) == (None, 8)
    (began,) = of(followed, "run_progress")
    assert (began["total"], began["counts"].get("not_submitted")) == (8, None)
    assert len(of(followed, "final")) == 8 - began["done"]
    used = command.run("show", "k").last["usage"]
    assert (end().code, followed.last["usage"]) == (0, used)


def test_monitor_ends_before_the_run(
    command: Command,
    start: Callable[..., Callable[..., Result]],
    sandbox: Sandbox,
    files: Files,
) -> None:
    """At the wait limit, `monitor` says what `show` does, and `next` of both is to monitor."""
    files.results = files.folder / "results.csv"
    files.add(1, sandbox_seconds="0.1")
    files.add(3, first=1, **ENDLESS)
    end = start(*files.argv("--job-key", "k", "--max-in-flight", "2"))
    wait_until(lambda: len(sandbox.jobs) == 3)
    wait_until(lambda: submitted(command) == 2)
    followed = command.run("monitor", "k", *FAST, "--max-wait-seconds", "1.5")
    shown = command.run("show", "k")
    people = command.run("monitor", "k", *FAST, "--max-wait-seconds", "1.5", "--human")
    for result in (followed, shown):
        counts = result.last["counts"]
        assert (result.code, counts["completed"], counts["not_submitted"]) == (3, 1, 1)
        assert sum(counts.values()) == 4
        assert rerun(result.last["next"])[0] == "monitor"
        assert "Another process is running it." in result.last["hint"]
        assert result.last["results_file"] is None
    assert "1 of 4 already done" in people.err
    assert "Another process is running k, and submits the jobs that are left." in people.err
    assert "Results: " not in people.err, people.err
    assert end(signal.SIGTERM).last["results_file"] == str(files.results)
    assert command.run("show", "k").last["results_file"] == str(files.results)


def test_a_run_that_was_killed(
    command: Command,
    start: Callable[..., Callable[..., Result]],
    sandbox: Sandbox,
    files: Files,
) -> None:
    """After kill -9, another shell finds the run by its file, follows it, and resumes it."""
    files.add(3, **ENDLESS)
    end = start(*files.argv("--job-key", "k", "--max-in-flight", "2"))
    wait_until(lambda: len(sandbox.posts) == 2)
    wait_until(lambda: submitted(command) == 2)
    with pytest.raises(AssertionError):
        _ = end(signal.SIGKILL).last
    finish(sandbox)
    followed = command.run("monitor", str(files.results), *FAST)
    assert followed.last["counts"] == {"completed": 2, "not_submitted": 1}
    assert [one["code"] for one in of(followed, "warning")] == ["results_missing"]
    shown = command.run("show", "k")
    assert (shown.code, shown.last["counts"]) == (3, {"completed": 2, "not_submitted": 1})
    process = start(*rerun(shown.last["next"]))
    wait_until(lambda: len(sandbox.posts) == 3)
    finish(sandbox)
    resumed = process()
    assert (resumed.code, resumed.last["counts"]) == (0, {"completed": 3})
    files.check(sandbox, 3)
    assert command.run("show", "k").code == 0
