"""The names of jobs in human mode: in every command, the key comes first, and then the label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result

FAST = ("--poll-seconds", "0.05", "--human")
DETACHED = ("submit", "x", "--detach", "--metadata", "sandbox_seconds=600")
NAMED = [
    ("--job-key", "report-7"),
    ("--label", "report-7"),
    ("--job-key", "report-7", "--label", "z"),
]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("argv", [("monitor", *FAST), ("show", "--human"), ("cancel", "--human")])
def test_name_of_a_job_given_by_its_id(
    run: Callable[..., Result], argv: tuple[str, ...], name: tuple[str, ...]
) -> None:
    """A command that got an ID shows the job's key, or its label if it has no key."""
    identifier = run(*DETACHED, *name).id
    limit = ("--max-wait-seconds", "0.1") if argv[0] == "monitor" else ()
    result = run(argv[0], identifier, *argv[1:], *limit)
    assert "report-7" in result.err + result.out.decode()


def test_names_of_several_jobs(run: Callable[..., Result]) -> None:
    """In a run over several IDs, each job has its own name."""
    names = [("--job-key", "a-key"), ("--label", "a label"), ()]
    ids = [run("submit", "x", "--detach", *name).id for name in names]
    text = run("monitor", *ids, *FAST).err
    for name in ("a-key", "a label", ids[2]):
        assert f"\n{name} " in text


@pytest.mark.parametrize("key", [(), ("--job-key", "k")])
def test_name_of_a_run(run: Callable[..., Result], folder: Path, key: tuple[str, ...]) -> None:
    """`show` of a run has its label, and begins with it if the run has no key of its own."""
    (folder / "jobs.jsonl").write_text('{"custom_id":"first","prompt":"x"}\n')
    argv = ("--jobs-file", "jobs.jsonl", "--results-file", "r.jsonl", "--label", "Lakes", *key)
    assert "first" in run("submit", *argv, "--events", "all", *FAST).err
    page = run("show", "jobs.jsonl", "--human").out.decode()
    assert page.splitlines()[0] == (key[1] if key else "Lakes")
    assert page.count("Lakes") == 1
