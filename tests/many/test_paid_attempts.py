"""What a run has cost includes every attempt that was paid, wherever the sum is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runs import FAST, BatchFiles, Files, line

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

RETRY = "--retry-failed"
CUT = {"metadata": {"sandbox_outcome": "incomplete", "sandbox_bytes": "9000"}}
"""Keys of a body whose job always ends as incomplete, with a usage."""


def paid(event: dict[str, Any]) -> tuple[Any, Any]:
    """Return the numbers of tokens and the rounded cost in an event."""
    tokens = {kind: event["usage"][f"{kind}_tokens"] for kind in ("input", "output", "total")}
    return tokens, pytest.approx(event["cost_usd"], rel=1e-6)


def check_all(run: Callable[..., Result], files: Files, ended: Result) -> None:
    """Check that every command reports the same usage and cost as a run that has ended."""
    expected = paid(ended.last)
    shown, listed = run("show", "k"), run("show", "--list")
    reruns = run(*files.argv("--job-key", "k"))
    for one in (*shown.lines, *listed.lines, reruns.last):
        assert paid(one) == expected
    for one in shown.lines:
        assert one["counts"] == ended.last["counts"]


@pytest.mark.parametrize("kind", ["background", "batch"])
def test_retried_jobs(
    run: Callable[..., Result], files: Files, batch: BatchFiles, kind: str
) -> None:
    """`show KEY`, `show --list` and a rerun count what the attempts before a retry cost."""
    runs = files if kind == "background" else batch
    runs.write(line("a"), line("cut", **CUT))
    once = run(*runs.argv("--job-key", "k"))
    for _ in range(2):
        ended = run(*runs.argv("--job-key", "k", RETRY))
    assert ended.last["counts"] == {"completed": 1, "incomplete": 1}
    tokens = [one.last["usage"]["total_tokens"] for one in (once, ended)]
    assert tokens[1] > 2 * tokens[0]
    check_all(run, runs, ended)


def test_a_lost_results_file(run: Callable[..., Result], files: Files) -> None:
    """Attempts count even if only the state has them, because the results file was removed."""
    files.write(line("a"), line("cut", **CUT))
    once = run(*files.argv("--job-key", "k"))
    files.results.unlink()
    ended = run(*files.argv("--job-key", "k", RETRY))
    assert ended.last["usage"]["total_tokens"] > 1.5 * once.last["usage"]["total_tokens"]
    check_all(run, files, ended)


def test_a_lost_state(
    run: Callable[..., Result], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts count even if only the results file has them, because the state was lost."""
    files.write(line("a"), line("cut", **CUT))
    run(*files.argv("--job-key", "k"))
    monkeypatch.setenv("OAIBG_STATE_DIR", str(files.folder / "other"))
    ended = run(*files.argv("--job-key", "k", RETRY))
    for one in run("show", "k").lines:
        assert paid(one) == paid(ended.last)


def test_the_limit_of_a_run(run: Callable[..., Result], files: Files) -> None:
    """--max-cost-usd counts attempts whose result lines were removed."""
    files.write(line("cut", **CUT))
    cost = run(*files.argv("--job-key", "k")).last["cost_usd"]
    files.results.unlink()
    again = run(*files.argv("--job-key", "k", RETRY, "--max-cost-usd", f"{1.5 * cost:.9f}"))
    assert (again.code, again.last["code"]) == (2, "cost_limit")


def test_monitor_of_a_retried_run(run: Callable[..., Result], files: Files) -> None:
    """`monitor KEY` reports the usage of the attempts before the retry that it follows."""
    files.write(line("a"), line("cut", **CUT))
    run(*files.argv("--job-key", "k"))
    ended = run(*files.argv("--job-key", "k", RETRY))
    followed = run("monitor", "k", *FAST)
    assert paid(followed.last) == paid(ended.last)
    assert followed.last["counts"] == ended.last["counts"]
