"""Faults of this machine: stdout, the disk and the local state."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
import time
from shutil import which
from typing import TYPE_CHECKING

import pytest

from fault_runs import FAST, KEYED, LONG
from forkserver import IoFault
from harness import Result, await_line, wait_until, with_text
from ledger import audit, rows_of
from oaibg.sandbox import Fault
from oaibg.state.database import FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command
    from oaibg.sandbox import Sandbox
STDOUT_CLOSED = "stdout is closed early (`| head -1`)"
STDOUT_FULL = "stdout is full (`/dev/full`)"
STATE_UNUSABLE = "The local state is read-only, corrupt, or from a newer version"


@pytest.mark.row(STDOUT_CLOSED)
def test_closed_stdout(command: Command, sandbox: Sandbox) -> None:
    """A closed stdout ends the run quietly; the local state keeps the response ID."""
    process = command.start("submit", "--prompt", "x", *LONG)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(60)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read()) == (141, b"")
    (identifier,) = sandbox.jobs
    assert command.run("show").id == identifier


@pytest.mark.row(STDOUT_CLOSED)
def test_closed_stdout_and_no_state(command: Command, sandbox: Sandbox) -> None:
    """Without local state, a closed stdout prints the response ID to stderr."""
    process = command.start("submit", "--prompt", "x", *LONG, env={"OAIBG_STATE_DIR": "/dev/null"})
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.stdout.close()
    process.wait(60)
    (identifier,) = sandbox.jobs
    assert process.stderr is not None
    assert process.returncode == 141
    assert f"oaibg monitor {identifier}".encode() in process.stderr.read()


@pytest.mark.row(STDOUT_CLOSED)
def test_a_run_without_stdout_and_state(
    command: Command, sandbox: Sandbox, state: Path, tmp_path: Path
) -> None:
    """If neither stdout nor the local state can take the IDs of a run, stderr has each of them."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(f'{{"custom_id": "job {one}", "prompt": "{one}"}}\n' for one in "abc"))
    files = ("--jobs-file", str(jobs), "--results-file", str(tmp_path / "results.jsonl"))
    sandbox.script(Fault(on="create", kind="delay", seconds=1.5, times=3))
    process = command.start("submit", *files, *LONG, "--events", "all")
    wait_until(lambda: len(sandbox.posts) == 3)
    database = sqlite3.connect(state / FILE, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.wait(60)
    database.close()
    err = process.stderr.read().decode()
    assert process.returncode == 141
    identifiers = list(sandbox.jobs)
    assert len(identifiers) == 3
    for identifier, job in sandbox.jobs.items():
        name = job.request["input"]
        assert f"job {name}: {identifier}\n" in err
    follow = err.split("run: ")[1].split()
    assert follow[follow.index("monitor") :][:1] == ["monitor"]
    assert set(identifiers) < set(follow)


@pytest.mark.row(STDOUT_FULL)
def test_full_stdout(command: Command, sandbox: Sandbox) -> None:
    """A stdout that is full from the start ends the run before the create."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = command.run("submit", "--prompt", "x", stdout=full)
    assert (result.code, result.err) == (9, "")
    assert not sandbox.posts


@pytest.mark.row(STDOUT_FULL)
def test_stdout_that_becomes_full(command: Command, sandbox: Sandbox, state: Path) -> None:
    """A stdout that becomes full ends the run; the local state keeps the response ID."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    fault = IoFault(mode="fail", below="-", at=2, count=9, error=errno.ENOSPC)
    process = command.start(*KEYED, "--detach", fault=fault)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (9, b"")
    assert rows_of(state) == [("submitted", next(iter(sandbox.jobs)))]


@pytest.mark.row("The disk fills up, or the output directory becomes unwritable, during the wait")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, None])
def test_lost_output_folder(
    command: Command, sandbox: Sandbox, tmp_path: Path, error: int | None
) -> None:
    """A result that can't be saved gives exit 9, and `next` saves it later."""
    folder = tmp_path / "out"
    folder.mkdir()
    fault = None
    if error is not None:
        if not command.forks.injects:
            pytest.skip("needs Linux and a C compiler")
        fault = IoFault(mode="fail", below=str(folder), at=1, count=9, error=error)
    process = command.start(
        *("submit", "--prompt", "x", *LONG, "--poll-seconds", "0.1"),
        *("--output-text-file", str(folder / "o.md")),
        fault=fault,
    )
    line, read = await_line(process, "submitted")
    if error is None:
        folder.rmdir()
    body = json.dumps(with_text("The result.", id=line["response_id"]))
    sandbox.script(Fault(on="retrieve", kind="raw", body=body))
    out, _ = process.communicate(timeout=60)
    result = Result(process.returncode or 0, read + (out or b""), "")
    assert result.events[-2:] == ["warning", "final"]
    assert (result.code, result.last["ok"], result.lines[-2]["code"]) == (9, True, "write_failed")
    folder.mkdir(exist_ok=True)
    assert list(folder.iterdir()) == []
    command_line = result.last["next"]
    assert command.run(*command_line[command_line.index("show") :]).code == 0
    assert (folder / "o.md").read_text() == "The result."


