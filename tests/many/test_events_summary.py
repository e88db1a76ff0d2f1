"""`--events summary`, the default of a jobs file: what goes as planned has no lines of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import wait_until
from oaibg.base.json_text import json_line
from oaibg.contract.events import RunProgress
from runs import ENDLESS, HOT, BatchFiles, Files, batch_of, line, new_jobs, of, rerun
from virtual_time import Server, submit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

SUMMARY = ("--events", "summary")
FOR_EVER = 1 << 30
KIB = 1024


def progress(result: Result) -> list[dict[str, object]]:
    """Return what the `run_progress` lines say, without their common keys."""
    common = ("ts", "v", "event", "response_id", "custom_id")
    return [
        {key: value for key, value in one.items() if key not in common}
        for one in of(result, "run_progress")
    ]


@pytest.mark.parametrize("kind", ["background", "batch"])
def test_jobs_that_complete(
    many: Callable[..., Result], files: Files, batch: BatchFiles, kind: str
) -> None:
    """By default, a run whose jobs all complete writes two lines; a rerun writes one."""
    run_files = batch if kind == "batch" else files
    run_files.write(*(line(f"job {number}") for number in range(200)))
    argv = [word for word in run_files.argv() if word not in ("--events", "changes")]
    result = many(*argv)
    assert (result.events, result.code) == (["run_progress", "summary"], 0)
    assert progress(result) == [
        {
            "total": 200,
            "done": 0,
            "counts": {},
            "in_flight": 0,
            "per_minute": None,
            "eta_seconds": None,
            "usage": None,
            "cost_usd": None,
        }
    ]
    assert result.last["counts"] == {"completed": 200}
    assert many(*argv).events == ["summary"]


@pytest.mark.parametrize("kind", ["background", "batch"])
def test_jobs_without_success(
    many: Callable[..., Result], files: Files, batch: BatchFiles, kind: str
) -> None:
    """Of thirty jobs, the three without an answer have a line each; all lines take under 10 KiB.

    So has the batch, because not all of its jobs completed.
    """
    run_files = batch if kind == "batch" else files
    run_files.write(
        *(line(f"job {number}") for number in range(27)),
        line("failed", metadata={"sandbox_outcome": "failed"}),
        line("calls", metadata={"sandbox_outcome": "function_call"}),
        line("hot", **HOT),
    )
    result = many(*run_files.argv(*SUMMARY))
    ends = {one["custom_id"]: one["event"] for one in result.lines if one["custom_id"] is not None}
    assert ends == {"failed": "final", "calls": "final", "hot": "error"}
    assert len(result.lines) == len(ends) + 2 + (kind == "batch")
    assert (result.events[0], result.events[-1]) == ("run_progress", "summary")
    assert len(result.out) < 10 * KIB


def test_ten_minutes(tmp_path: Path) -> None:
    """A run reports every minute how far it is: in less than 8 KiB, however many jobs it has."""
    events, summary = submit(Server(lasting=25), tmp_path, 400, in_flight=20, events="summary")
    assert summary.counts == {"completed": 400}
    told = [event for event in events if isinstance(event, RunProgress)]
    assert len(told) == 1 + int(summary.elapsed_seconds // 60)
    size = sum(len(json_line(one.to_dict("2026-01-01T00:00:00.000Z", several=True)))
               for one in (*told, summary))  # fmt: skip
    assert 300 < summary.elapsed_seconds < 900
    assert size < 8 * KIB
    assert {one.total for one in told} == {400}
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert all(sum(one.counts.values()) == one.done + one.in_flight for one in told)
    assert all(one.in_flight <= 20 for one in told)
    assert (told[0].per_minute, told[0].eta_seconds) == (None, None)
    for number, one in enumerate(told[1:], 1):
        assert one.per_minute is not None
        before = told[max(number - 5, 0)]
        minutes = min(number, 5)
        assert one.per_minute == pytest.approx((one.done - before.done) / minutes, rel=0.02)
        assert one.eta_seconds == pytest.approx(
            (400 - one.done) / one.per_minute * 60, rel=0.02, abs=1
        )
    # The first minutes include the time until the first jobs ended.
    for number, one in enumerate(told[4:], 4):
        left = summary.elapsed_seconds - 60 * number
        assert one.eta_seconds == pytest.approx(left, rel=0.3, abs=40)


def test_jobs_that_take_long(tmp_path: Path) -> None:
    """Until a job has ended, nobody knows how long the run takes."""
    events, _ = submit(Server(), tmp_path, 9, in_flight=5, wait=150, events="summary")
    told = [event for event in events if isinstance(event, RunProgress)]
    assert [(one.done, one.in_flight, one.per_minute, one.eta_seconds) for one in told] == [
        (0, 0, None, None),
        (0, 5, None, None),
        (0, 5, None, None),
    ]
    assert told[1].counts == {"in_progress": 5}


def test_a_run_that_is_resumed(tmp_path: Path) -> None:
    """The jobs that ended in an earlier process are done, but don't count per minute."""
    submit(Server(lasting=100), tmp_path, 9, in_flight=3, wait=150)
    events, _ = submit(Server(lasting=100), tmp_path, 9, in_flight=3, events="summary")
    first, second, *_ = (event for event in events if isinstance(event, RunProgress))
    assert (first.done, first.counts, first.per_minute) == (3, {"completed": 3}, None)
    assert (second.done, second.counts["completed"], second.per_minute) == (3, 3, None)


