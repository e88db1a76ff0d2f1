"""What a job costs: an estimate from the price list of the extra `cost`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from genai_prices import Usage, calc_price

from oaibg.engine.cost import cost_of
from oaibg.engine.totals import Totals
from runs import WINDOW, Files, line, of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result

FAST = ("--poll-seconds", "0.05")
USAGE = {"input_tokens": 4000, "output_tokens": 900}


def listed(model: str, usage: dict[str, Any]) -> float:
    """Return the price of the tokens in a `usage`, by the package itself."""
    tokens = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
    return float(calc_price(tokens, model, provider_id="openai").total_price)


def submit(run: Callable[..., Result], *options: str) -> dict[str, Any]:
    """Submit a job, and return its `final`."""
    result = run("submit", "--prompt", "hello", *FAST, *options)
    assert (result.code, result.last["event"]) == (0, "final")
    return result.last


def test_the_cost_of_a_job(run: Callable[..., Result]) -> None:
    """A job's cost is its tokens at the list price, in `final`, `response` and `job`."""
    final = submit(run)
    assert final["cost_usd"] == pytest.approx(listed("gpt-5.2", final["usage"]))
    shown, jobs = run("show"), run("show", "--list")
    assert (shown.last["source"], shown.last["cost_usd"]) == ("local", final["cost_usd"])
    assert jobs.lines[0]["cost_usd"] == final["cost_usd"]


@pytest.mark.parametrize(("window", "factor"), [("soonest", 1.0), ("2h", 0.7), ("8h", 0.6)])
def test_a_completion_window(run: Callable[..., Result], window: str, factor: float) -> None:
    """A job with a window costs less, and is listed and shown at that price."""
    plain = submit(run)["cost_usd"]
    job = submit(run, "--completion-window", window)
    assert job["cost_usd"] == pytest.approx(factor * plain)
    assert run("show", job["response_id"]).last["cost_usd"] == job["cost_usd"]
    assert run("show", "--list", "--limit", "1").lines[0]["cost_usd"] == job["cost_usd"]


def test_a_window_of_a_detached_job(run: Callable[..., Result], tmp_path: Path) -> None:
    """`monitor` knows the window of a job, even if only the request's own body has it."""
    body = tmp_path / "body.json"
    body.write_text('{"background_options": {"completion_window": "8h"}}')
    plain = submit(run)["cost_usd"]
    started = run("submit", "--prompt", "hello", "--detach", "--body-json-file", str(body))
    result = run("monitor", started.id, *FAST)
    assert result.last["cost_usd"] == pytest.approx(0.6 * plain)


@pytest.mark.parametrize(("own", "factor"), [({"completion_window": "8h"}, 0.6), (None, 1.0)])
def test_a_window_in_the_body(
    run: Callable[..., Result], tmp_path: Path, own: object, factor: float
) -> None:
    """The window that was sent counts: that of --body-json-file replaces that of the option."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"background_options": own}))
    plain = submit(run)["cost_usd"]
    job = submit(run, "--completion-window", "2h", "--body-json-file", str(body))
    assert job["cost_usd"] == pytest.approx(factor * plain)


@pytest.mark.parametrize(("tier", "is_cheaper"), [("flex", True), ("priority", False)])
def test_a_service_tier(
    run: Callable[..., Result], tmp_path: Path, tier: str, is_cheaper: bool
) -> None:
    """A job is priced by the service tier in its response."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"service_tier": tier}))
    plain, final = submit(run), submit(run, "--body-json-file", str(body))
    assert final["service_tier"] == tier
    assert final["cost_usd"] != plain["cost_usd"]
    assert (final["cost_usd"] < plain["cost_usd"]) is is_cheaper


