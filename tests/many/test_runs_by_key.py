"""`show`, `monitor` and `cancel` of a run by its key or its files, from the process of a test."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oaibg.state.database import FILE
from runs import FAST, HOT, MIXED, SLOW, BatchFiles, Files, finish, line, of, rerun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

WAITING = ("--poll-seconds", "5", "--max-wait-seconds", "60")
"""The options of a run whose jobs don't end."""

pytestmark = pytest.mark.usefixtures("instant_sleep")


def test_a_run_that_has_ended(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """`show KEY` has the run's counts, usage and reasons, as its summary had, without a request."""
    files.write(*MIXED)
    ended = run(*files.argv("--job-key", "mixed"))
    sandbox.requests.clear()
    shown = run("show", "mixed")
    assert shown.events == ["run", "summary"]
    found, last = shown.lines
    for key in ("counts", "usage", "cost_usd"):
        assert found[key] == last[key] == ended.last[key]
    assert (found["job_key"], found["total"]) == ("mixed", len(MIXED))
    assert (found["jobs_file"], found["results_file"]) == (str(files.jobs), str(files.results))
    by_id = {one["custom_id"]: one for one in ended.last["unsuccessful"]}
    assert {one["custom_id"]: one for one in last["unsuccessful"]} == by_id
    assert last["results_file"] == str(files.results)
    assert (shown.code, last["next"], sandbox.requests) == (ended.code, None, [])


@pytest.mark.parametrize("name", ["jobs", "results", "relative"])
def test_a_run_by_its_files(
    run: Callable[..., Result], files: Files, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A run is found by its jobs file or its results file, also by a relative path."""
    files.write(line("a"))
    run(*files.argv("--job-key", "k"))
    monkeypatch.chdir(files.folder)
    names = {"jobs": str(files.jobs), "results": str(files.results), "relative": "jobs.jsonl"}
    shown = run("show", names[name])
    assert (shown.code, shown.lines[0]["job_key"]) == (0, "k")


def test_the_jobs_file_is_the_default_key(run: Callable[..., Result], files: Files) -> None:
    """Without --job-key, the real path of the jobs file is the key."""
    files.write(line("a"))
    run(*files.argv())
    shown = run("show", "--job-key", os.path.realpath(files.jobs))
    assert shown.lines[0]["job_key"] == os.path.realpath(files.jobs)


def test_a_run_that_was_not_finished(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """While jobs run or wait to be submitted, the exit code is 3, and `next` resumes the run."""
    files.write(line("a"), line("b", **SLOW), line("c"))
    run(*files.argv("--max-in-flight", "1", *WAITING))
    shown = run("show", str(files.jobs))
    counts = shown.last["counts"]
    assert counts["not_submitted"] == 1
    assert sum(counts.values()) == 3
    assert shown.code == 3
    finish(sandbox)
    resumed = run(*rerun(shown.last["next"]))
    assert (resumed.code, resumed.last["counts"]) == (0, {"completed": 3})
    files.check(sandbox, 3)


def test_a_run_with_a_prompt_in_its_options(run: Callable[..., Result], files: Files) -> None:
    """The state keeps no instructions: `next` then follows what was submitted."""
    files.write(line("a", **SLOW))
    run(*files.argv("--job-key", "k", "--instructions", "secret words", *WAITING))
    shown = run("show", "k")
    assert shown.last["next"][1:] == ["monitor", "k"]
    assert b"secret words" not in shown.out


def test_a_results_file_that_lacks_results(run: Callable[..., Result], files: Files) -> None:
    """Results that are only in the state are exit 9, not 0; `next` writes them to the file."""
    files.write(line("a"), line("b"))
    run(*files.argv("--job-key", "k"))
    whole = files.results.read_bytes()
    files.results.write_bytes(
        b"".join(raw for raw in whole.splitlines(keepends=True) if b'"a"' not in raw)
    )
    shown = run("show", "k")
    assert [one["code"] for one in of(shown, "warning")] == ["results_missing"]
    assert (shown.code, shown.last["counts"]) == (9, {"completed": 2})
    assert run(*rerun(shown.last["next"])).code == 0
    assert files.read().keys() == {"a", "b"}
    assert (run("show", "k").code, run("show", "k").last["next"]) == (0, None)


@pytest.mark.parametrize("cut", [1, 2, 300])
def test_a_torn_line_of_results(run: Callable[..., Result], files: Files, cut: int) -> None:
    """A last line that was cut off by a kill is a result that the results file lacks."""
    files.write(line("a"))
    run(*files.argv("--job-key", "k"))
    whole = files.results.read_bytes()
    files.results.write_bytes(whole[:-cut])
    shown = run("show", "k")
    assert (shown.code, shown.last["counts"]) == (9 if cut > 1 else 0, {"completed": 1})


@pytest.mark.parametrize(
    "options",
    [("--output-text",), ("--output-text-file", "x.md"), ("--output-json-file", "x.json")],
    ids=" ".join,
)
def test_the_answer_of_a_run(
    run: Callable[..., Result],
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    """A run has no single answer: the error names the results file."""
    files.write(line("a"))
    run(*files.argv("--job-key", "k"))
    monkeypatch.chdir(files.folder)
    result = run("show", "k", *options)
    assert result.code == 2
    assert str(files.results) in result.err


def test_show_of_the_newest_run(run: Callable[..., Result], files: Files) -> None:
    """`show` without a name shows the newest submit if that is a run; it has no single answer."""
    run("submit", "--prompt", "x")
    files.write(line("a"), line("b"))
    run(*files.argv("--job-key", "k"))
    assert run("show").last["counts"] == {"completed": 2}
    assert run("show", "--output-text").code == 2
    run("submit", "--prompt", "y")
    assert run("show").last["event"] == "response"


def test_monitor_of_a_run(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """`monitor KEY` follows the submitted jobs, counts the others, and submits nothing."""
    files.write(line("a"), line("b", **SLOW), line("c"))
    run(*files.argv("--job-key", "k", "--max-in-flight", "1", *WAITING))
    posts = len(sandbox.posts)
    finish(sandbox)
    followed = run("monitor", "k", *FAST)
    assert [one["custom_id"] for one in of(followed, "final")] == ["b"]
    assert followed.last["counts"] == {"completed": 2, "not_submitted": 1}
    assert followed.code == 3
    assert rerun(followed.last["next"])[0] == "submit"
    assert len(sandbox.posts) == posts


def test_monitor_of_a_run_at_the_wait_limit(run: Callable[..., Result], files: Files) -> None:
    """At the wait limit, `next` follows the run by its key."""
    files.write(line("a", **SLOW), line("b", **SLOW))
    run(*files.argv("--job-key", "k", *WAITING))
    followed = run("monitor", "k", *WAITING)
    assert (followed.code, sum(followed.last["counts"].values())) == (3, 2)
    assert rerun(followed.last["next"]) == ["monitor", *WAITING, "k"]


def test_monitor_of_the_newest_run(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """`monitor` without a name follows the newest submit if that is a run, and `next` names it."""
    run("submit", "--prompt", "x", "--detach")
    files.write(line("a", **SLOW), line("b", **SLOW))
    run(*files.argv("--job-key", "k", *WAITING))
    waited = run("monitor", *WAITING)
    assert (waited.code, sum(waited.last["counts"].values())) == (3, 2)
    assert rerun(waited.last["next"]) == ["monitor", *WAITING, "k"]
    finish(sandbox)
    followed = run("monitor", *FAST)
    assert sorted(one["custom_id"] for one in of(followed, "final")) == ["a", "b"]


def test_monitor_of_the_newest_batch(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """`monitor` without a name follows the batch of the newest run."""
    files.write(line("a"))
    argv = ("--completion-window", "24h", "--detach")
    batch_id = run(*files.argv("--job-key", "k", *argv)).last["response_id"]
    followed = run("monitor", *FAST)
    assert (followed.code, followed.id) == (0, batch_id)
    assert len(sandbox.posts) == 0


def test_cancel_of_a_run(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """`cancel KEY` cancels what has not ended; jobs that had ended before are not errors."""
    files.write(line("a"), line("bad", metadata={"sandbox_outcome": "failed"}), line("hot", **HOT))
    run(*files.argv("--job-key", "k"))
    files.add(30, **SLOW["metadata"])
    run(*files.argv("--job-key", "k", *WAITING))
    cancelled = run("cancel", "k")
    assert cancelled.last["counts"] == {"completed": 1, "failed": 1, "refused": 1, "cancelled": 30}
    assert (cancelled.code, cancelled.last["next"]) == (0, None)
    assert len(of(cancelled, "cancel_result")) == 30
    assert {one["status"] for one in map(sandbox_status(sandbox), sandbox.jobs)} == {
        "cancelled",
        "completed",
        "failed",
    }
    sandbox.requests.clear()
    assert run("cancel", "k").code == 0
    assert not sandbox.requests


def test_cancel_of_jobs_that_have_ended(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Jobs that ended since the state was written are counted as `show` counts them; exit 0."""
    slow = SLOW["metadata"]
    files.write(line("a", metadata=slow), line("b", metadata=slow | {"sandbox_outcome": "failed"}))
    files.add(1, **slow, sandbox_outcome="function_call")
    files.add(4, first=1, **slow)
    run(*files.argv("--job-key", "k", "--max-in-flight", "4", *WAITING))
    finish(sandbox)
    cancelled = run("cancel", "k")
    assert (cancelled.code, cancelled.last["next"]) == (0, None)
    shown = run("show", "k")
    for key in ("counts", "usage", "cost_usd", "unsuccessful"):
        assert cancelled.last[key] == shown.last[key]
    assert cancelled.last["counts"] == {
        "completed": 2,
        "failed": 1,
        "needs_action": 1,
        "not_submitted": 3,
    }
    assert cancelled.last["hint"] == (
        "The jobs are cancelled, unless they had ended. 3 jobs were not submitted. The submit "
        "command would submit and bill them: repeat it only if the user asks."
    )


def test_words_of_a_cancel(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """For people, a cancel reports no failure, and how to submit the jobs that are left."""
    files.add(30, **SLOW["metadata"])
    run(*files.argv("--job-key", "k", "--max-in-flight", "25", *WAITING))
    for job in list(sandbox.jobs.values())[:3]:
        job.seconds = 0.01
    result = run("cancel", "k", "--human")
    assert result.code == 0
    rows = result.err.splitlines()
    assert rows[0] == "0 of 30 done"
    end = "3 completed, 22 cancelled, 5 not submitted. This command took "
    assert [row for row in rows if row.startswith(end)]
    for word in ("failed", "Could not cancel"):
        assert word not in result.err.replace("--retry-failed", "")
    retry = (
        "To retry the 22 jobs that ended without success, repeat the submit command with "
        "--retry-failed."
    )
    submit = "To submit the other 5 jobs, repeat the submit command."
    assert rows[-2:] == [submit, retry]
    page = run("show", "k", "--human").out.decode()
    assert submit in page
    assert "Pace" not in page


def sandbox_status(sandbox: Sandbox) -> Callable[[str], dict[str, str]]:
    """Return a function that returns the status of a job that the sandbox has."""
    import time

    return lambda job_id: {"status": sandbox.jobs[job_id].status(time.time())}


def test_a_batch_by_its_key(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """The key of a batch's run shows the status of the batch, and then its results."""
    batch.write(line("a", **SLOW), line("b", **HOT))
    run(*batch.argv("--job-key", "k", "--detach"))
    shown = run("show", "k")
    status = next(iter(shown.last["counts"]))
    assert (shown.code, shown.last["counts"]) == (3, {status: 2})
    assert shown.id == next(iter(sandbox.batches))
    assert rerun(shown.last["next"])[0] == "submit"
    for one in sandbox.batches.values():
        one.created -= 601
    run(*batch.argv("--job-key", "k"))
    shown = run("show", "k")
    assert (shown.code, shown.last["counts"]) == (1, {"completed": 1, "refused": 1})
    assert shown.last["next"] is None


def test_a_run_of_an_older_version(run: Callable[..., Result], state: Path, files: Files) -> None:
    """A state without the table of runs gets it; its runs are known by their jobs."""
    files.write(line("a"), line("b"))
    run(*files.argv("--job-key", "k"))
    with sqlite3.connect(state / FILE) as db:
        db.execute("DROP TABLE runs")
    db.close()
    shown = run("show", "k")
    assert (shown.code, shown.last["counts"]) == (0, {"completed": 2})
    assert (shown.lines[0]["total"], shown.lines[0]["jobs_file"]) == (2, None)
    assert [one["job_key"] for one in of(run("show", "--list"), "run")] == ["k"]


def test_keys_and_ids_are_interchangeable(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A job's key, a run's key and an ID can be mixed; each job is followed once."""
    files.write(line("a", **SLOW), line("b"))
    run(*files.argv("--job-key", "k", *WAITING))
    first = run("submit", "--prompt", "x", "--job-key", "one", "--detach").id
    second = run("submit", "--prompt", "y", "--detach").id
    assert run("show", "one").id == first
    assert run("monitor", "one", *FAST).id == first
    finish(sandbox)
    (running,) = [
        one["response_id"]
        for one in of(run("show", "--list", "--job-key", "k"), "job")
        if one["custom_id"] == "a"
    ]
    followed = run("monitor", second, "k", "one", running, first, *FAST)
    assert {one["response_id"] for one in of(followed, "final")} >= {first, second}
    assert followed.last["counts"] == {"completed": 4}
    assert (run("cancel", "one").code, run("cancel", "one").last["status"]) == (4, "completed")


def test_keys_on_stdin(
    run: Callable[..., Result], sandbox: Sandbox, stdin: Callable[[str], None]
) -> None:
    """`cancel -` reads keys, too."""
    for key in ("one", "two"):
        run("submit", "--prompt", key, "--job-key", key, "--detach", "--metadata", SECONDS)
    stdin("one\ntwo\n")
    assert run("cancel", "-").last["counts"] == {"cancelled": 2}
    assert len(sandbox.jobs) == 2


SECONDS = "sandbox_seconds=600"


def test_an_id_in_the_state_comes_first(
    run: Callable[..., Result], sandbox: Sandbox, state: Path
) -> None:
    """A name that is both an ID and a key in the state is the ID."""
    sandbox.clear()
    first = run("submit", "--prompt", "x", *FAST).id
    run("submit", "--prompt", "y", "--job-key", "both", *FAST)
    with sqlite3.connect(state / FILE) as db:
        db.execute("UPDATE jobs SET response_id = 'both' WHERE response_id = ?", (first,))
    db.close()
    shown = run("show", "both")
    assert shown.last["response_id"] == "both"
    assert run("show", "--job-key", "both").last["response_id"] != "both"


@pytest.mark.parametrize("command", ["show", "monitor", "cancel"])
def test_a_name_that_is_unknown(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, command: str
) -> None:
    """What is neither an ID nor a known key is a usage error that names the local state."""
    result = run(command, "no/such key")
    assert (result.code, result.last["code"]) == (2, "usage")
    assert str(state) in result.last["message"]
    assert "'no/such key'" in result.last["message"]
    assert not sandbox.requests


@pytest.mark.parametrize("command", ["show", "monitor", "cancel"])
@pytest.mark.parametrize("key", ["", "invalid-key"])
def test_a_name_that_only_the_server_could_know(
    run: Callable[..., Result],
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    key: str,
) -> None:
    """If the server can't be asked, the error names the word and the state that lacks it."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    last = run(command, "mistyped").last
    assert (last["exit_code"], last["event"]) == (8, "error")
    assert f"The local state in {state} has no job or run named 'mistyped'" in last["message"]
    known = run(command, "resp_123").last
    assert (known["exit_code"], "local state" in known["message"]) == (8, False)


@pytest.mark.parametrize("command", ["monitor", "cancel"])
def test_several_names_that_only_the_server_could_know(
    run: Callable[..., Result], state: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Of several words, each error names its own; the error for a known job doesn't."""
    run("submit", "--prompt", "x", "--job-key", "known", *FAST, "--detach")
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run(command, "one", "known", "two")
    assert result.code == 8
    messages = [one["message"] for one in of(result, "error")]
    assert [f"in {state} has no job or run" in one for one in messages] == [True, False, True]
    for name, message in zip(("one", "two"), messages[::2], strict=True):
        assert f"'{name}'" in message


def test_a_name_without_a_network(
    run: Callable[..., Result], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server can't be reached, the error says that the state lacks the word, too."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    last = run("show", "mistyped").last
    assert (last["exit_code"], f"in {state} has no job or run" in last["message"]) == (7, True)


def test_list_of_runs_and_jobs(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """`show --list` has one line for a run and one for each other job, newest first."""
    run("submit", "--prompt", "x", "--job-key", "old", *FAST)
    files.write(*MIXED)
    ended = run(*files.argv("--job-key", "k"))
    run("submit", "--prompt", "y", "--detach", "--metadata", SECONDS)
    sandbox.requests.clear()
    listed = run("show", "--list")
    assert listed.events == ["job", "run", "job", "summary"]
    found = listed.lines[1]
    counts = {key: count for key, count in ended.last["counts"].items() if key != "refused"}
    assert (found["job_key"], found["total"], found["counts"]) == ("k", len(MIXED), counts)
    for key in ("input_tokens", "output_tokens", "total_tokens"):
        assert found["usage"][key] == ended.last["usage"][key]
        assert listed.last["usage"][key] == sum(one["usage"][key] for one in listed.lines[1:3])
    assert listed.last["counts"] == {
        **counts,
        "completed": counts["completed"] + 1,
        listed.lines[0]["status"]: 1,
    }
    assert run("show", "--list", "--limit", "2").events == ["job", "run", "summary"]
    assert (listed.code, sandbox.requests) == (0, [])


ODD = ("inf", "-1e300", "1e18", "'soon'", "x'00ff'", "''", "-1", "'2026-01-01T00:00:00Z'")


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_an_odd_time_in_the_state(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, files: Files, odd: str, column: str
) -> None:
    """A job or a run whose time in the state is impossible is still listed, with the others."""
    run("submit", "--prompt", "x", "--job-key", "one", *FAST)
    run("submit", "--prompt", "y", "--job-key", "two", *FAST)
    files.add(2)
    run(*files.argv("--job-key", "k"))
    value = odd.replace("inf", "9e999")
    with closing(sqlite3.connect(state / FILE, isolation_level=None)) as database:
        database.execute(f"UPDATE jobs SET {column} = {value} WHERE job_key <> 'two'")
        database.execute(f"UPDATE runs SET {column} = {value}")
    for options in ((), ("--human",)):
        assert run("show", "--list", *options).code == 0
    listed = run("show", "--list")
    assert sorted(listed.events) == ["job", "job", "run", "summary"]
    assert listed.last["counts"] == {"completed": 4}
    assert listed.lines[0]["job_key"] == "two" or column == "updated_at"
    for name in ("one", "k"):
        assert run("show", name).code == 0
    assert run(*files.argv("--job-key", "k")).code == 0
    assert run("submit", "--prompt", "x", "--job-key", "one", *FAST).code == 0
    assert len(sandbox.posts) == 4


def test_a_damaged_recap_in_the_state(
    run: Callable[..., Result], state: Path, files: Files
) -> None:
    """A job whose recap in the state is no JSON is still listed, with the others."""
    run("submit", "--prompt", "x", *FAST)
    files.add(2)
    run(*files.argv("--job-key", "k"))
    with closing(sqlite3.connect(state / FILE, isolation_level=None)) as database:
        database.execute("UPDATE jobs SET recap = substr(recap, 1, 20)")
    for options in ((), ("--status", "completed")):
        assert sorted(run("show", "--list", *options).events) == ["job", "run", "summary"]
    assert run("show", "k").code == 0


def test_list_filters(run: Callable[..., Result], files: Files) -> None:
    """--status and --job-key choose lines of the list; with a run's key, its jobs are listed."""
    run("submit", "--prompt", "x", "--job-key", "one", *FAST)
    files.write(line("a"), line("b", metadata={"sandbox_outcome": "failed"}))
    run(*files.argv("--job-key", "k"))
    assert run("show", "--list", "--status", "failed").events == ["run", "summary"]
    assert run("show", "--list", "--status", "expired").events == ["warning", "summary"]
    jobs = of(run("show", "--list", "--job-key", "k"), "job")
    assert {(one["custom_id"], one["status"]) for one in jobs} == {
        ("a", "completed"),
        ("b", "failed"),
    }
    failed = of(run("show", "--list", "--job-key", str(files.jobs), "--status", "failed"), "job")
    assert [one["custom_id"] for one in failed] == ["b"]
    assert [one["job_key"] for one in of(run("show", "--list", "--job-key", "one"), "job")] == [
        "one"
    ]


def test_a_run_for_people(
    run: Callable[..., Result], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`show KEY --human` prints a page on stdout, with the reasons in groups."""
    monkeypatch.setenv("COLUMNS", "80")
    failed = {"sandbox_outcome": "failed"}
    files.write(line("a"), line("b", metadata=failed), line("c", metadata=failed))
    run(*files.argv("--job-key", "k"))
    result = run("show", "k", "--human")
    text = result.out.decode()
    assert text.startswith("k\n  Jobs file ")
    assert "1 completed, 2 failed (of 3)" in text
    (reason,) = [row for row in text.splitlines() if "Unsuccessful" in row]
    assert reason.endswith(" (b, c)")
    assert str(files.results) in text
    assert result.code == 4


def test_a_list_for_people(run: Callable[..., Result], files: Files) -> None:
    """`show --list --human` has the runs and the jobs in one table."""
    run("submit", "--prompt", "x", "--job-key", "one", *FAST)
    files.write(line("a"), line("b"))
    run(*files.argv())
    rows = run("show", "--list", "--human").out.decode().splitlines()
    assert "2 of 2 completed" in rows[1]
    assert str(files.jobs) in "".join(rows[1:3])
    assert any("one" in row and "completed" in row for row in rows)


def test_a_rerun_is_stored_as_json(run: Callable[..., Result], state: Path, files: Files) -> None:
    """The state has the argv of the rerun, with absolute paths."""
    files.write(line("a"))
    run(*files.argv("--job-key", "k"))
    with sqlite3.connect(state / FILE) as db:
        ((argv,),) = db.execute("SELECT rerun FROM runs").fetchall()
    db.close()
    assert rerun(json.loads(argv)) == [*files.argv("--job-key", "k")]


def test_a_refused_results_file(run: Callable[..., Result], files: Files) -> None:
    """A run that is refused because of its results file does not change what the state has."""
    files.write(line("a"))
    run(*files.argv("--job-key", "k"))
    other = Files(files.folder)
    other.results = files.folder / "other.jsonl"
    other.results.write_text('{"custom_id": "x", "error": {"code": "y"}}\n')
    assert run(*other.argv("--job-key", "k")).code == 2
    assert run("show", "k").lines[0]["results_file"] == str(files.results)
