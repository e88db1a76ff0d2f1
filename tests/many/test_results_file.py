"""The results file: what is in it, which files are refused, and writes that fail."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import Result, wait_until
from ledger import count, tally
from oaibg.state.database import FILE
from runs import ENDLESS, WINDOW, BatchFiles, Files, as_bytes, finish, line, refused, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command
    from oaibg.sandbox import Sandbox


FOR_EVER = 1 << 30
GOOD = line("good")


def test_a_batch_keeps_a_foreign_file(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A batch's run refuses a results file with other content and leaves it unchanged."""
    for content in (b"notes\n", b"notes", b'{"a": 1}', batch.jobs.read_bytes()[:-1] + b"\n", b"["):
        batch.results.write_bytes(content)
        refused(run(*batch.argv()), sandbox, "--results-file")
        assert batch.results.read_bytes() == content


def test_a_batch_keeps_a_jobs_file_named_twice(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A jobs file of one line without a line end is not taken for a results file."""
    content = json.dumps(line("a")).encode()
    batch.jobs.write_bytes(content)
    batch.results = batch.jobs
    refused(run(*batch.argv()), sandbox)
    assert batch.jobs.read_bytes() == content


@pytest.mark.parametrize("loss", ["deleted", "empty", "cut", "one", "first"])
@pytest.mark.parametrize("days", ["30", "0"])
def test_a_results_file_that_lost_something(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    days: str,
) -> None:
    """The same command restores lost results from the state or the API, without a create."""
    monkeypatch.setenv("OAIBG_KEEP_DAYS", days)
    files.add(4, sandbox_seconds="0.01")
    many(*files.argv())
    before = {name: one["response"]["body"] for name, one in files.read().items()}
    raw = files.results.read_bytes()
    lines = raw.splitlines(keepends=True)
    if loss == "deleted":
        files.results.unlink()
    else:
        kept = {
            "empty": b"",
            "cut": raw[:-40],
            "one": b"".join(lines[:2] + lines[3:]),
            "first": lines[0][:1],
        }
        files.results.write_bytes(kept[loss])
    requests = len(sandbox.requests)
    result = many(*files.argv())
    assert (result.code, result.last["counts"]) == (0, {"completed": 4})
    assert {name: one["response"]["body"] for name, one in files.read().items()} == before
    assert len(sandbox.posts) == 4
    if days != "0":
        assert len(sandbox.requests) == requests


@pytest.mark.parametrize(
    "content",
    [
        b"my notes\n",
        b"my notes",
        b"x",
        b"\n",
        b"[]",
        b'{"a": 1}',
        b'{"a": 1}\n',
        as_bytes(GOOD),
        as_bytes(GOOD)[:-1],
        as_bytes({"custom_id": "other", "response": None, "error": {"code": "x"}}),
        as_bytes({"custom_id": "other", "response": None, "error": {"code": "x"}})[:-1],
    ],
)
def test_a_foreign_results_file(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: bytes
) -> None:
    """A file that is not this run's results file is a usage error, and stays unchanged."""
    files.add(2)
    files.results.write_bytes(content)
    result = run(*files.argv())
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert files.results.read_bytes() == content
    assert not sandbox.requests


@pytest.mark.parametrize("window", [(), WINDOW], ids=["background", "batch"])
@pytest.mark.parametrize(
    "content",
    [
        b"{\\rtf1\\ansi my letter}",
        b"{{ template }}",
        b"{% block %}",
        b"{a: 1, /* JSON5 */}",
        b"{'id': 'batch_req_'}",
        b'{"id":1,name:"JSON5"}',
        b'{"custom_id": "job 0", name: 1}',
        b"{ my notes",
        b"{\x00\x00{",
        b"\0",
        b"\0" * 5000,
        b"\xff\xfe{\0",
    ],
)
def test_a_text_that_could_be_the_start_of_a_line(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    content: bytes,
    window: tuple[str, ...],
) -> None:
    """A file of the user's is not taken for a result that was cut off: exit 2, and it stays."""
    files.add(1)
    files.results.write_bytes(content)
    result = run(*files.argv(*window))
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert files.results.read_bytes() == content
    assert not sandbox.requests


@pytest.mark.parametrize("rest", [b"{my notes", b"notes", b"{}", b"{\\rtf", b'{"a', b"\0x"])
def test_a_text_after_results(
    many: Callable[..., Result], run: Callable[..., Result], files: Files, rest: bytes
) -> None:
    """A text that the user has appended to the results is never removed: exit 2."""
    files.add(2)
    many(*files.argv())
    content = files.results.read_bytes() + rest
    files.results.write_bytes(content)
    result = run(*files.argv())
    assert (result.code, result.last["code"]) == (2, "usage")
    assert files.results.read_bytes() == content


@pytest.mark.parametrize("zeros", [0, 1, 4096])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("window", [(), WINDOW], ids=["background", "batch"])
def test_a_line_that_was_cut_off(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    window: tuple[str, ...],
    first: bool,
    zeros: int,
) -> None:
    """A result that was cut off anywhere is written again; a crash can leave zeros behind it."""
    files.add(2)
    many(*files.argv(*window))
    content = files.results.read_bytes()
    head, tail = (b"", content) if first else content[:-1].rsplit(b"\n", 1)
    head += b"" if first else b"\n"
    before = {name: one["response"]["body"] for name, one in files.by_id().items()}
    for cut in (1, 2, 5, 12, 19, 60, 200):
        files.results.write_bytes(head + tail[:cut] + b"\0" * zeros)
        result = many(*files.argv(*window))
        assert (result.code, result.last["counts"]) == (0, {"completed": 2}), tail[:cut]
        assert {name: one["response"]["body"] for name, one in files.by_id().items()} == before
    assert len(sandbox.posts) <= 3


def test_a_jobs_file_that_is_named_twice(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A jobs file given as its own results file stays unchanged."""
    content = as_bytes(GOOD)[:-1]
    files.jobs.write_bytes(content)
    result = run("submit", "--jobs-file", str(files.jobs), "--results-file", str(files.jobs))
    assert (result.code, files.jobs.read_bytes()) == (2, content)
    assert not sandbox.requests


def test_a_results_file_must_be_regular(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A pipe or a device as results file is a usage error."""
    files.add(1)
    pipe = files.folder / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/null", "/dev/full"):
        result = run("submit", "--jobs-file", str(files.jobs), "--results-file", path)
        assert (result.code, result.last["code"]) == (2, "usage")
    assert not sandbox.requests


def test_results_of_another_run(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    state: Path,
) -> None:
    """Results of another key, file or request are refused with exit 2 and left unchanged."""
    files.add(2)
    many(*files.argv())
    before = files.results.read_bytes()
    renamed = Files(files.folder)
    renamed.jobs = files.folder / "renamed.jsonl"
    renamed.jobs.write_bytes(files.jobs.read_bytes())
    for argv in (files.argv("--job-key", "fresh"), renamed.argv()):
        result = run(*argv)
        assert (result.code, result.last["code"]) == (2, "usage")
        assert "results-file" in result.last["hint"]
    state.rename(state.with_name("away"))
    assert run(*files.argv("--verbosity", "low")).code == 2, "another request, and no state"
    assert many(*files.argv()).last["counts"] == {"completed": 2}, "the same request, and no state"
    assert files.results.read_bytes() == before
    assert len(sandbox.posts) == 2


@pytest.mark.parametrize("odd", ["", '"id": null, ', f'"id": {"9" * 5000}, '])
def test_a_result_without_its_id(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, odd: str
) -> None:
    """A result line without the run's own `id` is refused with exit 2, and stays unchanged."""
    files.add(1)
    custom_id = json.loads(files.jobs.read_text())["custom_id"]
    error = '{"code": "batch_expired", "message": "m"}'
    line = f'{{{odd}"custom_id": "{custom_id}", "response": null, "error": {error}}}\n'
    files.results.write_text(line)
    result = run(*files.argv())
    assert (result.code, result.last["code"]) == (2, "usage")
    assert files.results.read_text() == line
    assert not sandbox.posts


@pytest.mark.process
def test_a_results_file_has_one_writer(command: Command, sandbox: Sandbox, files: Files) -> None:
    """A second run with the same results file ends with exit 7."""
    files.add(3, **ENDLESS)
    process = command.start(*files.argv())
    wait_until(lambda: len(sandbox.posts) == 3)
    result = command.run(*files.argv("--job-key", "other"))
    assert (result.code, result.last["code"]) == (7, "job_key_busy")
    finish(sandbox)
    assert command.end(process).code == 0
    files.check(sandbox, 3)


@pytest.mark.process
def test_a_result_is_on_disk_before_its_final(faulty: Command, files: Files) -> None:
    """Each result is synced to disk right after it is written, before its `final` is emitted."""
    files.add(3, sandbox_seconds="0.02")
    log = files.folder / "log"
    fault = IoFault(mode="count", below=str(files.results), log=str(log))
    assert faulty.run(*files.argv("--max-in-flight", "1"), fault=fault).code == 0
    steps = log.read_text().splitlines()
    written = [number for number, step in enumerate(steps) if step == f"write {files.results}"]
    assert len(written) == 3
    for number in written:
        assert steps[number + 1] == f"sync {files.results}"


@pytest.mark.process
@pytest.mark.parametrize(
    ("mode", "error", "times"),
    [("fail", 28, FOR_EVER), ("fail", 5, 1), ("short", 28, 3)],
)
def test_writes_that_fail(
    faulty: Command, sandbox: Sandbox, files: Files, mode: str, error: int, times: int
) -> None:
    """After failed writes (exit 9) the file has whole lines only, and a rerun completes it."""
    folder = files.folder / "out"
    folder.mkdir()
    files.results = folder / "results.jsonl"
    files.add(2, sandbox_seconds="0.02")
    for at in range(2, 99):
        log = files.folder / "log"
        log.unlink(missing_ok=True)
        fault = IoFault(mode=mode, below=str(folder), at=at, count=times, error=error, log=str(log))
        result = faulty.run(*files.argv("--max-in-flight", "1"), fault=fault)
        if result.code == 2:
            assert not sandbox.posts, "the results file can't be opened"
            continue
        checked(result)
        steps = len(log.read_text().splitlines())
        if steps < at:
            break
        count("io_faults", min(steps - at + 1, times))
        warned = [one["code"] for one in result.lines if one["event"] == "warning"]
        assert result.last["counts"] == {"completed": 2}
        assert (result.code, bool(result.last["next"])) == ((9, True) if warned else (0, False))
        assert set(warned) <= {"write_failed"}
        lost = {one["custom_id"] for one in result.lines if one["event"] == "warning"}
        whole = files.results.read_bytes().split(b"\n")[:-1]
        assert {json.loads(one)["custom_id"] for one in whole} >= {"job 0", "job 1"} - lost
        if result.code:
            fixed = checked(faulty.run(*rerun(result.last["next"])))
            assert (fixed.code, fixed.last["counts"]) == (0, {"completed": 2})
        files.check(sandbox, 2)
        tally(sandbox)
        sandbox.clear()
        files.results.unlink()
        (files.folder.parent / "state" / FILE).unlink()
    assert at > 5


@pytest.mark.parametrize(
    "content", ["My notes.\n", "My notes.", '{"prompt": "a"}\n', "a,b\n1,2\n", "[]\n"]
)
def test_another_file_as_results_file(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: str
) -> None:
    """A file without results is not said to have those of another run; it stays as it is."""
    files.write(line("a"))
    files.results.write_text(content)
    result = run(*files.argv())
    refused(result, sandbox, "this is not a results file, because line 1 is not a result.")
    assert "belongs to" not in result.last["message"]
    assert files.results.read_text() == content
