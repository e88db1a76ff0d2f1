"""The Nth write or sync of the state, of an output file or of stdout fails: nothing is lost."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from ledger import audit, count, rows_of, tally
from oaibg.state.database import FILE

if TYPE_CHECKING:
    from harness import Command, Result
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

FOR_EVER = 1 << 30
FAULTS = [
    ("fail", errno.ENOSPC, FOR_EVER),  # a disk that is full from now on
    ("short", errno.ENOSPC, FOR_EVER),  # likewise, with half a write first
    ("fail", errno.EIO, 1),  # a disk that fails once
    ("fail", errno.EROFS, FOR_EVER),  # a file system that becomes read-only
]
PARTS = 4
FAST = ("--poll-seconds", "0.02", "--metadata", "sandbox_seconds=0.01")


@pytest.fixture
def faulty(command: Command) -> Command:
    """The command, where processes can be given an I/O fault."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    return command


def fault_at(at: int, kind: int, folder: Path, log: Path) -> IoFault:
    """The fault of a kind from a step on, of files in a folder."""
    mode, error, times = FAULTS[kind % len(FAULTS)]
    log.unlink(missing_ok=True)
    return IoFault(mode=mode, below=str(folder), at=at, count=times, error=error, log=str(log))


def struck(fault: IoFault) -> bool:
    """Whether a run came as far as the step that failed."""
    steps = len(Path(str(fault.log)).read_text().splitlines())
    count("io_faults", min(max(steps - fault.at + 1, 0), fault.count))
    return steps >= fault.at


def test_the_disk_has_it_first(faulty: Command, tmp_path: Path, state: Path) -> None:
    """A power cut loses nothing: what the state says is synced before it is done, or told."""
    log = tmp_path / "log"
    fault = IoFault(mode="count", below=str(state), log=str(log))
    assert faulty.run("submit", "--prompt", "x", "--detach", fault=fault).code == 0
    steps = log.read_text().splitlines()
    told = [number for number, step in enumerate(steps) if step == "write stdout"]
    database = state / FILE
    for place in (steps.index("send socket"), told[1]):
        assert steps[place - 3 : place] == [
            f"sync {database}",
            f"unlink {database}-journal",
            f"sync {state}",
        ]


@pytest.mark.parametrize("part", range(PARTS))
def test_state_that_fails(faulty: Command, sandbox: Sandbox, tmp_path: Path, part: int) -> None:
    """A job key's submit ends unsent, or its job is never submitted again.

    Each part takes every fourth step, with one of the kinds of fault in turn.
    """
    steps = range(part, FOR_EVER, PARTS)
    every_step_of_the_state(faulty, sandbox, tmp_path, ("--job-key", "k"), steps, part)


def test_state_that_fails_without_a_job_key(
    faulty: Command, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The run goes on, and says what the state could not take; every third step will do."""
    every_step_of_the_state(faulty, sandbox, tmp_path, (), range(0, FOR_EVER, 3), 0)


@pytest.mark.soak
@pytest.mark.parametrize("key", [("--job-key", "k"), ()], ids=["job key", "no key"])
@pytest.mark.parametrize("kind", range(len(FAULTS)))
def test_state_that_fails_in_every_way(
    faulty: Command, sandbox: Sandbox, tmp_path: Path, kind: int, key: tuple[str, ...]
) -> None:
    """As above, each kind of fault at each step."""
    every_step_of_the_state(faulty, sandbox, tmp_path, key, range(FOR_EVER), None, kind)


def every_step_of_the_state(
    command: Command,
    sandbox: Sandbox,
    folder: Path,
    key: tuple[str, ...],
    steps: range,
    turn: int | None,
    kind: int = 0,
) -> None:
    """Run a submit over and over, with a fault at one step each time."""
    state, log = folder / "state", folder / "log"
    argv = ("submit", "--prompt", "x", *key, *FAST)
    for number in steps:
        sandbox.clear()
        shutil.rmtree(state, ignore_errors=True)
        if turn is not None:
            kind = number // PARTS + turn
        fault = fault_at(number + 1, kind, state, log)
        result = command.run(*argv, fault=fault)
        if not struck(fault):
            assert result.code == 0
            assert number > 60
            return
        if key:
            check_keyed(result, command.run(*argv), sandbox, state)
        else:
            check_unkeyed(result, sandbox, state)
        tally(sandbox)


def check_keyed(first: Result, again: Result, sandbox: Sandbox, state: Path) -> None:
    """What a job key promises, also on a disk that fails."""
    assert len(sandbox.posts) <= 1
    if first.code == 0:
        assert again.last["response_id"] in (first.id, None)
        assert again.code == (6 if again.last["response_id"] is None else 0)
        if again.code == 6:
            assert "state_unwritable" in [line.get("code") for line in first.lines]
    else:
        assert (first.code, first.last["outcome"]) == (2, "not_created")
        assert first.last["code"] in ("state_unwritable", "state_corrupt")
        said = "the key may look used" in first.last["message"]
        assert again.code in ((0, 6) if said else (0,)), "nothing was sent: the key is free"
    audit(sandbox, state)


def check_unkeyed(result: Result, sandbox: Sandbox, state: Path) -> None:
    """Without a key the run goes on, and says what the state could not take."""
    assert result.code == 0
    assert len(sandbox.posts) == 1
    assert result.id in sandbox.jobs
    assert "warning" in result.events or rows_of(state) == [("submitted", result.id)]


@pytest.mark.parametrize("kind", range(len(FAULTS)))
def test_output_files_that_fail(
    faulty: Command, sandbox: Sandbox, tmp_path: Path, kind: int
) -> None:
    """Exit 9, each file is the old or the new one, nothing else is left, and `next` mends it."""
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
    for at in range(1, 99):
        for path, content in files.items():
            path.write_bytes(content)
        fault = fault_at(at, kind, folder, log)
        result = faulty.run(*argv, *outputs, fault=fault)
        if not struck(fault):
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
    """A quiet end; what was submitted is in the state, and the same command goes on with it."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", *FAST)
    fault = IoFault(mode="fail", below="-", at=at, count=FOR_EVER, error=error)
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
