"""Faults of a batch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fault_runs import FAST
from harness import wait_until
from ledger import count
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

# A jobs file stays open as long as its process, which is the tests' own process here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def batch(folder: Path) -> tuple[str, ...]:
    """Write a jobs file of two jobs; return the arguments that submit it as a batch."""
    jobs_file = folder / "jobs.jsonl"
    body = '"method": "POST", "url": "/v1/responses", "body": {"input": "x"}}'
    jobs_file.write_text("".join(f'{{"custom_id": "{key}", {body}\n' for key in "ab"))
    files = ("--jobs-file", str(jobs_file), "--results-file", str(folder / "results.jsonl"))
    return ("submit", *files, "--completion-window", "24h", *FAST)


@pytest.mark.row("Batch: `kill -9` around its create")
@pytest.mark.parametrize(
    ("on", "kind"),
    [("file_create", "hang_after"), ("batch_create", "hang_after"), ("batch_retrieve", "delay")],
)
def test_a_batch_is_killed(
    command: Command, sandbox: Sandbox, tmp_path: Path, on: str, kind: str
) -> None:
    """A run that is killed around the create of its batch continues; the batch is created once."""
    sandbox.script(Fault(on=on, kind=kind))
    process = command.start(*batch(tmp_path))
    wait_until(lambda: sandbox.batches or (on == "file_create" and sandbox.file_posts))
    process.kill()
    process.communicate(timeout=60)
    count("kills")
    again = command.run(*batch(tmp_path))
    assert (again.code, again.last["counts"]) == (0, {"completed": 2})
    assert (len(sandbox.batch_posts), len(sandbox.batches)) == (1, 1)


@pytest.mark.row("Batch: the reply to its create is lost")
@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "truncate", "html"])
def test_a_batch_is_found(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, instant_sleep: None, kind: str
) -> None:
    """A batch whose create lost its reply is found in the API's list."""
    sandbox.script(Fault(on="batch_create", kind=kind))
    exists = kind != "reset_before"
    for _ in range(2):
        result = run(*batch(tmp_path))
        assert result.code == (0 if exists else 6)
        assert result.last["counts"] == ({"completed": 2} if exists else {"outcome_unknown": 2})
    assert (len(sandbox.batch_posts), len(sandbox.batches)) == (1, int(exists))


@pytest.mark.row("Batch: one of its files can't be downloaded")
@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("times", [3, 0])
def test_a_file_of_a_batch_is_refused(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    instant_sleep: None,
    status: int,
    times: int,
) -> None:
    """A refusal that passes loses nothing; one that stays costs only the results in that file."""
    argv = (*batch(tmp_path), "--events", "changes")
    jobs = tmp_path / "jobs.jsonl"
    bad = {"custom_id": "bad", "method": "POST", "url": "/v1/responses"}
    body = {"input": "x", "temperature": 9}
    jobs.write_text(jobs.read_text() + json.dumps(bad | {"body": body}) + "\n")
    assert run(*argv, "--detach").code == 0
    (one,) = sandbox.batches.values()
    one.created -= 600
    output = one.output_file_id
    sandbox.script(
        Fault(on="file_content", kind="status", status=status, response_id=output, times=times)
    )
    result = run(*argv)
    first = "missing" if times == 0 else "completed"
    assert (result.code, result.last["counts"]) == (1, {first: 2, "refused": 1})
    lines = (tmp_path / "results.jsonl").read_bytes().splitlines()
    # A file that is gone will never have the results: their jobs have lines with an error.
    missing = 2 if (times, status) == (0, 404) else 0
    assert len(lines) == result.last["counts"].get("completed", 0) + missing + 1


@pytest.mark.row("Batch: it expires")
def test_a_batch_expires(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """A batch that expires reports the end of every job."""
    sandbox.batch_window = 0.01
    result = run(*batch(tmp_path))
    assert (result.code, result.last["counts"]) == (4, {"expired": 2})
    assert len((tmp_path / "results.jsonl").read_bytes().splitlines()) == 2
