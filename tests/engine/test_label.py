"""`--label`: a name for people, which is not part of the request."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oaibg.state.database import FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

ARGV = ("submit", "--prompt", "x", "--detach")


def test_list_has_the_label(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`show --list` has the label of each job, and null for a job without one."""
    run(*ARGV, "--label", "Lakes of Bavaria")
    run(*ARGV)
    assert [line.get("label") for line in run("show", "--list").lines] == [
        None,
        "Lakes of Bavaria",
        None,
    ]
    assert "Bavaria" not in str([request.body for request in sandbox.requests])


def test_label_is_not_part_of_the_request(run: Callable[..., Result]) -> None:
    """The request and its hash are the same with and without a label."""
    with_label = run("submit", "--prompt", "x", "--label", "Lakes", "--dry-run").last
    without = run("submit", "--prompt", "x", "--dry-run").last
    assert with_label["body"] == without["body"]
    assert with_label["request_sha256"] == without["request_sha256"]


def test_rerun_keeps_the_first_label(run: Callable[..., Result]) -> None:
    """A rerun with the same key continues the job, which keeps the label of its submit."""
    run(*ARGV, "--job-key", "k", "--label", "first")
    again = run(*ARGV, "--job-key", "k", "--label", "second")
    assert (again.code, again.lines[1]["reattached"]) == (0, True)
    (job, _) = run("show", "--list").lines
    assert (job["job_key"], job["label"]) == ("k", "first")


@pytest.mark.parametrize("window", ["soonest", "24h"])
def test_label_of_a_run(run: Callable[..., Result], folder: Path, window: str) -> None:
    """With a jobs file, the label names the run, and a rerun keeps it."""
    (folder / "jobs.jsonl").write_text('{"prompt":"x"}\n')
    argv = ("--jobs-file", "jobs.jsonl", "--results-file", "results.jsonl")
    many = ("submit", *argv, "--completion-window", window, "--poll-seconds", "0.05")
    assert run(*many, "--label", "Lakes").code == 0
    assert run(*many).code == 0
    assert [line["label"] for line in run("show", "--list").lines[:-1]] == ["Lakes"]
    assert run("show", "jobs.jsonl").lines[0]["label"] == "Lakes"


def test_state_of_an_older_version(run: Callable[..., Result], folder: Path, state: Path) -> None:
    """A state from before labels is upgraded; the labels of its jobs and runs are null."""
    (folder / "jobs.jsonl").write_text('{"prompt":"x"}\n')
    run(
        "submit", "--jobs-file", "jobs.jsonl", "--results-file", "r.jsonl", "--poll-seconds", "0.05"
    )
    run(*ARGV)
    with closing(sqlite3.connect(state / FILE)) as database, database:
        database.execute("ALTER TABLE jobs DROP COLUMN label")
        database.execute("ALTER TABLE runs DROP COLUMN label")
    run(*ARGV, "--label", "new")
    labels = [line["label"] for line in run("show", "--list").lines[:-1]]
    assert labels == ["new", None, None]


@pytest.mark.parametrize("label", ["", "  ", "two\nlines", "a\tb", "x" * 201, "\udc80"])
def test_invalid_label(run: Callable[..., Result], sandbox: Sandbox, label: str) -> None:
    """A label is one line of at most 200 printable characters; otherwise nothing is sent."""
    result = run(*ARGV, "--label", label)
    assert (result.code, result.last["code"]) == (2, "usage")
    assert "--label" in result.last["message"]
    assert not sandbox.requests
