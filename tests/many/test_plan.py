"""Which run a command continues, and the checks before a run starts."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from ledger import rows_of
from oaibg.state.database import FILE
from runs import (
    ENDLESS,
    FAST,
    SLOW,
    WINDOW,
    BatchFiles,
    Files,
    age,
    finals,
    finish,
    line,
    refused,
    rerun,
    start_batch,
)
from schemas import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox


def test_changed_jobs_of_a_batch(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A jobs file that changed after the submit is refused, even when its batch has ended."""
    batch.write(line("a", **SLOW), line("b"))
    assert run(*batch.argv("--detach")).code == 0
    original = batch.jobs.read_bytes()
    sandbox.requests.clear()
    batch.write(line("a", **SLOW), line("b", input="Another."))
    for _ in range(2):
        changed = run(*batch.argv())
        refused(changed, sandbox, "--job-key")
        assert changed.last["code"] == "job_key_reused"
        assert "\\n" not in changed.last["message"]
        if not batch.by_id():
            new = batch.jobs.read_bytes()
            age(sandbox)
            batch.jobs.write_bytes(original)
            assert run(*batch.argv()).code == 0
            batch.jobs.write_bytes(new)
            sandbox.requests.clear()


@pytest.mark.slow
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_run_keeps_its_mode(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, batch_first: bool
) -> None:
    """A run that was started as a batch can't continue in background mode, nor the reverse."""
    batch.write(line("a", **SLOW))
    ways = [batch.argv(), Files(batch.folder).argv()]
    if not batch_first:
        ways.reverse()
    run(*ways[0], "--max-wait-seconds", "1")
    assert rows_of(batch.folder / "state")[0][0] == "submitted"
    sandbox.requests.clear()
    refused(run(*ways[1]), sandbox, "--job-key", "as a batch" if batch_first else "background")


