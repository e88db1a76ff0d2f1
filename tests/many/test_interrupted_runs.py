"""The end of an interrupted run: its summary, its table and its results agree."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import await_line, wait_until
from oaibg.sandbox import Fault
from runs import ENDLESS, Files, of, rerun
from schemas import checked

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

ENDED = {"completed", "failed"}


@pytest.fixture
def tabled(files: Files) -> Files:
    """The files of a run whose results file is a table."""
    files.results = files.folder / "results.csv"
    return files


def lines_path(files: Files) -> Path:
    """Return the path of the results beside the table."""
    return files.results.with_name(f"{files.results.name}.jsonl")


def slow_disk(folder: Path) -> IoFault:
    """Return a fault that makes each sync of a file take 0.7 s."""
    return IoFault(mode="slow", below=str(folder), at=1, error=700)


def check_agreement(result: Result, files: Files) -> None:
    """Check that the summary, the table and the lines have the same jobs, and the same usage."""
    with files.results.open(encoding="utf-8-sig", newline="") as file:
        rows = {row["custom_id"]: row for row in csv.DictReader(file)}
    lines = [
        json.loads(raw)["response"]["body"] for raw in lines_path(files).read_text().splitlines()
    ]
    counts = Counter(row["status"] for row in rows.values())
    assert result.last["counts"] == dict(counts)
    assert sum(counts[status] for status in ENDED) == len(lines)
    assert all(row["output_text"] for row in rows.values() if row["status"] == "completed")
    used = sum(line["usage"]["input_tokens"] for line in lines if line["usage"] is not None)
    assert sum(int(row["input_tokens"] or 0) for row in rows.values()) == used
    assert (result.last["usage"] or {"input_tokens": 0})["input_tokens"] == used


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_many_jobs_end(
    command: Command, tabled: Files, number: signal.Signals
) -> None:
    """Jobs whose end was seen are complete in the table, and the others are still running."""
    tabled.add(80, sandbox_seconds="1")
    tabled.add(10, first=80, sandbox_seconds="1", sandbox_outcome="failed")
    tabled.add(10, first=90, **ENDLESS)
    process = command.start(*tabled.argv("--max-in-flight", "100", "--poll-seconds", "1"))
    wait_until(lambda: lines_path(tabled).exists() and lines_path(tabled).stat().st_size)
    process.send_signal(number)
    result = checked(command.end(process))
    assert result.code == 128 + number
    check_agreement(result, tabled)
    assert command.run("show", str(tabled.jobs)).last["counts"].keys() >= {"in_progress"}


@pytest.mark.process
def test_a_signal_while_the_disk_is_slow(faulty: Command, tabled: Files, tmp_path: Path) -> None:
    """A job whose result can't be written in time is still running, by the summary and the table.

    The same command completes it without another request.
    """
    tabled.add(4, sandbox_seconds="0.2")
    process = faulty.start(*tabled.argv("--poll-seconds", "1"), fault=slow_disk(tmp_path))
    while await_line(process, "poll")[0]["status"] != "completed":
        pass
    process.send_signal(signal.SIGTERM)
    result = faulty.end(process)
    assert result.code == 143
    assert "completed" not in result.last["counts"]
    if not of(result, "warning"):  # the table was written in time
        check_agreement(result, tabled)
    again = checked(faulty.run(*tabled.argv()))
    assert (again.code, again.last["counts"]) == (0, {"completed": 4})
    check_agreement(again, tabled)


@pytest.mark.process
def test_results_that_only_the_state_has(
    faulty: Command, sandbox: Sandbox, tabled: Files, tmp_path: Path
) -> None:
    """If the wait limit ends a run before it wrote them, their jobs don't count as completed."""
    tabled.add(5)
    assert faulty.run(*tabled.argv()).code == 0
    lines_path(tabled).write_bytes(b"")
    tabled.results.unlink()
    argv = tabled.argv("--max-in-flight", "1", "--max-wait-seconds", "0.05")
    result = checked(faulty.run(*argv, fault=slow_disk(tmp_path)))
    assert (result.code, result.last["counts"]) == (3, {"completed": 1, "in_progress": 4})
    check_agreement(result, tabled)
    assert faulty.run(*tabled.argv()).last["counts"] == {"completed": 5}
    assert len(sandbox.posts) == 5


@pytest.mark.process
def test_a_second_signal(command: Command, sandbox: Sandbox, files: Files) -> None:
    """A second signal ends the run at once; the last line says what is known of its jobs."""
    files.add(4, **ENDLESS)
    sandbox.script(Fault(on="create", kind="hang_after"))
    process = command.start(*files.argv("--max-in-flight", "3", "--poll-seconds", "0.2"))
    wait_until(lambda: len(sandbox.posts) == 3 and len(sandbox.jobs) == 3)
    wait_until(lambda: len({one.path for one in sandbox.requests if one.method == "GET"}) == 2)
    while process.poll() is None:  # a signal that arrives with another one counts as one
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    last = command.end(process).last
    assert (last["event"], last["exit_code"], last["outcome"]) == ("interrupted", 130, "unknown")
    assert "2 jobs keep running. 1 request had no reply yet" in last["hint"]
    again = command.run(*rerun(last["next"]), "--max-wait-seconds", "2")
    assert again.last["counts"]["outcome_unknown"] == 1
    assert len(sandbox.posts) == 4
