"""The Nth write or sync of the local state, of an output file or of stdout fails."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import some_of_each_kind
from ledger import audit, count, rows_of, tally
from oaibg.state.database import FILE

if TYPE_CHECKING:
    from harness import Command, Result
    from oaibg.sandbox import Sandbox

FOREVER = 1 << 30
FAULTS = [
    ("fail", errno.ENOSPC, FOREVER),  # a disk that stays full
    ("short", errno.ENOSPC, FOREVER),  # a disk that stays full, after half a write
    ("fail", errno.EIO, 1),  # a disk that fails once
    ("fail", errno.EROFS, FOREVER),  # a file system that becomes read-only
]
PARTS = 2
"""Tests that share the steps, so that they run in parallel."""
KEY = ("--job-key", "k")
FAST = ("--poll-seconds", "0.05", "--metadata", "sandbox_seconds=0.01")


@pytest.fixture
def faulty(command: Command) -> Command:
    """The command, on a machine that can inject I/O faults."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    return command


def fault_at(at: int, kind: int, folder: Path, log: Path) -> IoFault:
    """Return a fault of a kind that affects the files in a directory from a step on."""
    mode, error, times = FAULTS[kind % len(FAULTS)]
    log.unlink(missing_ok=True)
    return IoFault(mode=mode, below=str(folder), at=at, count=times, error=error, log=str(log))


def occurred(fault: IoFault) -> bool:
    """Return whether a run reached the step that fails; count the faults."""
    steps = len(Path(str(fault.log)).read_text().splitlines())
    count("io_faults", min(max(steps - fault.at + 1, 0), fault.count))
    return steps >= fault.at


def test_commits_are_synced_first(faulty: Command, tmp_path: Path, state: Path) -> None:
    """A power cut loses nothing: a commit is synced before its create is sent or its ID emitted."""
    log = tmp_path / "log"
    fault = IoFault(mode="count", below=str(state), log=str(log))
    assert faulty.run("submit", "--prompt", "x", "--detach", fault=fault).code == 0
    steps = log.read_text().splitlines()
    lines = [number for number, step in enumerate(steps) if step == "write stdout"]
    database = state / FILE
    for place in (steps.index("send socket"), lines[1]):
        assert steps[place - 3 : place] == [
            f"sync {database}",
            f"unlink {database}-journal",
            f"sync {state}",
        ]


