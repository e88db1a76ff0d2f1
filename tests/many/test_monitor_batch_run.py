"""`oaibg monitor KEY` of a run as a batch: how its jobs ended, as the submit command says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runs import FAST, HOT, MIXED, SLOW, STUCK, BatchFiles, age, line, of, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

MONITOR = ("monitor", "k", *FAST)
RETRY = "--retry-failed"


def detached(run: Callable[..., Result], batch: BatchFiles) -> None:
    """Submit the batch with `--detach`."""
    assert run(*batch.argv("--job-key", "k", "--detach")).code == 0


@pytest.mark.parametrize("kind", ["mixed", "good", "expired"])
def test_end_of_a_batch(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, kind: str
) -> None:
    """`monitor` has the exit code, the counts and the reasons of submit, before it runs again."""
    lines = {"mixed": MIXED, "good": [line("a")], "expired": [line("a"), line("b", **STUCK)]}
    sandbox.batch_window = 0.2 if kind == "expired" else sandbox.batch_window
    batch.write(*lines[kind])
    detached(run, batch)
    followed = checked(run(*MONITOR))
    assert batch.results.read_bytes() == b"", "the file is only created"
    assert followed.events[-3:] == ["final", "warning", "summary"]
    assert followed.lines[-2]["code"] == "results_missing"
    resumed = run(*rerun(followed.last["next"]), "--poll-seconds", "0.05")
    assert followed.code == resumed.code == {"mixed": 1, "good": 0, "expired": 4}[kind]
    for key in ("counts", "usage", "results_file", "job_key", "response_id"):
        assert followed.last[key] == resumed.last[key]
    by_id, same = (
        {one["custom_id"]: one["code"] for one in result.last["unsuccessful"]}
        for result in (followed, resumed)
    )
    assert by_id.items() >= same.items() or kind == "expired"
    again = run(*MONITOR)
    assert (again.code, again.last["counts"]) == (resumed.code, resumed.last["counts"])
    assert again.last["next"] is None, "the results are in the file"


def test_retried_batch(run: Callable[..., Result], batch: BatchFiles) -> None:
    """After a retry, the jobs of the earlier batch count, too."""
    batch.write(line("a"), line("hot", **HOT))
    run(*batch.argv("--job-key", "k"))
    batch.write(line("a"), line("hot"))
    run(*batch.argv("--job-key", "k", RETRY, "--detach"))
    followed = run(*MONITOR)
    assert (followed.code, followed.last["counts"]) == (0, {"completed": 2})


def test_progress_of_a_batch(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """`run_progress` counts the batch's jobs; at the wait limit, `next` waits again."""
    batch.write(line("a"), line("b", **SLOW))
    detached(run, batch)
    waited = run(*MONITOR, "--max-wait-seconds", "0.3")
    first = of(waited, "run_progress")[0]
    assert (first["total"], first["done"], sum(first["counts"].values())) == (2, 0, 2)
    assert (waited.code, waited.last["event"]) == (3, "timeout")
    age(sandbox)
    assert run(*rerun(waited.last["next"])).code == 0


def test_batch_for_people(run: Callable[..., Result], batch: BatchFiles) -> None:
    """Human mode says what failed and why, and how to get the results; it misses no text."""
    batch.write(line("a"), line("hot", **HOT))
    detached(run, batch)
    followed = run(*MONITOR, "--human")
    assert followed.code == 1
    assert "1 completed, 1 refused" in followed.err
    assert "temperature" in followed.err
    assert "oaibg submit --jobs-file" in followed.err
    assert "no output text" not in followed.err


def test_a_results_file_that_was_removed(run: Callable[..., Result], batch: BatchFiles) -> None:
    """`results_file` is null while the file does not exist, as in `show`."""
    batch.write(line("a"))
    detached(run, batch)
    batch.results.unlink()
    followed = run(*MONITOR)
    assert (followed.code, followed.last["results_file"]) == (0, None)
    assert run("show", "k").last["results_file"] is None
