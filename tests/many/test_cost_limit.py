"""--max-cost-usd: a run stops submitting before it costs more."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from harness import wait_until
from oaibg.many.budget import FIRST
from oaibg.sandbox import Fault
from runs import ENDLESS, FAST, WINDOW, Files, finish, line, of, refused, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

BIG: dict[str, Any] = {"sandbox_bytes": "40000"}
"""Metadata of a job that costs much more than its input."""


@pytest.fixture
def price(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> float:
    """What each of the jobs of `files.add(…, **BIG)` costs."""
    other = Files(files.folder.parent)
    other.add(1, **BIG)
    cost = many(*other.argv()).last["cost_usd"]
    sandbox.clear()
    assert isinstance(cost, float)
    return cost


def limited(files: Files, limit: float, *options: str) -> tuple[str, ...]:
    """Return the arguments of a run with a limit."""
    return files.argv("--max-cost-usd", f"{limit:.9f}", *options)


def polled(sandbox: Sandbox) -> set[str | None]:
    """Return the IDs of the jobs that have been polled."""
    return {one.response_id for one in sandbox.requests if one.method == "GET"}


def check_stop(result: Result, done: int, left: int) -> dict[str, Any]:
    """Check that a run ended at its limit; return the warning that says so."""
    assert result.code == 3
    assert result.last["counts"] == {"completed": done, "not_submitted": left}
    assert "--max-cost-usd" in result.last["next"]
    (warning,) = of(result, "warning")
    assert result.events[-2:] == ["warning", "summary"]
    return warning


def test_a_run_stops_at_its_limit(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, price: float
) -> None:
    """As many jobs are submitted as fit the limit; the warning says to raise it."""
    files.add(12, **BIG)
    result = many(*limited(files, 7.5 * price))
    warning = check_stop(result, 7, 5)
    assert warning["code"] == "cost_limit"
    assert "for 7 jobs" in warning["message"]
    assert "raise --max-cost-usd" in warning["message"]
    assert len(sandbox.posts) == 7
    assert result.last["cost_usd"] == pytest.approx(7 * price)


def test_a_rerun_at_the_limit(
    run: Callable[..., Result],
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    price: float,
) -> None:
    """`next` exits with 2 and sends nothing, unless the limit is raised."""
    files.add(8, **BIG)
    first = many(*limited(files, 6.5 * price))
    check_stop(first, 6, 2)
    again = run(*rerun(first.last["next"]))
    assert (again.code, again.events, again.last["code"]) == (2, ["error"], "cost_limit")
    assert again.last["next"] is None
    assert len(sandbox.posts) == 6
    more = many(*limited(files, 7.5 * price))
    check_stop(more, 7, 1)
    whole = many(*limited(files, 8.5 * price))
    assert (whole.code, whole.last["counts"], whole.last["next"]) == (0, {"completed": 8}, None)
    assert whole.last["cost_usd"] == pytest.approx(8 * price)
    done = many(*limited(files, 1 * price))
    assert (done.code, done.events) == (0, ["summary"])


@pytest.mark.parametrize("command", ["submit", "show", "monitor"])
def test_the_next_step_for_people(
    run: Callable[..., Result], files: Files, price: float, command: str
) -> None:
    """People are not given a command that would fail: they choose the new limit in it."""
    files.add(8, **BIG)
    result = run(*limited(files, 6.5 * price, "--job-key", "k", "--human"))
    if command != "submit":
        result = run(command, "k", "--human")
    assert result.code == 3
    assert result.err.count("Warning: The run has cost ") == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("To continue, raise --max-cost-usd: ")
    assert "--max-cost-usd N" in last
    assert f"{6.5 * price:.9f}" not in last


def test_show_says_why_a_run_stopped(
    run: Callable[..., Result], many: Callable[..., Result], files: Files, price: float
) -> None:
    """`show` of a run that has reached its limit has the warning; with a higher limit, not."""
    files.add(8, **BIG)
    first = many(*limited(files, 6.5 * price, "--job-key", "k"))
    shown = many("show", "k")
    assert of(shown, "warning")[0]["message"] == of(first, "warning")[0]["message"]
    for key in ("counts", "hint", "next", "exit_code"):
        assert shown.last[key] == first.last[key]
    many(*limited(files, 9 * price, "--job-key", "k"))
    assert (run("show", "k").code, of(run("show", "k"), "warning")) == (0, [])


def test_the_first_jobs(command: Command, sandbox: Sandbox, files: Files, price: float) -> None:
    """Before the cost of any job is known, only a few jobs are submitted."""
    files.add(20, **BIG, **ENDLESS)
    process = command.start(*limited(files, 100 * price, "--max-in-flight", "20"))
    wait_until(lambda: len(polled(sandbox)) == FIRST)
    assert len(sandbox.posts) == FIRST
    finish(sandbox)
    wait_until(lambda: len(sandbox.posts) > FIRST)
    process.send_signal(signal.SIGINT)
    assert checked(command.end(process)).code == 130


def test_many_in_flight_keep_the_limit(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, price: float
) -> None:
    """With fifty jobs in flight, equal jobs never pass the limit."""
    files.add(120, **BIG, sandbox_seconds="0.1")
    result = many(*limited(files, 90.5 * price, "--max-in-flight", "50"))
    check_stop(result, 90, 30)
    assert len(sandbox.posts) == 90


def test_kill_and_rerun(command: Command, sandbox: Sandbox, files: Files, price: float) -> None:
    """After a kill -9, the jobs that run count, and so do those that ended before."""
    files.add(4, **BIG)
    files.add(9, first=4, **BIG, **ENDLESS)
    argv = limited(files, 8.5 * price)
    process = command.start(*argv)
    wait_until(lambda: files.results.exists() and files.results.read_bytes().count(b"\n") == 4)
    wait_until(lambda: len(sandbox.posts) == 8)
    process.kill()
    process.wait()
    finish(sandbox)
    result = checked(command.run(*argv))
    assert result.code == 3
    posts = [post.raw_body for post in sandbox.posts]
    unknown = result.last["counts"].get("outcome_unknown", 0)
    assert len(posts) == len(set(posts)) == 8
    assert result.last["counts"]["not_submitted"] == 5
    assert result.last["counts"]["completed"] == 8 - unknown
    assert command.run(*argv).last["code"] == "cost_limit"


def test_a_retry_at_the_limit(
    run: Callable[..., Result],
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    price: float,
) -> None:
    """A retry that the limit refuses has not begun: the state and the results stay as they were."""
    files.add(6, **BIG)
    files.write(
        line("failed", metadata={"sandbox_outcome": "failed"}), *files.jobs.read_text().splitlines()
    )
    assert many(*limited(files, 6.5 * price)).last["counts"] == {"completed": 6, "failed": 1}
    key, before = str(files.jobs), files.results.read_bytes()
    (row,) = of(run("show", key), "run")
    posts = len(sandbox.posts)
    again = run(*limited(files, 1 * price, "--retry-failed"))
    assert (again.code, again.last["code"], len(sandbox.posts)) == (2, "cost_limit", posts)
    (after,) = of(run("show", key), "run")
    assert {**after, "ts": None} == {**row, "ts": None}
    assert files.results.read_bytes() == before


def test_unknown_outcomes_count(
    run: Callable[..., Result],
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    price: float,
) -> None:
    """A job whose outcome is unknown may be running, so it counts like an average job."""
    files.add(6, **BIG)
    sandbox.script(Fault(kind="reset_after", on="create"))
    result = many(*limited(files, 4.5 * price, "--max-in-flight", "1"))
    assert result.last["counts"] == {"outcome_unknown": 1, "completed": 3, "not_submitted": 2}
    assert "1 more may be running" in of(result, "warning")[0]["message"]
    again = run(*limited(files, 4.5 * price, "--max-in-flight", "1"))
    assert (again.code, again.last["code"]) == (2, "cost_limit")


def test_the_wait_limit_comes_first(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    price: float,
    instant_sleep: None,
) -> None:
    """At the wait limit, a job that waits for others is not submitted, without a warning."""
    files.add(1, **BIG)
    files.add(3, first=1, **BIG, **ENDLESS)
    options = ("--max-in-flight", "3", "--poll-seconds", "1", "--max-wait-seconds", "100")
    result = many(*limited(files, 3.5 * price, *options))
    assert (result.code, len(sandbox.posts)) == (3, 3)
    counts = result.last["counts"]
    assert (counts["completed"], counts["not_submitted"], sum(counts.values())) == (1, 1, 4)
    assert "warning" not in result.events


def test_failed_jobs_are_free(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, price: float
) -> None:
    """Jobs that failed without a `usage` don't use up the limit."""
    files.add(7, sandbox_outcome="failed")
    files.add(8, first=7, **BIG)
    result = many(*limited(files, 6.5 * price))
    assert result.last["counts"] == {"failed": 7, "completed": 6, "not_submitted": 2}