def test_a_job_key_names_a_batch(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A job key names one batch of a file, and stands for its ID in other commands."""
    batch.write(line("a", **SLOW))
    assert run(*batch.argv("--detach", "--job-key", "one")).code == 0
    assert run(*batch.argv("--detach", "--job-key", "one")).code == 0
    other = BatchFiles(batch.folder)
    other.results = batch.folder / "other.jsonl"
    assert run(*other.argv("--detach", "--job-key", "two")).code == 0
    first, second = sandbox.batches
    marks = {post.body["metadata"]["oaibg"] for post in sandbox.batch_posts}
    assert len(marks) == len(sandbox.batch_posts) == 2
    for key, batch_id in (("one", first), ("two", second)):
        shown = run("show", "--job-key", key)
        assert (shown.code, shown.id) == (3, batch_id)
    assert run("show").id == second
    listed = {one["response_id"]: one["job_key"] for one in run("show", "--list").lines[:-1]}
    assert listed == {first: "one", second: "two"}
    cancelled = run("cancel", "--job-key", "one")
    assert (cancelled.code, cancelled.id) == (0, first)
    monitored = run("monitor", "--job-key", "one", "--poll-seconds", "0.05")
    assert (monitored.code, monitored.last["counts"]) == (4, {"cancelled": 1})


@pytest.mark.process
def test_two_batch_runs_at_once(command: Command, sandbox: Sandbox, batch: BatchFiles) -> None:
    """A second process of the same run ends with exit 7 and sends nothing."""
    batch.write(line("a", **SLOW))
    process, _ = start_batch(command, batch)
    second = command.run(*batch.argv())
    assert SCHEMAS["error"].is_valid(second.last)
    assert (second.code, second.last["code"]) == (7, "job_key_busy")
    assert second.last["next"] is not None
    age(sandbox)
    assert command.end(process).code == 0
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, 1)


@pytest.mark.process
def test_batch_runs_that_race(command: Command, sandbox: Sandbox, batch: BatchFiles) -> None:
    """Several processes that start at the same moment create one batch."""
    racers = [command.start(*batch.argv()) for _ in range(5)]
    results = [command.end(racer) for racer in racers]
    assert {result.code for result in results} <= {0, 7}
    assert 0 in {result.code for result in results}
    assert (len(sandbox.batch_posts), set(batch.by_id())) == (1, {"a", "b"})


@pytest.mark.parametrize("way", ["body", "option"])
def test_a_changed_request(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    way: str,
) -> None:
    """A changed request under the same custom_id is a usage error that names its line."""
    files.write(line("a"), line("b"))
    many(*files.argv())
    content = files.results.read_bytes()
    requests = len(sandbox.requests)
    if way == "body":
        files.write(line("a"), line("b", input="changed"), line("c"))
        result = run(*files.argv())
        assert "'b' (line 2)" in result.last["message"]
        assert "'a'" not in result.last["message"]
    else:
        result = run(*files.argv("--verbosity", "high"))
        assert "'a' (line 1), 'b' (line 2)" in result.last["message"]
    assert (result.code, result.last["code"]) == (2, "job_key_reused")
    assert (len(sandbox.requests), files.results.read_bytes()) == (requests, content)


def test_appended_and_moved_lines(
    many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A repeated run submits new lines only, in any order of lines."""
    files.write(line("a"), line("b"))
    many(*files.argv())
    files.write(line("c"), line("b"), line("a"), line("d"))
    result = many(*files.argv())
    assert finals(result) == {"c": "completed", "d": "completed"}
    assert result.last["counts"] == {"completed": 4}
    files.check(sandbox, 4)


def test_job_keys_separate_runs(
    many: Callable[..., Result], run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Another job key starts another run of the same file; a key resumes its run from any path."""
    files.add(2)
    many(*files.argv())
    other = Files(files.folder)
    other.results = files.folder / "other.jsonl"
    for _ in range(2):
        assert many(*other.argv("--job-key", "second")).code == 0
    assert len(sandbox.posts) == 4
    ids = [{one["id"] for one in each.read().values()} for each in (files, other)]
    assert not ids[0] & ids[1]
    other.jobs = files.jobs.rename(files.folder / "moved.jsonl")
    other.results.unlink()
    assert many(*other.argv("--job-key", "second")).code == 0
    assert (len(other.read()), len(sandbox.posts)) == (2, 4)
    listed = {one["job_key"]: one["jobs_file"] for one in run("show", "--list").lines[:-1]}
    assert listed == {"second": str(other.jobs), str(files.jobs): str(files.jobs)}


def test_a_link_to_a_jobs_file(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A jobs file is the same run by whatever link it is reached."""
    files.add(2)
    many(*files.argv())
    link = Files(files.folder)
    link.jobs = files.folder / "link.jsonl"
    link.jobs.symlink_to(files.jobs)
    assert many(*link.argv()).last["counts"] == {"completed": 2}
    assert len(sandbox.posts) == 2


@pytest.mark.process
def test_several_processes_at_once(command: Command, sandbox: Sandbox, files: Files) -> None:
    """One process runs the jobs; the others end with exit 7 and the same command as `next`."""
    files.add(10, **ENDLESS)
    processes = [command.start(*files.argv()) for _ in range(3)]
    wait_until(lambda: sum(one.poll() is not None for one in processes) == 2)
    wait_until(lambda: len(sandbox.jobs) == 10)
    finish(sandbox)
    results = sorted((command.end(one) for one in processes), key=lambda one: one.code)
    assert [one.code for one in results] == [0, 7, 7]
    for one in results[1:]:
        assert (one.last["code"], one.last["outcome"]) == ("job_key_busy", "not_created")
        assert one.last["next"][-len(files.argv()) :] == list(files.argv())
    files.check(sandbox, 10)


def test_next_works_in_any_directory(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    instant_sleep: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`next` has absolute paths and resumes the run from another directory until it is done."""
    files.add(3, **ENDLESS)
    (files.folder / "patch.json").write_text('{"user": "u"}')
    (files.folder / "tools.json").write_text('[{"type": "web_search"}]')
    monkeypatch.chdir(files.folder)
    result = many(
        *("submit", "--jobs-file=jobs.jsonl", "--results-file", "../work/results.jsonl", *FAST),
        *("--body-json-file", "patch.json", "--tools-json-file", "tools.json"),
        *("--poll-seconds", "1", "--max-wait-seconds", "30", "--max-in-flight", "2"),
    )
    assert result.code == 3
    assert len(sandbox.posts) <= 2
    elsewhere = files.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    runs = 0
    while result.code == 3:
        command = result.last["next"]
        assert str(files.jobs) in command
        assert "--max-in-flight" in command
        finish(sandbox)
        result = many(*rerun(command))
        runs += 1
        assert runs < 20
    assert (result.code, result.last["next"]) == (0, None)
    files.check(sandbox, 3)
    assert {post.body["user"] for post in sandbox.posts} == {"u"}


def test_next_keeps_links_and_keys(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """`next` keeps a link as it was given, and a hyphen as job key."""
    files.add(1, **ENDLESS)
    link = files.folder / "link.jsonl"
    link.symlink_to(files.jobs)
    paths = ("--jobs-file", str(link), "--results-file", str(files.results))
    result = many("submit", *paths, *FAST, "--job-key", "-", "--max-wait-seconds", "1")
    assert result.code == 3
    argv = ["submit", *paths, *FAST, "--job-key", "-", "--max-wait-seconds", "1"]
    assert rerun(result.last["next"]) == argv


def test_a_state_that_cannot_be_used(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the state can't be used, the run ends with exit 2 before any create."""
    files.add(2)
    monkeypatch.setenv("OAIBG_STATE_DIR", str(files.jobs))
    result = run(*files.argv())
    assert (result.code, result.last["code"]) == (2, "state_unwritable")
    assert result.last["outcome"] == "not_created"
    assert not sandbox.requests


def test_a_newer_state(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, state: Path
) -> None:
    """If a newer version wrote the state, the run ends with exit 2 before any create."""
    files.add(2)
    run("show", "--list")
    database = sqlite3.connect(state / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    assert run(*files.argv()).code == 2
    assert not sandbox.requests


@pytest.mark.parametrize("window", [(), WINDOW])
def test_a_key_names_a_job_or_a_run(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, window: tuple[str, ...]
) -> None:
    """A run can't use the key of a job, nor a job that of a run: nothing is sent or written."""
    files.write(line("a"), line("b"))
    job = ("submit", "--prompt", "x", *FAST, "--job-key")
    assert run(*job, "job").code == run(*files.argv(*window, "--job-key", "run")).code == 0
    results, listed = files.results.read_bytes(), run("show", "--list").story[:-1]
    files.results.unlink()
    sandbox.requests.clear()
    for key, what, refusals in (
        ("job", "a single job", [run(*files.argv(*window, "--job-key", "job"))]),
        ("run", "a run of 2 jobs", [run(*job, "run"), run(*job, "run", "--retry-failed")]),
    ):
        for refusal in refusals:
            refused(refusal, sandbox, f"`oaibg show --job-key {key}` shows it")
            assert f"{key!r} belongs to {what}" in refusal.last["message"]
            assert (refusal.last["code"], refusal.last["job_key"]) == ("job_key_reused", key)
    assert not files.results.exists()
    files.results.write_bytes(results)
    assert run("show", "--list").story[:-1] == listed
    assert run(*job, "job").code == run(*files.argv(*window, "--job-key", "run")).code == 0
    assert run(*job, "job 2").code == 0
    assert len(sandbox.posts) == 1, "the key of each still continues its own work"