def test_runs_and_batches(many: Callable[..., Result], tmp_path: Path) -> None:
    """A run's cost is the sum of its jobs; a batch costs half, in each of its lines."""
    sums = []
    for name, options in (("one", ()), ("two", WINDOW)):
        (tmp_path / name).mkdir()
        files = Files(tmp_path / name)
        files.write(line("a", input="x" * 999), line("b", metadata={"sandbox_bytes": "9999"}))
        result = many(*files.argv(*options))
        costs = [one["cost_usd"] for one in of(result, "final") if one["custom_id"] is not None]
        assert len(costs) == 2
        assert result.last["cost_usd"] == pytest.approx(sum(costs))
        assert many(*files.argv(*options)).last["cost_usd"] == result.last["cost_usd"]
        sums.append(result.last["cost_usd"])
    assert sums[1] == pytest.approx(sums[0] / 2)


def test_windows_of_lines(many: Callable[..., Result], files: Files) -> None:
    """A line of a jobs file may have a window of its own; a rerun reports the same cost."""
    own = {"background_options": {"completion_window": "8h"}}
    files.write(line("a", input="x"), line("b", input="x", **own))
    result = many(*files.argv())
    cost = {one["custom_id"]: one["cost_usd"] for one in of(result, "final")}
    assert cost["b"] == pytest.approx(0.6 * cost["a"])
    assert many(*files.argv()).last["cost_usd"] == result.last["cost_usd"]


def table_costs(files: Files) -> dict[str, float]:
    """Return the cost of each job in a table of results."""
    with files.results.open(encoding="utf-8-sig", newline="") as file:
        return {row["custom_id"]: float(row["cost_usd"]) for row in csv.DictReader(file)}


def test_windows_in_tables(many: Callable[..., Result], files: Files) -> None:
    """A table has each job at the price of its own window: at once, after a retry, and later."""
    files.results = files.folder / "results.csv"
    eight = {"background_options": {"completion_window": "8h"}}
    cut = {"metadata": {"sandbox_outcome": "incomplete"}}
    files.write(line("plain"), line("own", **eight), line("cut", **cut, **eight))
    result = many(*files.argv("--job-key", "k"))
    costs = {one["custom_id"]: one["cost_usd"] for one in of(result, "final")}
    assert table_costs(files) == costs
    assert sum(costs.values()) == pytest.approx(result.last["cost_usd"])
    retried = many(*files.argv("--job-key", "k", "--retry-failed"))
    assert table_costs(files) == costs
    total = result.last["cost_usd"] + costs["cut"]
    assert retried.last["cost_usd"] == pytest.approx(total)
    for argv in (files.argv("--job-key", "k"), ("show", "k"), ("show", "--list")):
        assert many(*argv).last["cost_usd"] == pytest.approx(total)
    assert table_costs(files) == costs


@pytest.mark.parametrize(
    "options",
    [
        ("--model", "my-model"),
        ("--model", "gpt-5.2-mine"),
        ("--model", "claude-sonnet-4-5"),
        ("--model", "openai/gpt-5.2"),
        ("--model", "gpt-oss-20b"),
    ],
)
def test_an_unknown_price(run: Callable[..., Result], options: tuple[str, ...]) -> None:
    """A model that OpenAI does not sell under this name has no cost, and causes no warning."""
    result = run("submit", "--prompt", "hello", *FAST, *options)
    assert (result.code, result.last["cost_usd"]) == (0, None)
    assert "warning" not in result.events


def test_a_job_without_usage(run: Callable[..., Result]) -> None:
    """A job that failed without a `usage` has no cost."""
    result = run("submit", "--prompt", "x", *FAST, "--metadata", "sandbox_outcome=failed")
    assert (result.last["usage"], result.last["cost_usd"]) == (None, None)