@pytest.mark.row(STATE_UNUSABLE)
def test_read_only_state(
    unprivileged: Callable[..., Result], state: Path, sandbox: Sandbox
) -> None:
    """A read-only state gives a warning; with a job key, nothing is sent."""
    state.mkdir()
    state.chmod(0o555)
    result = unprivileged("submit", "--prompt", "x", "--poll-seconds", "0.05")
    assert result.code == 0
    assert result.events[:3] == ["submit_start", "warning", "submitted"]
    assert result.lines[1]["code"] == "state_unwritable"
    assert "OAIBG_STATE_DIR" in result.lines[1]["message"]
    keyed = unprivileged(*KEYED)
    assert (keyed.code, keyed.last["code"], len(sandbox.posts)) == (2, "state_unwritable", 1)


@pytest.mark.row(STATE_UNUSABLE)
def test_reading_a_read_only_state(
    unprivileged: Callable[..., Result], command: Command, state: Path
) -> None:
    """A read-only state can still be read."""
    identifier = command.run("submit", "--prompt", "x", "--poll-seconds", "0.05").id
    for path in (state, *state.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    result = unprivileged("show")
    assert (result.code, result.id, result.last["source"]) == (0, identifier, "local")
    assert unprivileged("monitor", identifier).events == ["poll", "warning", "final"]


@pytest.mark.row(STATE_UNUSABLE)
def test_corrupt_state(run: Callable[..., Result], state: Path) -> None:
    """A corrupt state is kept under another name, and a new one is created."""
    state.mkdir()
    (state / FILE).write_bytes(b"this is not a database" * 100)
    result = run("submit", "--prompt", "x", *FAST)
    assert result.events[:3] == ["submit_start", "warning", "submitted"]
    assert (result.code, result.lines[1]["code"]) == (0, "state_corrupt")
    (aside,) = state.glob(f"{FILE}.corrupt-*")
    assert aside.read_bytes().startswith(b"this is not a database")
    assert run("show").code == 0


@pytest.mark.row(STATE_UNUSABLE)
def test_corrupt_state_and_a_job_key(
    run: Callable[..., Result], state: Path, sandbox: Sandbox
) -> None:
    """After a corrupt state, a job key is not sent again without --resubmit-unknown."""
    argv = (*KEYED, "--detach")
    run(*argv)
    (state / FILE).write_bytes(b"x" * 4096)
    for _ in range(2):
        result = run(*argv)
        assert (result.code, result.last["outcome"]) == (6, "unknown")
        assert f"{FILE}.corrupt-" in result.last["message"]
    assert len(sandbox.posts) == 1
    decided = run(*argv, "--resubmit-unknown")
    assert (decided.code, len(sandbox.posts)) == (0, 2)
    assert run(*argv).id == decided.id
    (aside,) = state.glob(f"{FILE}.corrupt-*")
    aside.unlink()
    assert run("submit", "--prompt", "x", "--job-key", "other", "--detach").code == 0


@pytest.mark.row(STATE_UNUSABLE)
def test_newer_state(run: Callable[..., Result], state: Path, sandbox: Sandbox) -> None:
    """A state from a newer version is never changed, and nothing is submitted."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    database = sqlite3.connect(state / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    before = (state / FILE).read_bytes()
    result = run("submit", "--prompt", "y")
    assert (result.code, result.last["code"]) == (2, "state_newer")
    assert len(sandbox.posts) == 1
    monitor = run("monitor", identifier, *FAST)
    assert (monitor.code, monitor.events[0]) == (0, "warning")
    assert (state / FILE).read_bytes() == before


@pytest.mark.row("Several processes use the same local state at once")
def test_many_processes(command: Command, sandbox: Sandbox, state: Path) -> None:
    """Sixteen processes share one state without warnings or lost jobs."""
    racers = [command.start("submit", "--prompt", f"{n}", *FAST) for n in range(16)]
    results = [command.end(racer) for racer in racers]
    assert [result.code for result in results] == [0] * 16
    assert "warning" not in [event for result in results for event in result.events]
    assert command.run("show", "--list").last["counts"] == {"completed": 16}
    audit(sandbox, state)


@pytest.mark.row("The computer's clock jumps")
def test_kept_results_and_a_jump_of_the_clock(command: Command, sandbox: Sandbox) -> None:
    """A result is still shown after runs with a clock that is a year ahead, or decades behind."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    ids: list[str] = []
    for years in (-50, 0, 1, 1, 0):
        shift = IoFault(mode="shifted", below="-", at=years * 366 * 86400)
        result = command.run("submit", "--prompt", f"{years} {len(ids)}", *FAST, fault=shift)
        assert int(result.last["ts"][:4]) - time.gmtime().tm_year in (years, years + 1)
        ids.append(result.id)
    requests = len(sandbox.requests)
    for one in ids:
        shown = command.run("show", one)
        assert (shown.code, shown.last["source"]) == (0, "local")
    assert len(sandbox.requests) == requests


@pytest.mark.row("An output file can be written, but not replaced")
@pytest.mark.parametrize(
    ("what", "fails"),
    [
        ("--output-text-file", "rename"),
        ("--output-text-file", "create"),
        ("--output-json-file", "rename"),
        ("--results-file", "create"),
    ],
)
def test_output_file_that_cannot_be_replaced(
    command: Command, sandbox: Sandbox, tmp_path: Path, what: str, fails: str
) -> None:
    """A mounted output file is written in place, with a warning; nothing else is left behind."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "o.csv"
    before = "old text " * 1000
    path.write_text("" if what == "--results-file" else before)
    inode = path.stat().st_ino
    below, error = (path, errno.EBUSY) if fails == "rename" else (folder / ".oaibg", errno.EROFS)
    fault = IoFault(mode="fail", below=str(below), at=1, count=1, error=error)
    if what == "--results-file":
        jobs = tmp_path / "jobs.csv"
        jobs.write_text("prompt\none\n")
        argv = ("submit", "--jobs-file", str(jobs), what, str(path), *FAST)
    else:
        argv = ("submit", "--prompt", "x", what, str(path), *FAST)
    result = command.run(*argv, fault=fault)
    warnings = [one for one in result.lines if one["event"] == "warning"]
    assert (result.code, [one["code"] for one in warnings]) == (0, ["written_in_place"])
    assert str(path) in warnings[0]["message"]
    text = path.read_text()
    assert path.stat().st_ino == inode
    assert "completed" in text or what == "--output-text-file"
    assert before not in text
    assert text.strip()
    assert {one.name for one in folder.iterdir()} <= {"o.csv", "o.csv.jsonl"}


@pytest.mark.row("An output file can be written, but not replaced")
def test_mounted_output_file(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """An output file that is a mount, as in a container, gets the answer."""
    script = 'mount --bind "$1" "$1" && shift && exec "$@"'
    unshare = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    path = tmp_path / "answer.md"
    path.write_text("an older and longer answer\n" * 100)
    probe = (*unshare, str(path), "true")
    unable = which("unshare") is None
    if unable or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    argv = ("submit", "--prompt", "x", "--output-text-file", str(path), *FAST)
    oaibg = (sys.executable, "-m", "oaibg")
    done = subprocess.run(
        [*unshare, str(path), *oaibg, *argv],
        check=False,
        env=command.environment,
        capture_output=True,
    )
    result = Result(done.returncode, done.stdout, done.stderr.decode())
    assert (result.code, result.events[-3:]) == (0, ["warning", "wrote_text", "final"])
    assert len(path.read_text()) == result.last["output_text_bytes"]
