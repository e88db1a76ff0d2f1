"""Batches with the same custom_ids: a results file has the results of one of them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from oaibg.state.database import FILE
from runs import HOT, BatchFiles, line, of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

OTHER = "The results file contains the results of another batch"


@pytest.fixture
def nightly(many: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> list[str]:
    """The IDs of two batches of the same jobs; their results are `A.jsonl` and `B.jsonl`."""
    batch.write(line("a"), line("b"), line("c", **HOT))
    for key in ("A", "B"):
        batch.results = batch.folder / f"{key}.jsonl"
        many(*batch.argv("--job-key", key))
    return list(sandbox.batches)


def forget(state: Path) -> None:
    """Let the local state forget whose results the files have."""
    with sqlite3.connect(state / FILE) as database:
        database.execute("DELETE FROM results_files")
    database.close()


def refuses(result: Result, path: Path, content: bytes) -> None:
    """Check that a command ended with exit 2 because of a file, which stays as it was."""
    assert result.code == 2
    (error,) = of(result, "error")
    assert (error["code"], "another batch" in error["message"]) == ("usage", True)
    assert str(path) in error["message"]
    assert path.read_bytes() == content


@pytest.mark.row(OTHER)
@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
@pytest.mark.parametrize("lines", [1, 2, 3, -1])
def test_monitor_with_the_results_of_another_batch(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    state: Path,
    nightly: list[str],
    lines: int,
    known: bool,
) -> None:
    """`monitor` refuses a file with all, some or the failed results of another batch."""
    mixed = batch.folder / "mixed.jsonl"
    all_lines = (batch.folder / "A.jsonl").read_bytes().splitlines(keepends=True)
    content = b"".join(all_lines[:lines] if lines > 0 else all_lines[lines:])
    mixed.write_bytes(content)
    if not known:
        forget(state)
    before = len(sandbox.requests)
    result = run("monitor", nightly[1], "--results-file", str(mixed), "--poll-seconds", "0.05")
    refuses(result, mixed, content)
    if known and lines > 0:
        assert len(sandbox.requests) == before


@pytest.mark.row(OTHER)
@pytest.mark.parametrize("command", ["submit", "monitor"])
def test_a_file_that_was_moved(
    run: Callable[..., Result], batch: BatchFiles, nightly: list[str], command: str
) -> None:
    """The results of A under the name of B's are refused by B's own command, in either form."""
    mine, others = batch.folder / "B.jsonl", batch.folder / "A.jsonl"
    content = others.read_bytes()
    others.replace(mine)
    argv = (*batch.argv("--job-key", "B"),)
    if command == "monitor":
        argv = ("monitor", nightly[1], "--results-file", str(mine))
    refuses(run(*argv), mine, content)


@pytest.mark.row(OTHER)
@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
def test_a_table_of_another_batch(
    run: Callable[..., Result],
    many: Callable[..., Result],
    batch: BatchFiles,
    state: Path,
    nightly: list[str],
    known: bool,
) -> None:
    """A results table of another batch is refused, and both of its files stay as they were."""
    table = batch.folder / "t.csv"
    many("monitor", nightly[0], "--results-file", str(table))
    if not known:
        forget(state)
    rows, lines = table.read_bytes(), table.with_name("t.csv.jsonl")
    content = lines.read_bytes()
    refuses(run("monitor", nightly[1], "--results-file", str(table)), lines, content)
    assert table.read_bytes() == rows


@pytest.mark.row(OTHER)
@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_the_own_results(
    many: Callable[..., Result],
    batch: BatchFiles,
    state: Path,
    nightly: list[str],
    lines: int,
    known: bool,
) -> None:
    """A file with some of a batch's own results is completed by `monitor` and by its submit."""
    path = batch.folder / "B.jsonl"
    content = path.read_bytes()
    for argv in (
        batch.argv("--job-key", "B"),
        ("monitor", nightly[1], "--results-file", str(path), "--poll-seconds", "0.05"),
    ):
        path.write_bytes(b"".join(content.splitlines(keepends=True)[:lines]))
        if not known:
            forget(state)
        assert many(*argv).last["counts"] == {"completed": 2, "refused": 1}
        assert sorted(path.read_bytes().splitlines()) == sorted(content.splitlines())


@pytest.mark.row(OTHER)
def test_the_results_of_a_retry(
    many: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """The batches of a retry belong to their run: its file takes the results of both."""
    batch.write(line("a"), line("b", metadata={"sandbox_outcome": "failed"}))
    many(*batch.argv())
    batch.write(line("a"), line("b"))
    assert many(*batch.argv("--retry-failed")).last["counts"] == {"completed": 2}
    assert many(*batch.argv()).last["counts"] == {"completed": 2}
    assert len(sandbox.batches) == 2
