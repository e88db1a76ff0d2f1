"""`--retry-failed` of a batch: a new batch with the jobs to submit again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Fault
from oaibg.sandbox.batch.plan import Plan
from runs import HOT, SLOW, BatchFiles, age, line, lines_of, of, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

RETRY = "--retry-failed"
FAILED = {"metadata": {"sandbox_outcome": "failed"}}


def uploads(sandbox: Sandbox) -> list[list[str]]:
    """Return the custom_ids in the input file of each batch."""
    inputs = [one.source.splitlines() for one in sandbox.batches.values()]
    return [[json.loads(raw)["custom_id"] for raw in lines] for lines in inputs]


def count_of_lines(batch: BatchFiles) -> dict[str, int]:
    """Return the number of result lines of each job."""
    return {name: len(lines) for name, lines in lines_of(batch).items()}


@pytest.fixture
def mixed(run: Callable[..., Result], batch: BatchFiles) -> BatchFiles:
    """The files of a batch that has ended; the jobs b and c did not succeed, a did."""
    batch.write(line("a"), line("b", **HOT), line("c", **FAILED))
    assert checked(run(*batch.argv())).last["counts"] == {"completed": 1, "refused": 1, "failed": 1}
    return batch


def test_a_second_batch(run: Callable[..., Result], sandbox: Sandbox, mixed: BatchFiles) -> None:
    """A second batch has only the jobs without success, corrected; all jobs are counted."""
    before = mixed.results.read_bytes()
    mixed.write(line("a"), line("b"), line("c", input="better"))
    plain = run(*mixed.argv())
    assert (plain.code, plain.last["code"]) == (2, "job_key_reused")
    assert "'b' (line 2), 'c' (line 3)." in plain.last["message"]
    assert RETRY in plain.last["hint"]
    result = checked(run(*mixed.argv(RETRY)))
    assert (result.code, result.last["counts"]) == (0, {"completed": 3})
    assert (result.last["next"], result.last["unsuccessful"]) == (None, [])
    assert uploads(sandbox) == [["a", "b", "c"], ["b", "c"]]
    assert count_of_lines(mixed) == {"a": 1, "b": 2, "c": 2}
    assert mixed.results.read_bytes().startswith(before)
    for more in ((), (RETRY,)):
        again = checked(run(*mixed.argv(*more)))
        assert (again.events, again.last["counts"]) == (["summary"], {"completed": 3})
    assert len(sandbox.batch_posts) == 2


def test_changed_requests(run: Callable[..., Result], sandbox: Sandbox, mixed: BatchFiles) -> None:
    """A changed request of a completed job, or a removed line, is an error with the flag, too."""
    sandbox.requests.clear()
    mixed.write(line("a", input="other"), line("b"), line("c"))
    changed = run(*mixed.argv(RETRY))
    assert (changed.code, changed.last["code"]) == (2, "job_key_reused")
    assert "'a' (line 1)." in changed.last["message"]
    mixed.write(line("a"), line("b"))
    removed = run(*mixed.argv(RETRY))
    assert (removed.code, not sandbox.requests) == (2, True)


def test_detached(run: Callable[..., Result], sandbox: Sandbox, mixed: BatchFiles) -> None:
    """A detached retry is continued without the flag, and with it; its jobs can't change then."""
    mixed.write(line("a"), line("b", **SLOW), line("c", **SLOW))
    detached = run(*mixed.argv(RETRY, "--detach"))
    assert (detached.code, len(sandbox.batches)) == (0, 2)
    assert RETRY not in detached.last["next"]
    waiting = checked(run(*mixed.argv(RETRY, "--max-wait-seconds", "0.3")))
    assert (waiting.code, waiting.last["counts"]) == (3, {"completed": 1, "in_progress": 2})
    mixed.write(line("a"), line("b", **SLOW), line("c"))
    assert run(*mixed.argv(RETRY)).last["code"] == "job_key_reused"
    mixed.write(line("a"), line("b", **SLOW), line("c", **SLOW))
    age(sandbox)
    done = checked(run(*rerun(detached.last["next"])))
    assert (done.code, done.last["counts"]) == (0, {"completed": 3})
    assert len(sandbox.batch_posts) == 2


def test_failed_again(run: Callable[..., Result], sandbox: Sandbox, mixed: BatchFiles) -> None:
    """A job that fails again is counted once; another run with the flag makes a third batch."""
    mixed.write(line("a"), line("b"), line("c", **FAILED))
    result = checked(run(*mixed.argv(RETRY)))
    assert (result.code, result.last["counts"]) == (4, {"completed": 2, "failed": 1})
    assert [one["custom_id"] for one in result.last["unsuccessful"]] == ["c"]
    assert checked(run(*mixed.argv())).last["counts"] == result.last["counts"]
    third = checked(run(*mixed.argv(RETRY)))
    assert (third.last["counts"], uploads(sandbox)[2]) == (result.last["counts"], ["c"])
    assert count_of_lines(mixed) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("kind", ["expired", "cancelled", "failed"])
