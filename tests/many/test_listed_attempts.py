"""Lists of jobs that were submitted again: the earlier attempts are marked, and don't count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runs import FAST, HOT, BatchFiles, Files, line, of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

ONCE = {"metadata": {"sandbox_failures": "1", "sandbox_seconds": "0.01"}}
"""Keys of a body whose first attempt fails."""
ALWAYS = {"metadata": {"sandbox_outcome": "failed", "sandbox_seconds": "0.01"}}
LIST = ("show", "--list", "--job-key", "k")
RETRY = "--retry-failed"


def replaced(result: Result) -> list[tuple[Any, ...]]:
    """Return the job, the status and the mark of each line, in the order of the list."""
    return [
        (one["custom_id"], one["status"], one["replaced"])
        for one in sorted(of(result, "job"), key=lambda one: one["created_at"])
    ]


def test_retried_jobs_of_a_run(run: Callable[..., Result], files: Files) -> None:
    """The list of a run counts its jobs as `show` does; --status finds no replaced attempt."""
    files.write(line("once", **ONCE), line("always", **ALWAYS), line("good"))
    run(*files.argv("--job-key", "k", "--max-in-flight", "1"))
    run(*files.argv("--job-key", "k", RETRY, "--max-in-flight", "1"))
    listed = run(*LIST)
    assert replaced(listed) == [
        ("once", "failed", True),
        ("always", "failed", True),
        ("good", "completed", False),
        ("once", "completed", False),
        ("always", "failed", False),
    ]
    shown = run("show", "k")
    assert listed.last["counts"] == shown.last["counts"] == {"completed": 2, "failed": 1}
    assert listed.last["usage"] == shown.last["usage"]
    assert replaced(run(*LIST, "--status", "failed")) == [("always", "failed", False)]


def test_retried_job(run: Callable[..., Result]) -> None:
    """The attempts of a single job are marked in the same way, also in the list of everything."""
    metadata = ("--metadata", "sandbox_failures=1", "--metadata", "sandbox_seconds=0.01")
    argv = ("submit", "x", "--job-key", "k", *metadata, *FAST)
    assert (run(*argv).code, run(*argv, RETRY).code) == (4, 0)
    for options in ((), ("--job-key", "k")):
        listed = run("show", "--list", *options)
        assert [one["replaced"] for one in of(listed, "job")] == [False, True]
        assert listed.last["counts"] == {"completed": 1}
        assert of(run("show", "--list", *options, "--status", "failed"), "job") == []


def test_retried_batch(run: Callable[..., Result], batch: BatchFiles) -> None:
    """An earlier batch is not replaced: the answers of its other jobs still count."""
    batch.write(line("a"), line("hot", **HOT))
    run(*batch.argv("--job-key", "k"))
    run(*batch.argv("--job-key", "k", RETRY))
    listed = run(*LIST, "--status", "completed")
    assert [one["replaced"] for one in of(listed, "job")] == [False, False]


@pytest.mark.usefixtures("sandbox")
def test_list_for_people(run: Callable[..., Result], files: Files) -> None:
    """A table says which attempts are replaced, and that the counts leave them out."""
    files.write(line("once", **ONCE))
    run(*files.argv("--job-key", "k"))
    run(*files.argv("--job-key", "k", RETRY))
    listed = run(*LIST, "--human")
    assert "failed (replaced)" in listed.out.decode()
    assert listed.err == "1 completed; 1 earlier attempt not counted\n"
