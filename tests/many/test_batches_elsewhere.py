"""Batches of servers whose IDs and lines of results differ from those of OpenAI's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Personality
from runs import HOT, SLOW, BatchFiles, age, batch_of, line, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

ROW = "Batch: its ID or its result lines don't have the API's format"

elsewhere = pytest.mark.parametrize("ids", ["dash", "uuid"])


def detached(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, ids: str, *lines: object
) -> str:
    """Submit a batch to a server with such IDs, without waiting; return its ID."""
    sandbox.become(Personality(batch_ids=ids, batch_lines="sparse"))
    batch.write(*lines or (line("good"), line("hot", **HOT)))  # type: ignore[arg-type]
    assert run(*batch.argv("--detach")).code == 0
    return batch_of(sandbox)


@pytest.mark.row(ROW)
@elsewhere
def test_a_run(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, ids: str) -> None:
    """A run as a batch gets its results from a server whose batch IDs and lines differ."""
    sandbox.become(Personality(batch_ids=ids, batch_lines="sparse"))
    batch.write(line("good"), line("failed", metadata={"sandbox_outcome": "failed"}))
    result = checked(run(*batch.argv("--show-output-text")))
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "failed": 1})
    assert not of(result, "warning")
    assert [one["custom_id"] for one in of(result, "output_text")] == ["good"]
    assert checked(run(*batch.argv())).last["counts"] == result.last["counts"]
    assert len(sandbox.batch_posts) == 1


@pytest.mark.row(ROW)
@elsewhere
def test_what_an_id_is_the_state_knows(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, ids: str
) -> None:
    """`show`, `monitor` and `cancel` ask for a batch at /batches, whatever form its ID has."""
    batch_id = detached(run, sandbox, batch, ids, line("a", **SLOW), line("b"))
    before = len(sandbox.requests)
    assert run("show", batch_id).code == 3
    assert run("monitor", batch_id, "--max-wait-seconds", "0.1").code == 3
    assert run("cancel", batch_id).last["cancelled"] is True
    assert not [one for one in sandbox.requests[before:] if "/responses" in one.path]


@elsewhere
def test_monitor_writes_the_results(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, ids: str
) -> None:
    """`monitor ID --results-file` fetches the results of such a batch."""
    batch_id = detached(run, sandbox, batch, ids)
    age(sandbox, 1)
    result = checked(run("monitor", batch_id, "--results-file", str(batch.results)))
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "refused": 1})


@elsewhere
def test_a_batch_that_was_submitted_elsewhere(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    ids: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `--results-file`, an ID that the state lacks is a batch's; the state notes that."""
    batch_id = detached(run, sandbox, batch, ids, line("a", **SLOW), line("b"))
    monkeypatch.setenv("OAIBG_STATE_DIR", str(tmp_path / "another"))
    argv = ("monitor", batch_id, "--results-file", str(batch.results))
    assert checked(run(*argv, "--max-wait-seconds", "0.2")).code == 3
    assert run("show", batch_id).code == 3
    age(sandbox)
    assert checked(run(*argv)).last["counts"] == {"completed": 2}


def test_a_response_whose_id_looks_like_a_batch(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ID of a submitted response is asked for at /responses, whatever its form."""
    monkeypatch.setattr(Personality, "new_id", lambda _: "batch-1")
    result = run("submit", "--prompt", "x", "--poll-seconds", "0.05")
    assert (result.code, result.id) == (0, "batch-1")
    assert run("show", "batch-1").code == 0
    assert not [one for one in sandbox.requests if "/batches" in one.path]


def test_results_of_a_response(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """`--results-file` for a response ID is refused, even if the ID's form doesn't show that."""
    sandbox.become("minimal")
    response_id = run("submit", "--prompt", "x", "--detach").id
    before = len(sandbox.requests)
    result = run("monitor", response_id, "--results-file", str(batch.results))
    assert len(sandbox.requests) == before
    assert result.code == 2
    (error,) = of(result, "error")
    assert f"{response_id} is a response" in error["message"]
