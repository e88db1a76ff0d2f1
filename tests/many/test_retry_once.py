"""What a retry must not do: pay twice, count a result twice, or change a run that it refuses."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Fault
from oaibg.state.store import Store, line_key
from runs import ENDLESS, HOT, SLOW, BatchFiles, Files, age, line, lines_of, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

RETRY = "--retry-failed"
AGAIN = "--resubmit-unknown"
FAILED = {"metadata": {"sandbox_outcome": "failed"}}


def jobs_in(sandbox: Sandbox) -> list[list[str]]:
    """Return the custom_ids in the input file of each batch that the server has."""
    inputs = [one.source.splitlines() for one in sandbox.batches.values()]
    return [[json.loads(raw)["custom_id"] for raw in lines] for lines in inputs]


def ended(run: Callable[..., Result], batch: BatchFiles) -> None:
    """Let a batch end; the jobs b and c did not succeed, a did."""
    batch.write(line("a"), line("b", **HOT), line("c", **FAILED))
    assert checked(run(*batch.argv())).last["counts"] == {"completed": 1, "refused": 1, "failed": 1}


@pytest.mark.parametrize("gone", ["batch", "files", "both"])
@pytest.mark.parametrize("days", ["30", "0"])
def test_a_batch_whose_results_are_gone(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    monkeypatch: pytest.MonkeyPatch,
    gone: str,
    days: str,
) -> None:
    """Jobs that may have completed are submitted again only with --resubmit-unknown."""
    monkeypatch.setenv("OAIBG_KEEP_DAYS", days)
    ended(run, batch)
    batch.results.unlink()
    if gone != "files":
        sandbox.batches.clear()
    if gone != "batch":
        sandbox.files.clear()
    results = [run(*batch.argv(RETRY)) for _ in range(3)]
    if gone == "batch" and days == "30":  # the files are read by their stored IDs
        assert results[0].last["counts"] == {"completed": 1, "refused": 1, "failed": 1}
        assert jobs_in(sandbox)[0] == ["b", "c"]
        return
    assert len(sandbox.batch_posts) == 1
    last = results[-1].last
    assert (last["exit_code"], last["event"]) == (2, "error")
    assert "no results for 3 jobs" in last["message"]
    assert AGAIN in last["hint"]
    paid = checked(run(*batch.argv(RETRY, AGAIN)))
    assert (paid.last["counts"], len(sandbox.batch_posts)) == (
        {"completed": 1, "refused": 1, "failed": 1},
        2,
    )


def test_one_file_of_a_batch_is_gone(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """If the file of completed jobs is gone, only jobs known to have failed are retried."""
    batch.write(line("a"), line("b", **HOT))
    assert run(*batch.argv("--detach")).code == 0
    age(sandbox, 1)
    (first,) = sandbox.batches.values()
    del sandbox.files[first.output_file_id]
    assert checked(run(*batch.argv())).last["counts"] == {"missing": 1, "refused": 1}
    batch.write(line("a"), line("b"))
    result = checked(run(*batch.argv(RETRY)))
    assert (result.code, result.last["counts"]) == (1, {"missing": 1, "completed": 1})
    assert jobs_in(sandbox)[1] == ["b"]
    refused = run(*batch.argv(RETRY))
    assert (refused.code, AGAIN in refused.last["hint"]) == (2, True)
    assert len(sandbox.batch_posts) == 2


@pytest.mark.parametrize("ends", ["completed", "expired"])
def test_results_of_an_earlier_batch(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, ends: str
) -> None:
    """Completed jobs of an earlier batch are not retried without their results file.

    A warning has the commands that fetch the results.
    """
    ended(run, batch)
    more = SLOW if ends == "expired" else {}
    batch.write(line("a"), line("b", **more), line("c", **more))
    run(*batch.argv(RETRY, "--detach"))
    first, second = sandbox.batches
    if ends == "expired":
        sandbox.batches[second].window = 0.01
    batch.results.unlink()
    counts = {"missing": 1, ends: 2}
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"], result.last["next"]) == (1, counts, None)
    (warning,) = of(result, "warning")
    assert f"oaibg monitor {first} --results-file {batch.results}" in warning["message"]
    again = run(*batch.argv(RETRY, "--detach"))
    age(sandbox)
    assert all("a" not in jobs for jobs in jobs_in(sandbox)[1:])
    if ends == "completed":
        assert (again.code, AGAIN in again.last["hint"]) == (2, True)
        assert len(sandbox.batch_posts) == 2
    run("monitor", first, "--results-file", str(batch.results))
    assert checked(run(*batch.argv())).last["counts"].get("missing") is None


@pytest.mark.parametrize("body", ["", "[1]\n", '{"id": "x"}\n'])
def test_jobs_that_a_completed_batch_never_delivers(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, body: str
) -> None:
    """Jobs without a result in the files of a completed batch end the run, and can be retried."""
    assert run(*batch.argv("--detach")).code == 0
    age(sandbox)
    (first,) = sandbox.batches.values()
    raw = sandbox.files[first.output_file_id].content
    kept = next(one for one in raw.splitlines(keepends=True) if b'"a"' in one)
    sandbox.script(Fault(on="file_content", kind="raw", body=kept.decode() + body, times=2))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "missing": 1})
    assert result.last["next"] is None
    (lost,) = result.last["unsuccessful"]
    assert (lost["custom_id"], lost["code"]) == ("b", "batch_missing")
    again = checked(run(*batch.argv()))
    assert (again.events, again.last["counts"]) == (["summary"], result.last["counts"])
    shown = checked(run("show", str(batch.jobs)))
    assert (shown.last["counts"], shown.last["next"]) == (result.last["counts"], None)
    retried = checked(run(*batch.argv(RETRY)))
    assert (retried.code, retried.last["counts"]) == (0, {"completed": 2})
    assert jobs_in(sandbox) == [["a", "b"], ["b"]]


def test_a_rewritten_failure_of_a_retry(
    many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """If the results file was deleted, the failure of a retry is written once and counts."""
    files.write(line("a", **FAILED), line("bad", **HOT))
    many(*files.argv())
    many(*files.argv(RETRY))
    files.results.unlink()
    for _ in range(3):
        result = many(*files.argv())
        assert result.last["counts"] == {"failed": 1, "refused": 1}
    assert result.events == ["summary"]
    shown = checked(many("show", str(files.jobs)))
    assert shown.last["counts"] == {"failed": 1, "refused": 1}
    assert {name: len(lines) for name, lines in lines_of(files).items()} == {"a": 1, "bad": 1}


def test_a_rewritten_failure_of_a_batch(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """If the results file was deleted, the failures of a retried batch are written once."""
    batch.write(line("b", **HOT), line("c", **FAILED))
    run(*batch.argv())
    run(*batch.argv(RETRY))
    batch.results.unlink()
    for _ in range(3):
        result = checked(run(*batch.argv()))
        assert result.last["counts"] == {"refused": 1, "failed": 1}
    assert result.events == ["summary"]
    assert {name: len(lines) for name, lines in lines_of(batch).items()} == {"b": 1, "c": 1}


def test_a_restored_results_file(
    many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A failure that a retry replaced does not count when its file comes back."""
    files.write(line("a", metadata={"sandbox_failures": "1", "sandbox_seconds": "0.01"}))
    many(*files.argv())
    before = files.results.read_bytes()
    files.results.unlink()
    files.write(line("a", metadata=ENDLESS))
    waiting = ("--max-wait-seconds", "0.5")
    assert many(*files.argv(RETRY, *waiting)).code == 3
    files.results.write_bytes(before)
    assert many(*files.argv(*waiting)).last["counts"] == {"queued": 1}
    assert len(sandbox.posts) == 2