def test_refused_without_a_price(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A model without a known price is refused with its line, also in a dry run."""
    files.write(line("a"), line("b", model="mine"), line("c", model="mine"))
    for more in ((), ("--dry-run",)):
        result = run(*files.argv("--max-cost-usd", "1", *more))
        refused(result, sandbox, "line 2", "'mine'", "Omit --max-cost-usd")
        assert result.last["code"] == "price_unknown"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--max-cost-usd", "1", *WINDOW), ("24h", "Split the jobs file")),
        (("--max-cost-usd", "0"), ("positive number of US dollars",)),
        (("--max-cost-usd", "inf"), ("positive number of US dollars",)),
    ],
)
def test_refused_limits(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    argv: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    """A batch can't be limited, and a limit is a positive number."""
    files.write(line("a"))
    refused(run(*files.argv(*argv)), sandbox, *words)


def test_refused_for_one_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A single job can't be limited."""
    result = run("submit", "--prompt", "x", "--max-cost-usd", "1", *FAST)
    refused(result, sandbox, "--jobs-file", "--max-output-tokens")


def test_a_server_without_usage(
    run: Callable[..., Result], many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """If a job's cost turns out to be unknown, no further jobs are submitted, nor by a rerun."""
    sandbox.become("minimal")
    files.add(9)
    result = many(*files.argv("--max-cost-usd", "1", "--max-in-flight", "2"))
    warning = check_stop(result, len(sandbox.posts), 9 - len(sandbox.posts))
    assert len(sandbox.posts) <= 2
    assert warning["code"] == "price_unknown"
    assert "omit --max-cost-usd" in warning["message"]
    again = run(*files.argv("--max-cost-usd", "1"))
    assert (again.code, again.last["code"]) == (2, "price_unknown")
    assert many(*files.argv()).last["counts"] == {"completed": 9}


def test_the_results_hold_the_cost(many: Callable[..., Result], files: Files, price: float) -> None:
    """Lines that a retry has superseded were paid for, and count."""
    files.add(2, **BIG)
    assert many(*files.argv()).code == 0
    lines = [json.loads(text) for text in files.results.read_text().splitlines()]
    old = json.loads(json.dumps(lines[0]))
    old["response"]["body"]["status"] = "incomplete"
    files.results.write_text("".join(f"{json.dumps(one)}\n" for one in [old, *lines]))
    files.add(2, first=2, **BIG)
    result = many(*limited(files, 4.5 * price))
    check_stop(result, 3, 1)
    assert result.last["cost_usd"] == pytest.approx(4 * price)
