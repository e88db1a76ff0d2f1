"""A results file that is removed, replaced or truncated while a run writes to it."""

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from runs import HOT, WINDOW, Files, line, of, rerun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

CHANGED = "The results file is removed, renamed, replaced or truncated during a run"
WAYS = ("removed", "renamed", "saved", "emptied", "cut", "folder", "folder renamed", "one line")
"""What happens to the file while the run writes to it."""


def spoil(path: Path, way: str) -> None:
    """Do to a file what someone could do."""
    content = path.read_bytes()
    if way == "removed":
        path.unlink()
    elif way == "renamed":
        path.rename(path.with_name("renamed"))
    elif way == "saved":  # as most editors do
        path.with_name("new").write_bytes(content)
        path.with_name("new").replace(path)
    elif way == "emptied":
        path.write_bytes(b"")
    elif way == "cut":
        path.write_bytes(content[:-20])
    elif way == "one line":
        path.write_bytes(content.split(b"\n")[0] + b"\n")
    elif way == "folder":
        shutil.rmtree(path.parent)
    elif way == "folder renamed":
        path.parent.rename(path.parent.with_name("elsewhere"))


def spoiled(
    run: Callable[..., Result],
    argv: tuple[str, ...],
    path: Path,
    lines: int,
    spoil: Callable[[], None],
) -> Result:
    """Run a command, and spoil its results file once it has so many lines."""

    def later() -> None:
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") == lines)
        spoil()

    thread = threading.Thread(target=later)
    thread.start()
    result = run(*argv)
    thread.join()
    return result


@pytest.fixture
def placed(files: Files) -> Files:
    """The files of a run whose results file has a folder of its own."""
    folder = files.folder / "results"
    folder.mkdir()
    files.results = folder / "results.jsonl"
    return files


def mixed(files: Files) -> None:
    """Write a jobs file: two jobs end at once, one of them refused; two others a moment later."""
    quick, slow = {"sandbox_seconds": "0.01"}, {"sandbox_seconds": "1"}
    files.write(
        line("quick", metadata=quick),
        line("refused", **HOT),
        line("slow", metadata=slow),
        line("failed", metadata={**slow, "sandbox_outcome": "failed"}),
    )


@pytest.mark.row(CHANGED)
@pytest.mark.parametrize("name", ["results.jsonl", "results.csv"])
@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_changes(
    many: Callable[..., Result], sandbox: Sandbox, placed: Files, way: str, name: str
) -> None:
    """At its end, the run notices it, writes the lost results again, and emits a warning."""
    mixed(placed)
    table = placed.results.with_name(name)
    if name.endswith("csv"):
        placed.results = table.with_name(f"{name}.jsonl")
    lines = placed.results
    named = ("submit", "--jobs-file", str(placed.jobs), "--results-file", str(table))
    argv = (*named, *placed.argv()[5:])
    result = spoiled(many, argv, lines, 2, lambda: spoil(lines, way))
    assert (result.code, result.last["next"]) == (1, None)
    assert result.last["counts"] == {"completed": 2, "refused": 1, "failed": 1}
    (warning,) = of(result, "warning")
    assert warning["code"] == "results_changed"
    assert str(lines) in warning["message"]
    found = placed.by_id()
    assert sorted(found) == ["failed", "quick", "refused", "slow"]
    assert found["refused"]["response"]["body"]["error"]["message"]
    if name.endswith("csv"):
        assert table.read_text().count("completed") == 2
    posts = len(sandbox.posts)
    again = many(*argv)
    assert again.last["counts"] == result.last["counts"]
    assert len(sandbox.posts) == posts


@pytest.mark.row(CHANGED)
def test_a_file_that_was_not_touched(many: Callable[..., Result], placed: Files) -> None:
    """A file that a second program only reads, links or renames back gives no warning."""
    placed.add(2, sandbox_seconds="0.3")

    def look() -> None:
        placed.results.with_name("link").hardlink_to(placed.results)
        spoil(placed.results, "renamed")
        placed.results.with_name("renamed").rename(placed.results)

    result = spoiled(many, placed.argv(), placed.results, 0, look)
    assert (result.code, of(result, "warning")) == (0, [])