def test_a_batch_that_ended_early(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, kind: str
) -> None:
    """The jobs of a batch that expired, was cancelled or did not validate are submitted again.

    The new batch has the same requests, but is not mistaken for the old one.
    """
    batch.write(line("a", **SLOW), line("b", **SLOW))
    assert run(*batch.argv("--detach")).code == 0
    (first,) = sandbox.batches.values()
    if kind == "failed":
        first.plan = Plan(errors=[{"code": "x", "message": "No.", "line": 1, "param": None}])
    elif kind == "cancelled":
        run("cancel", first.id)
    else:
        first.window = 0.01
    assert checked(run(*batch.argv())).last["counts"] == {kind: 2}
    sandbox.script(Fault(on="batch_create", kind="reset_after"))
    result = checked(run(*batch.argv(RETRY, "--max-wait-seconds", "0.5")))
    assert (result.code, len(sandbox.batches)) == (3, 2)
    _, second = sandbox.batches
    assert result.id == second
    age(sandbox)
    assert checked(run(*batch.argv())).last["counts"] == {"completed": 2}
    assert count_of_lines(batch) == {"a": 2, "b": 2}
    assert len(sandbox.batch_posts) == 2


def test_results_that_were_not_fetched(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """If the batch's results are not in the file yet, the flag only fetches them."""
    batch.write(line("a"), line("b", **HOT))
    assert run(*batch.argv("--detach")).code == 0
    age(sandbox)
    sandbox.script(Fault(on="file_content", kind="status", status=403, times=0))
    assert checked(run(*batch.argv())).last["counts"] == {"missing": 2}
    sandbox._state.faults.clear()
    fetched = checked(run(*batch.argv(RETRY)))
    assert fetched.last["counts"] == {"completed": 1, "refused": 1}
    assert len(sandbox.batch_posts) == 1
    age(sandbox)
    assert checked(run(*batch.argv(RETRY))).last["counts"] == fetched.last["counts"]
    assert uploads(sandbox)[1] == ["b"]


def test_a_retry_that_is_not_created(
    run: Callable[..., Result], sandbox: Sandbox, mixed: BatchFiles
) -> None:
    """A retry that is refused is created by a rerun without the flag, also with other requests."""
    mixed.write(line("a"), line("b"), line("c", **FAILED))
    sandbox.script(Fault(on="batch_create", kind="status", status=400))
    refused = checked(run(*mixed.argv(RETRY)))
    assert (refused.code, len(sandbox.batches)) == (1, 1)
    mixed.write(line("a"), line("b"), line("c"))
    done = checked(run(*mixed.argv()))
    assert (done.code, done.last["counts"]) == (0, {"completed": 3})
    assert uploads(sandbox)[1] == ["b", "c"]
    mixed.write(line("a", input="other"), line("b"), line("c"))
    assert run(*mixed.argv()).last["code"] == "job_key_reused"


def test_added_jobs(run: Callable[..., Result], sandbox: Sandbox, mixed: BatchFiles) -> None:
    """Jobs that were added to the file go into the new batch, too."""
    mixed.write(line("a"), line("b"), line("c"), line("d"))
    assert RETRY in run(*mixed.argv()).last["hint"]
    assert checked(run(*mixed.argv(RETRY))).last["counts"] == {"completed": 4}
    assert uploads(sandbox)[1] == ["b", "c", "d"]


def test_a_lost_state(
    run: Callable[..., Result], sandbox: Sandbox, mixed: BatchFiles, tmp_path: Path
) -> None:
    """Without the state nothing is sent, because the results may belong to another run."""
    (tmp_path / "state").rename(tmp_path / "away")
    sandbox.requests.clear()
    assert run(*mixed.argv(RETRY)).code == 2
    assert not sandbox.requests


def test_artifacts(run: Callable[..., Result], mixed: BatchFiles, tmp_path: Path) -> None:
    """The files of a job that is submitted again go to the folder of the job."""
    out = ("--artifacts-dir", str(tmp_path / "out"))
    mixed.write(line("a"), line("b"), line("c", metadata={"sandbox_outcome": "image"}))
    result = checked(run(*mixed.argv(RETRY, *out)))
    assert [one["custom_id"] for one in of(result, "wrote_artifact")] == ["c"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c"]