def test_a_completed_job_that_the_api_lost(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    instant_sleep: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that had completed is not submitted again, even if its result is gone everywhere."""
    monkeypatch.setenv("OAIBG_KEEP_DAYS", "0")
    files.add(1, sandbox_seconds="0.01")
    assert many(*files.argv()).code == 0
    files.results.unlink()
    sandbox.forget(*sandbox.jobs)
    for more in ((), (RETRY,), (RETRY,)):
        result = many(*files.argv(*more))
        assert (result.code, result.last["counts"]) == (5, {"not_found": 1})
    assert len(sandbox.posts) == 1


def contents(*folders: Path) -> dict[str, bytes]:
    """Return the bytes of each file but the locks, which are empty."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths if path.parent.name != "locks"}


def test_a_probe_of_the_lock(many: Callable[..., Result], files: Files, state: Path) -> None:
    """A run starts although another command holds its lock for a moment."""
    files.add(1, sandbox_seconds="0.01")
    state.mkdir()
    store = Store(str(state))
    lock = store.lock(os.environ["OPENAI_BASE_URL"], line_key(str(files.jobs), ""))
    assert lock is not None
    releasing = threading.Timer(0.15, store.unlock, [lock])
    releasing.start()
    assert many(*files.argv()).code == 0
    releasing.join()
    store.close()


def run_line(run: Callable[..., Result], key: str) -> dict[str, object]:
    """Return the `run` line of a run."""
    (shown,) = of(run("show", key), "run")
    return {name: value for name, value in shown.items() if name != "ts"}


@pytest.mark.parametrize("kind", ["background", "batch"])
@pytest.mark.parametrize("why", ["request", "results", "folder", "mode"])
@pytest.mark.parametrize("flag", [(), (RETRY,)])
def test_a_refused_command_changes_nothing(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    state: Path,
    tmp_path: Path,
    kind: str,
    why: str,
    flag: tuple[str, ...],
) -> None:
    """A refused command with another run's key changes no row, and creates no file."""
    key = ("--job-key", "k")
    here = batch if kind == "batch" else Files(batch.folder)
    here.write(line("a"), line("b", **FAILED))
    assert run(*here.argv(*key)).code == 4
    other = (Files if (kind == "batch") == (why == "mode") else BatchFiles)(tmp_path / "other")
    other.folder.mkdir()
    other.write(line("a", input="other" if why == "request" else "input of a"), line("b", **FAILED))
    if why == "results":
        other.results.write_text("notes\n")
    elif why == "folder":
        other.results = tmp_path / "none" / "results.jsonl"
    before, row = contents(tmp_path, state), run_line(run, "k")
    sandbox.requests.clear()
    refused = run(*other.argv(*key, *flag))
    assert (refused.code, sandbox.requests) == (2, [])
    after = contents(tmp_path, state)
    changed = {name for name in after if after[name] != before.get(name)}
    assert not {name for name in changed if "state" not in name}
    assert run_line(run, "k") == row