@pytest.mark.parametrize("part", range(PARTS))
def test_state_that_fails(faulty: Command, sandbox: Sandbox, tmp_path: Path, part: int) -> None:
    """With a job key, a failing state means that nothing is sent, or nothing is sent again.

    Every second step of each kind fails, with the kinds of faults in turn.
    """
    chosen = some_of_each_kind(steps_of_the_state(faulty, tmp_path, KEY), 2)[part::PARTS]
    failed = [
        the_state_fails(faulty, sandbox, tmp_path, KEY, at, turn + turn // len(FAULTS))
        for turn, at in enumerate(chosen)
    ]
    assert sum(failed) > 12


def test_state_that_fails_without_a_job_key(
    faulty: Command, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Without a job key, the run continues, and reports that the state failed."""
    chosen = some_of_each_kind(steps_of_the_state(faulty, tmp_path, ()), 4)
    failed = [
        the_state_fails(faulty, sandbox, tmp_path, (), at, turn) for turn, at in enumerate(chosen)
    ]
    assert sum(failed) > 12


@pytest.mark.soak
@pytest.mark.parametrize("key", [KEY, ()], ids=["job key", "no key"])
@pytest.mark.parametrize("kind", range(len(FAULTS)))
def test_state_that_fails_in_every_way(
    faulty: Command, sandbox: Sandbox, tmp_path: Path, kind: int, key: tuple[str, ...]
) -> None:
    """Each step of the state fails with each kind of fault."""
    at = 1
    while the_state_fails(faulty, sandbox, tmp_path, key, at, kind):
        at += 1
    assert at > 60


def steps_of_the_state(command: Command, folder: Path, key: tuple[str, ...]) -> list[str]:
    """Return the steps with which a submit changes the files of its local state."""
    state, log = folder / "state", folder / "log"
    fault = IoFault(mode="count", below=str(state), log=str(log))
    assert command.run("submit", "--prompt", "x", *key, *FAST, fault=fault).code == 0
    steps = [step for step in log.read_text().splitlines() if f" {state}" in step]
    assert len(steps) > 60
    return steps


def the_state_fails(
    command: Command, sandbox: Sandbox, folder: Path, key: tuple[str, ...], at: int, kind: int
) -> bool:
    """Run a submit with a fault at one step of its state; returns False if it has fewer steps."""
    state, log = folder / "state", folder / "log"
    argv = ("submit", "--prompt", "x", *key, *FAST)
    sandbox.clear()
    shutil.rmtree(state, ignore_errors=True)
    fault = fault_at(at, kind, state, log)
    result = command.run(*argv, fault=fault)
    if not occurred(fault):
        assert result.code == 0
        return False
    if key:
        check_keyed(result, command.run(*argv), sandbox, state)
    else:
        check_unkeyed(result, sandbox, state)
    tally(sandbox)
    return True


def check_keyed(first: Result, again: Result, sandbox: Sandbox, state: Path) -> None:
    """Check the promises of a job key on a disk that fails."""
    assert len(sandbox.posts) <= 1
    if first.code == 0:
        assert again.last["response_id"] in (first.id, None)
        assert again.code == (6 if again.last["response_id"] is None else 0)
        if again.code == 6:
            assert "state_unwritable" in [line.get("code") for line in first.lines]
    else:
        assert (first.code, first.last["outcome"]) == (2, "not_created")
        assert first.last["code"] in ("state_unwritable", "state_corrupt")
        warned = "a rerun may end with exit 6" in first.last["message"]
        assert again.code in ((0, 6) if warned else (0,)), "nothing was sent: the job key is free"
    audit(sandbox, state)


def check_unkeyed(result: Result, sandbox: Sandbox, state: Path) -> None:
    """Check that a run without a job key continues, and reports if the state failed."""
    assert result.code == 0
    assert len(sandbox.posts) == 1
    assert result.id in sandbox.jobs
    assert "warning" in result.events or rows_of(state) == [("submitted", result.id)]


@pytest.mark.parametrize("kind", range(len(FAULTS)))
def test_output_files_that_fail(
    faulty: Command, sandbox: Sandbox, tmp_path: Path, kind: int
) -> None:
    """A failing disk leaves each output file old or new, gives exit 9, and `next` saves it.

    Each kind of fault takes every second step, so two kinds of faults affect each step.
    """
    output_files_fail(faulty, sandbox, tmp_path, kind, range(1 + kind % 2, 99, 2))


@pytest.mark.soak
@pytest.mark.parametrize("kind", range(len(FAULTS)))
def test_output_files_that_fail_at_every_step(
    faulty: Command, sandbox: Sandbox, tmp_path: Path, kind: int
) -> None:
    """Each step of the output files fails with each kind of fault."""
    output_files_fail(faulty, sandbox, tmp_path, kind, range(1, 99))


def output_files_fail(
    faulty: Command, sandbox: Sandbox, tmp_path: Path, kind: int, steps: range
) -> None:
    """Run a submit with a fault at each of the steps of its output files."""
    folder, log = tmp_path / "out", tmp_path / "log"
    folder.mkdir()
    files = {folder / "a.json": b"old", folder / "a.md": b"old"}
    argv = ("submit", "--prompt", "x", *FAST)
    outputs = (
        "--output-json-file",
        str(folder / "a.json"),
        "--output-text-file",
        str(folder / "a.md"),
    )
    for at in steps:
        for path, content in files.items():
            path.write_bytes(content)
        fault = fault_at(at, kind, folder, log)
        result = faulty.run(*argv, *outputs, fault=fault)
        if not occurred(fault):
            break
        (identifier,) = [key for key in sandbox.jobs if key == result.id]
        codes = [line["code"] for line in result.lines if line["event"] == "warning"]
        written = [line["path"] for line in result.lines if line["event"].startswith("wrote_")]
        assert (result.code == 9) == ("write_failed" in codes) == bool(codes)
        for path in files:
            whole = (
                path.read_bytes() == b"old"
                if str(path) not in written
                else b"old" not in path.read_bytes()
            )
            assert whole, path
        left = {path for path in folder.iterdir() if path not in files}
        if FAULTS[kind][2] == 1:
            assert not left
        for path in left:
            path.unlink()
        if result.code == 9:
            command = result.last["next"]
            assert faulty.run(*command[command.index("show") :]).code == 0
        assert json.loads((folder / "a.json").read_bytes())["id"] == identifier
    assert at > 10


@pytest.mark.parametrize(("error", "code"), [(errno.ENOSPC, 9), (errno.EPIPE, 141)])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_stdout_that_fails_at_a_line(
    faulty: Command, sandbox: Sandbox, state: Path, at: int, error: int, code: int
) -> None:
    """A failing stdout ends the run without a message; the same command continues with its job."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", *FAST)
    fault = IoFault(mode="fail", below="-", at=at, count=FOREVER, error=error)
    process = faulty.start(*argv, fault=fault)
    out, err = process.communicate()
    assert (process.returncode, err) == (code, b"")
    assert len((out or b"").splitlines()) == at - 1
    assert len(sandbox.posts) == len(rows_of(state)) == (at > 1)
    again = faulty.run(*argv)
    assert (again.code, len(sandbox.posts)) == (0, 1)
    assert again.lines[1]["reattached"] == (at > 1)
    audit(sandbox, state)
    count("io_faults")