def test_cached_tokens() -> None:
    """Cached tokens are cheaper, and reasoning tokens are part of the output."""
    cached = USAGE | {"input_tokens_details": {"cached_tokens": 3000}}
    thought = USAGE | {"output_tokens_details": {"reasoning_tokens": 800}}
    plain = cost_of(USAGE, "gpt-5.2", "default", None)
    assert plain == pytest.approx(listed("gpt-5.2", USAGE))
    assert 0 < (cost_of(cached, "gpt-5.2", "default", None) or 0) < listed("gpt-5.2", USAGE)
    assert cost_of(thought, "gpt-5.2", "default", None) == plain


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"input_tokens": 1},
        {"input_tokens": None, "output_tokens": 1},
        {"input_tokens": "1", "output_tokens": 1},
        {"input_tokens": True, "output_tokens": 1},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": [1], "output_tokens": {}},
        {"input_tokens": 10**4000, "output_tokens": 1},
        {"input_tokens": 1.7e308, "output_tokens": 1.7e308},
        {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 2}},
    ],
    ids=lambda usage: str(usage)[:50],
)
def test_an_odd_usage(usage: dict[str, Any]) -> None:
    """A `usage` that makes no sense has no cost."""
    assert cost_of(usage, "gpt-5.2", None, None) is None


def test_sums_of_odd_usages() -> None:
    """Sums leave out what is not a number, and numbers that no API means; they are valid JSON."""
    totals = Totals()
    for usage in (
        {"input_tokens": 1, "output_tokens_details": {"reasoning_tokens": 2}},
        {"input_tokens": None, "output_tokens": "3", "output_tokens_details": 4},
        {"input_tokens": 10**4299, "total_tokens": 1.7e308, "output_tokens_details": [1]},
        {"input_tokens": 0.5, "total_tokens": True, "output_tokens_details": None},
        {"input_tokens": {"a": 1}},
        {"input_tokens": 7},
    ):
        totals.add(usage, 0.1)
    assert json.loads(json.dumps(totals.usage, allow_nan=False)) == {
        "input_tokens": 7,
        "output_tokens_details": 4,
    }
    assert (totals.cost_usd, totals.priced) == (0.6, 6)


WITHOUT = (
    "import sys; sys.modules['genai_prices'] = None; from oaibg.entry import entry\n"
    "sys.argv = ['oaibg', *sys.argv[1:]]; entry()"
)
"""A program that runs the command as if the extra were not installed."""


def without(command: Command, *argv: str) -> list[dict[str, Any]]:
    """Run the command without the extra, and return its lines."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *argv],
        env=command.environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.process
def test_without_the_extra(command: Command, files: Files) -> None:
    """Without the extra no cost is known, and --max-cost-usd says how to install it."""
    files.write(line("a"))
    *_, final, summary = without(command, *files.argv())
    assert (final["event"], final["cost_usd"]) == ("final", None)
    assert (summary["exit_code"], summary["cost_usd"]) == (0, None)
    assert without(command, "show", "--list")[0]["cost_usd"] is None
    (error,) = without(command, *files.argv("--max-cost-usd", "1"))
    assert (error["code"], error["exit_code"]) == ("usage", 2)
    assert "pip install '.[cost]'" in error["hint"]


@pytest.mark.process
@pytest.mark.parametrize(("window", "factor"), [("2h", 0.7), ("8h", 0.6)])
def test_a_run_before_the_extra(command: Command, files: Files, window: str, factor: float) -> None:
    """Jobs that ended before the extra was installed are priced later, at their windows."""
    own = {"background_options": {"completion_window": "soonest"}}
    files.results = files.folder / "results.csv"
    files.write(line("run's"), line("own", **own))
    argv = files.argv("--job-key", "k", "--completion-window", window)
    *_, summary = without(command, *argv)
    assert (summary["exit_code"], summary["cost_usd"]) == (0, None)
    lines = files.results.with_name("results.csv.jsonl").read_text().splitlines()
    usages = {one["custom_id"]: one["response"]["body"]["usage"] for one in map(json.loads, lines)}
    costs = {name: listed("gpt-5.2", usage) for name, usage in usages.items()}
    costs["run's"] *= factor
    for argv_ in (("show", "k"), ("show", "--list"), argv):
        assert command.run(*argv_).last["cost_usd"] == pytest.approx(sum(costs.values()))
    assert table_costs(files) == pytest.approx(costs)