def test_usage_so_far(many: Callable[..., Result], files: Files) -> None:
    """The usage is the sum of all jobs that have ended, those of earlier processes included."""
    files.add(2)
    usage = many(*files.argv()).last["usage"]
    files.add(1, first=2)
    (first,) = progress(many(*files.argv(*SUMMARY)))
    assert (first["total"], first["done"], first["usage"]) == (3, 2, usage)


def test_the_wait_limit(many: Callable[..., Result], files: Files, instant_sleep: None) -> None:
    """At the wait limit, the counts have the running jobs, and `next` continues the run."""
    files.add(5, **ENDLESS)
    argv = files.argv(*SUMMARY, "--poll-seconds", "9", "--max-wait-seconds", "50")
    result = many(*argv)
    assert set(result.events) == {"run_progress", "summary"}
    assert (result.code, result.last["counts"]) == (3, {"queued": 5})
    assert "summary" in rerun(result.last["next"])


def test_a_batch_that_is_running(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """A batch's progress is that of the API's counts, with the batch's ID."""
    batch.write(line("a", metadata=ENDLESS), *(line(f"{number}") for number in range(3)))
    result = run(*batch.argv(*SUMMARY, "--poll-seconds", "9", "--max-wait-seconds", "200"))
    assert set(result.events) == {"run_progress", "summary"}
    *_, last = of(result, "run_progress")
    assert last["response_id"] == result.last["response_id"] == batch_of(sandbox)
    assert (last["total"], last["done"] + last["in_flight"]) == (4, 4)
    assert last["in_flight"] > 0
    assert (result.code, result.last["counts"]) == (3, {"in_progress": 4})


def test_a_retried_batch_that_is_running(
    run: Callable[..., Result], batch: BatchFiles, instant_sleep: None
) -> None:
    """Jobs that an earlier batch completed are done, also while their run has another batch."""
    failed = {"sandbox_outcome": "failed"}
    batch.write(line("a"), line("b"), line("c", metadata=failed), line("d", metadata=failed))
    assert run(*batch.argv()).last["counts"] == {"completed": 2, "failed": 2}
    batch.write(line("a"), line("b"), line("c", metadata=ENDLESS), line("d"))
    wait = ("--poll-seconds", "9", "--max-wait-seconds", "200")
    for options in (("--retry-failed",), ()):
        result = run(*batch.argv(*SUMMARY, *wait, *options))
        for one in of(result, "run_progress"):
            assert (one["total"], one["done"] + one["in_flight"]) in ((4, 4), (4, 2))
            assert one["counts"]["completed"] >= 2
        assert one["in_flight"] > 0
        assert result.code == 3


def test_a_run_that_is_monitored(
    run: Callable[..., Result], files: Files, instant_sleep: None
) -> None:
    """`monitor KEY` counts the jobs that had ended before, and never more than there are."""
    files.add(3)
    files.add(2, first=3, **ENDLESS)
    wait = ("--poll-seconds", "9", "--max-wait-seconds", "200")
    run(*files.argv("--job-key", "k", *wait))
    result = run("monitor", "k", *SUMMARY, *wait)
    assert len(of(result, "run_progress")) > 1
    for one in of(result, "run_progress"):
        assert (one["total"], one["done"]) == (5, 3)
        assert (one["counts"]["completed"], sum(one["counts"].values())) in ((3, 3), (3, 5))


def test_a_run_that_was_not_submitted_completely(
    run: Callable[..., Result], files: Files, instant_sleep: None
) -> None:
    """Jobs that wait to be submitted are not done for `monitor KEY`."""
    files.add(1)
    files.add(2, first=1, **ENDLESS)
    files.add(3, first=3)
    wait = ("--poll-seconds", "9", "--max-wait-seconds", "200")
    run(*files.argv("--job-key", "k", "--max-in-flight", "2", *wait))
    *_, last = of(run("monitor", "k", *SUMMARY, *wait), "run_progress")
    assert (last["total"], last["done"], last["in_flight"]) == (6, 1, 2)


def test_several_ids(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """`monitor` of several IDs takes the option, too; `next` repeats it."""
    done, failed = new_jobs(sandbox, 3, 0.01), new_jobs(sandbox, 1, 0.01, "failed")
    result = many("monitor", *done, *failed, *SUMMARY)
    assert result.events == ["run_progress", "final", "summary"]
    assert result.lines[0]["total"] == 4
    assert [one["response_id"] for one in of(result, "final")] == failed
    assert many("monitor", *done).events.count("final") == 3, "not the default"


def test_one_job(run: Callable[..., Result]) -> None:
    """For one job, `summary` writes the same lines as `changes`."""
    one, other = (
        run("submit", "--prompt", "x", "--poll-seconds", "0.2", "--events", which)
        for which in ("summary", "changes")
    )
    assert one.events == other.events
    assert one.events[-1] == "final"


def test_lines_that_were_asked_for(
    many: Callable[..., Result], files: Files, tmp_path: Path
) -> None:
    """Answers and streamed steps have lines if an option asks for them; saved files have none."""
    files.add(2, sandbox_outcome="image")
    files.add(1, first=2)
    saved = ("--artifacts-dir", str(tmp_path / "out"))
    result = many(*files.argv(*SUMMARY, "--show-output-text", "--stream", *saved))
    assert [one["custom_id"] for one in of(result, "output_text")] == ["job 2"]
    assert of(result, "progress")
    kinds = {"run_progress", "progress", "output_text", "output_text_missing", "final", "summary"}
    assert set(result.events) == kinds


@pytest.mark.parametrize("events", ["all", "changes", "summary"])
def test_human_mode(run: Callable[..., Result], files: Files, events: str) -> None:
    """In a pipe, `--human` writes the progress, what did not succeed, and the end of the run."""
    files.add(30)
    files.add(1, first=30, sandbox_outcome="failed")
    result = run(*files.argv("--human", "--events", events))
    assert result.code == 4
    rows = result.err.splitlines()
    failed = "job 30 failed: The model failed to generate a response."
    assert rows[:3] == ["0 of 31 done", failed, ""]
    assert rows[5:7] == ["", rows[6]]
    assert rows[6].startswith("30 completed, 1 failed. This command took ")
    assert len(rows) == 10


def test_human_mode_of_several_ids(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`monitor --human` of several IDs writes no line per poll or completed job."""
    ids = new_jobs(sandbox, 30, 0.3)
    result = run("monitor", *ids, "--human", "--poll-seconds", "0.1")
    rows = result.err.splitlines()
    assert (result.code, rows[0]) == (0, "0 of 30 done")
    assert rows[2].startswith("30 completed. This command took ")
    assert len(rows) == 4


def polled(sandbox: Sandbox) -> set[str | None]:
    """Return the IDs of the jobs that have been polled."""
    return {one.response_id for one in sandbox.requests if one.method == "GET"}


@pytest.mark.process
def test_human_mode_after_a_signal(
    command: Command, sandbox: Sandbox, files: Files, tmp_path: Path
) -> None:
    """Ctrl-C writes one end for all jobs, whose next step is the command again."""
    files.add(30, **ENDLESS)
    with (tmp_path / "err").open("wb") as err:
        process = command.start(*files.argv("--human", "--max-in-flight", "30"), stderr=err)
        wait_until(lambda: len(sandbox.posts) == 30)
        wait_until(lambda: len(polled(sandbox)) == 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    text = (tmp_path / "err").read_text()
    assert text.count("Interrupted") == 1
    assert "\nInterrupted; 30 jobs keep running.\nContinue the run: " in text
    assert len(text.splitlines()) < 10


@pytest.mark.process
def test_ids_that_can_not_be_stored(
    faulty: Command, sandbox: Sandbox, state: Path, files: Files
) -> None:
    """If the local state can't store an ID, the ID is on stdout."""
    files.add(1, **ENDLESS)
    argv = files.argv(*SUMMARY, "--poll-seconds", "9", "--max-wait-seconds", "0.5")
    only_on_stdout = 0
    for at in range(1, 99):
        sandbox.clear()
        log = files.folder / "log"
        log.unlink(missing_ok=True)
        fault = IoFault(
            mode="fail", below=str(state), at=at, count=FOR_EVER, error=28, log=str(log)
        )
        result = faulty.run(*argv, "--job-key", f"key {at}", fault=fault)
        listed = [one["response_id"] for one in faulty.run("show", "--list").lines]
        for response_id in sandbox.jobs:
            on_stdout = [one["response_id"] for one in of(result, "submitted")]
            assert response_id in (*listed, *on_stdout)
            only_on_stdout += response_id not in listed
        if only_on_stdout or len(log.read_text().splitlines()) < at:
            break
    assert only_on_stdout
