"""Names of jobs in runs, and of runs that share a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runs import Files, line, of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result


@pytest.mark.parametrize("custom_id", ["31", "a/b", "my row"])
@pytest.mark.parametrize("key", [("--job-key", "reviews"), ()])
def test_a_job_of_a_run(
    run: Callable[..., Result], files: Files, key: tuple[str, ...], custom_id: str
) -> None:
    """`RUN/CUSTOM_ID`, the name in a list, is accepted in place of the job's ID."""
    files.write(line("other"), line(custom_id))
    run(*files.argv(*key))
    run_key = key[1] if key else str(files.jobs)
    listed = run("show", "--list", "--job-key", run_key)
    ids = {one["custom_id"]: one["response_id"] for one in of(listed, "job")}
    name = f"{run_key}/{custom_id}"
    shown = run("show", name)
    assert (shown.code, shown.id) == (0, ids[custom_id])
    assert run("cancel", name).id == ids[custom_id]
    if key:
        assert name in run("show", "--list", "--job-key", run_key, "--human").out.decode()


def test_a_job_that_no_run_has(run: Callable[..., Result], files: Files) -> None:
    """Another name with a slash is still refused before any request."""
    files.write(line("a"))
    run(*files.argv("--job-key", "reviews"))
    assert run("show", "reviews/b").code == 2


def test_runs_that_share_a_jobs_file(run: Callable[..., Result], files: Files) -> None:
    """A path of several runs stands for the newest one, and a warning names the others."""
    files.write(line("a"))
    for key in ("first", "second"):
        files.results = files.folder / f"{key}.jsonl"
        run(*files.argv("--job-key", key))
    shown = run("show", str(files.jobs))
    (warning,) = of(shown, "warning")
    assert warning["code"] == "several_runs"
    assert "2 runs" in warning["message"]
    assert "second. For another one, give its key: first." in warning["message"]
    assert shown.last["job_key"] == "second"
    for name in ("first", str(files.results)):
        assert of(run("show", name), "warning") == []
