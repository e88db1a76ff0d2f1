"""`oaibg monitor`, `cancel` and `show` of a batch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from oaibg.sandbox import Fault
from runs import HOT, MIXED, SLOW, STUCK, BatchFiles, age, batch_of, line, of, per_job, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox


def submitted(run: Callable[..., Result], batch: BatchFiles, sandbox: Sandbox, **body: Any) -> str:
    """Submit a batch with `--detach`; return its ID."""
    batch.write(line("a", **(body or SLOW)), line("b"))
    assert run(*batch.argv("--detach")).code == 0
    return batch_of(sandbox)


def test_results(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """`monitor batch_… --results-file` writes the run's results, each once."""
    batch.write(*MIXED)
    assert run(*batch.argv("--detach")).code == 0
    options = ("--poll-seconds", "0.05", "--results-file", str(batch.results))
    argv = ("monitor", batch_of(sandbox), *options)
    result = checked(run(*argv))
    counts = {"completed": 3, "incomplete": 1, "failed": 1, "refused": 2}
    assert (result.code, result.last["counts"], result.last["next"]) == (1, counts, None)
    assert batch.by_id().keys() == per_job(result).keys() == {one["custom_id"] for one in MIXED}
    before = batch.results.read_bytes()
    again = checked(run(*argv))
    assert (again.code, again.last["counts"], per_job(again)) == (1, counts, {})
    assert (batch.results.read_bytes(), of(again, "warning")) == (before, [])
    # The run finds the results in the file.
    assert run(*batch.argv()).events == ["summary"]


def test_the_wait_limit(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """At the wait limit `monitor` ends with exit 3 and itself as `next`."""
    batch_id = submitted(run, batch, sandbox)
    argv = ("monitor", batch_id, "--results-file", str(batch.results), "--max-wait-seconds", "0.2")
    result = checked(run(*argv))
    assert (result.code, result.last["next"]) == (3, ["oaibg", *argv])
    age(sandbox)
    done = checked(run(*argv))
    assert (done.code, done.last["counts"]) == (0, {"completed": 2})


def test_an_expired_batch(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """An expired batch ends with exit 4, and each job is counted once."""
    sandbox.batch_window = 0.2
    batch_id = submitted(run, batch, sandbox, **STUCK)
    out = str(batch.results)
    result = checked(run("monitor", batch_id, "--poll-seconds", "0.05", "--results-file", out))
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "expired": 1})