@pytest.mark.row(CHANGED)
@pytest.mark.parametrize("content", [b"my notes\n", b"{\\rtf1", b"\0"])
@pytest.mark.parametrize("way", ["put in its place", "written into it", "beside a table"])
def test_a_file_that_becomes_the_users(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    placed: Files,
    content: bytes,
    way: str,
) -> None:
    """A file of the user's that is put in its place stays; exit 9, and a rerun can write both."""
    argv = placed.argv()
    if way == "beside a table":
        table = placed.results.with_name("results.csv")
        argv = (*argv[:4], str(table), *argv[5:])
        placed.results = table.with_name("results.csv.jsonl")
    placed.add(1, sandbox_seconds="0.01")
    placed.add(1, first=1, sandbox_seconds="1")

    def put() -> None:
        if way != "written into it":
            placed.results.unlink()
        placed.results.write_bytes(content)

    result = spoiled(many, argv, placed.results, 1, put)
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    assert placed.results.read_bytes() == content
    assert {one["code"] for one in of(result, "warning")} == {"write_failed"}
    assert all(str(placed.results) in one["message"] for one in of(result, "warning"))
    assert run(*rerun(result.last["next"])).code == 2
    placed.results.unlink()
    assert many(*rerun(result.last["next"])).code == 0
    placed.check(sandbox, 2)


@pytest.mark.row(CHANGED)
def test_a_cut_file_without_stored_results(
    many: Callable[..., Result],
    sandbox: Sandbox,
    placed: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Results that neither the file nor the state has are fetched by `next`; exit 9."""
    monkeypatch.setenv("OAIBG_KEEP_DAYS", "0")
    placed.add(1, sandbox_seconds="0.01")
    placed.add(1, first=1, sandbox_seconds="1")
    spoiler = lambda: spoil(placed.results, "emptied")  # noqa: E731
    result = spoiled(many, placed.argv(), placed.results, 1, spoiler)
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    assert "0 of 1 lost results" in of(result, "warning")[0]["message"]
    assert many(*rerun(result.last["next"])).code == 0
    placed.check(sandbox, 2)


@pytest.mark.row(CHANGED)
@pytest.mark.parametrize("way", ["removed", "renamed", "saved", "folder", "folder renamed"])
def test_a_batch(many: Callable[..., Result], sandbox: Sandbox, placed: Files, way: str) -> None:
    """A batch's results are written again, too, if the file is no longer at its path."""
    placed.write(line("a", metadata={"sandbox_seconds": "1"}), line("b", **HOT))
    argv = placed.argv(*WINDOW)
    result = spoiled(many, argv, placed.results, 0, lambda: spoil(placed.results, way))
    assert result.last["counts"] == {"completed": 1, "refused": 1}
    assert [one["code"] for one in of(result, "warning")] == ["results_changed"]
    assert sorted(placed.by_id()) == ["a", "b"]
    assert many(*argv).last["counts"] == result.last["counts"]
    assert len(sandbox.batches) == 1


@pytest.mark.row(CHANGED)
def test_a_retry(many: Callable[..., Result], sandbox: Sandbox, placed: Files) -> None:
    """In a retry, the lines of the first attempts are written again as well."""
    failing = {"sandbox_outcome": "failed", "sandbox_seconds": "0.8"}
    placed.write(line("a", metadata=failing), line("b"))
    assert many(*placed.argv()).code == 4
    argv = placed.argv("--retry-failed")

    def rename() -> None:
        wait_until(lambda: len(sandbox.posts) == 3)
        spoil(placed.results, "renamed")

    result = spoiled(many, argv, placed.results, 2, rename)
    assert (result.code, [one["code"] for one in of(result, "warning")]) == (4, ["results_changed"])
    raws = [json.loads(raw) for raw in placed.results.read_text().splitlines()]
    assert sorted(one["custom_id"] for one in raws) == ["a", "a", "b"]
    posts = len(sandbox.posts)
    assert many(*placed.argv()).last["counts"] == {"completed": 1, "failed": 1}
    assert (len(sandbox.posts), len(placed.results.read_text().splitlines())) == (posts, 3)