def test_missing_results(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """Missing results are counted by the batch's own number of jobs: exit 1 without `next`."""
    batch_id = submitted(run, batch, sandbox)
    age(sandbox)
    sandbox.script(Fault(on="file_content", kind="raw", body="", times=2))
    argv = ("monitor", batch_id, "--results-file", str(batch.results))
    result = checked(run(*argv))
    assert (result.code, result.last["counts"], result.last["next"]) == (1, {"missing": 2}, None)
    assert checked(run(*argv)).code == 0


def test_no_results_file(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """Without `--results-file`, `monitor` reports the batch's jobs by the exit code only."""
    good = submitted(run, batch, sandbox)
    age(sandbox)
    result = run("monitor", good)
    assert (result.code, result.events, result.last["ok"]) == (0, ["poll", "final"], True)
    batch.jobs = batch.folder / "other.jsonl"
    batch.results = batch.folder / "other"
    batch.write(line("c"), line("hot", **HOT))
    run(*batch.argv())
    bad = list(sandbox.batches)[1]
    result = run("monitor", bad)
    assert (result.code, result.last["status"], result.last["ok"]) == (4, "completed", False)
    assert f"oaibg monitor {bad} --results-file" in result.last["hint"]
    assert "no output text" not in run("monitor", bad, "--human").err


def test_batches_and_responses_together(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """Batches and responses can be followed and cancelled together, with one summary."""
    batch_id = submitted(run, batch, sandbox)
    age(sandbox)
    response_id = run("submit", "--prompt", "x", "--detach").id
    result = run("monitor", batch_id, response_id, "--poll-seconds", "0.05")
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    finals = {one["response_id"] for one in of(result, "final")}
    assert finals == {batch_id, response_id}
    both = run("cancel", batch_id, response_id)
    assert (both.code, both.last["counts"]) == (4, {"completed": 2})
    unknown = run("monitor", "batch_none", batch_id, "--max-wait-seconds", "0.3")
    assert unknown.code == 5


def test_cancel(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """`cancel` of a batch ends with exit 0; the run then fetches the finished results."""
    batch_id = submitted(run, batch, sandbox)
    age(sandbox, 1)
    result = run("cancel", batch_id)
    assert (result.code, result.last["status"], result.last["cancelled"]) == (0, "cancelled", True)
    assert run("cancel", batch_id).code == 0, "the API's 409 does not matter"
    run_ = checked(run(*batch.argv()))
    assert (run_.code, run_.last["counts"]) == (4, {"completed": 1, "cancelled": 1})
    assert batch.by_id()["a"]["error"]["code"] == "batch_cancelled"


def test_a_cancel_that_takes_long(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """A batch that stays `cancelling` gives exit 3 and a monitor as `next`."""
    batch_id = submitted(run, batch, sandbox)
    object_ = sandbox.batches[batch_id]
    object_.seconds = 600
    object_.cancelled_after = 1e6
    object_.created = time.time() - 1e6
    result = run("cancel", batch_id)
    assert (result.code, result.last["status"]) == (3, "cancelling")
    assert rerun(result.last["next"]) == ["monitor", batch_id]
    assert run("monitor", batch_id, "--max-wait-seconds", "0.2").last["status"] == "cancelling"


@pytest.mark.parametrize("kind", ["completed", "expired"])
def test_a_cancel_that_comes_too_late(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, kind: str
) -> None:
    """A cancel of an ended batch gives exit 4 and its status, though the API replies 409."""
    sandbox.batch_window = 86400 if kind == "completed" else 10
    batch_id = submitted(run, batch, sandbox)
    age(sandbox)
    result = run("cancel", batch_id)
    assert (result.code, result.last["status"], result.last["cancelled"]) == (4, kind, False)
    posts = [one for one in sandbox.requests if one.path.endswith("/cancel")]
    assert [one.status for one in posts] == [409]


def test_show(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """`show` prints a batch, and its local copy once the API has deleted it."""
    batch_id = submitted(run, batch, sandbox)
    running = run("show", batch_id)
    assert (running.code, running.last["response"]["object"]) == (3, "batch")
    assert rerun(running.last["next"]) == ["monitor", batch_id]
    assert running.last["response"]["request_counts"]["total"] in (0, 2)
    age(sandbox)
    ended = run("show", batch_id)
    assert (ended.code, ended.last["status"], ended.last["source"]) == (0, "completed", "api")
    sandbox.batches.clear()
    kept = run("show", batch_id)
    assert (kept.code, kept.last["source"]) == (0, "local")
    assert kept.last["response"] == ended.last["response"]
    assert run("show", "batch_none").code == 5


def test_a_batch_that_is_gone(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """A batch that the API has lost ends its run with exit 5 without `next`, and is listed so."""
    batch_id = submitted(run, batch, sandbox)
    lost = dict(sandbox.batches)
    sandbox.batches.clear()
    out = ("--results-file", str(batch.results))
    shown = run("show", batch_id)
    assert (shown.code, shown.last["next"]) == (5, None)
    assert "it was validating before" in shown.last["message"]
    (listed, _) = run("show", "--list").lines
    assert (listed["response_id"], listed["counts"]) == (batch_id, {"not_found": 2})
    for argv in (batch.argv(), batch.argv(), ("monitor", batch_id, *out)):
        result = checked(run(*argv))
        jobs = 2 if argv[0] == "submit" else 1
        assert (result.code, result.last["counts"]) == (5, {"not_found": jobs})
        assert (result.last["next"], of(result, "error")[0]["next"]) == (None, None)
        assert "--retry-failed" in of(result, "error")[0]["hint"]
    assert len(sandbox.batch_posts) == 1
    # The server has it again.
    sandbox.batches.update(lost)
    age(sandbox)
    done = checked(run(*batch.argv()))
    assert (done.code, done.last["counts"]) == (0, {"completed": 2})
    assert run("show", "--list").lines[0]["counts"] == {"completed": 2}
