"""Job keys where file locks don't work: the state itself decides which process sends."""

from __future__ import annotations

import errno
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import Command, wait_until
from ledger import audit
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Running
    from oaibg.sandbox import Sandbox
    from runs import Files

    Start = Callable[..., Running]

pytestmark = [
    pytest.mark.process,
    pytest.mark.row("File locks don't work, or the lock files are removed"),
]
KEYED = ("submit", "--prompt", "x", "--poll-seconds", "0.05", "--job-key", "k")


@pytest.fixture
def unlocked(command: Command) -> Start:
    """Start a process in which `flock` does nothing."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    return lambda *argv: command.start(*argv, fault=IoFault(mode="unlocked", below="-"))


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_locks_that_are_refused(
    command: Command, sandbox: Sandbox, state: Path, error: int
) -> None:
    """Where the file system refuses locks, a job key can be used all the same."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    fault = IoFault(mode="unlocked", below="-", error=error)
    racers = [command.start(*KEYED, fault=fault) for _ in range(4)]
    assert [Command.end(racer).code for racer in racers] == [0] * 4
    assert command.run("show", "--job-key", "k", fault=fault).code == 0
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


@pytest.mark.parametrize("attempt", range(4))
def test_one_key_in_many_processes(
    unlocked: Start, sandbox: Sandbox, state: Path, attempt: int
) -> None:
    """Eight processes that submit one key at once send one create, and follow the same job."""
    racers = [unlocked(*KEYED, "--metadata", f"attempt={attempt}") for _ in range(8)]
    results = [Command.end(racer) for racer in racers]
    assert len(sandbox.posts) == 1
    assert [result.code for result in results] == [0] * 8
    assert {result.id for result in results} == set(sandbox.jobs)
    audit(sandbox, state)


def test_second_process_during_the_create(unlocked: Start, sandbox: Sandbox, state: Path) -> None:
    """A process that starts while another one waits for the create's reply waits for its ID."""
    sandbox.script(Fault(on="create", kind="delay", seconds=1.0))
    first = unlocked(*KEYED)
    wait_until(lambda: sandbox.posts)
    others = [unlocked(*KEYED), unlocked("show", "--job-key", "k")]
    ids = {Command.end(process).id for process in (first, *others)}
    assert ids == set(sandbox.jobs)
    audit(sandbox, state)


def test_lock_file_that_is_removed(command: Command, sandbox: Sandbox, state: Path) -> None:
    """If the files of the locks are removed during a create, a second process sends nothing."""
    sandbox.script(Fault(on="create", kind="delay", seconds=1.0))
    first = command.start(*KEYED)
    wait_until(lambda: sandbox.posts)
    shutil.rmtree(state / "locks")
    second = command.run(*KEYED)
    assert (second.code, second.id) == (0, command.end(first).id)
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


def test_killed_sender(unlocked: Start, command: Command, sandbox: Sandbox) -> None:
    """The outcome of a process that was killed during the create is unknown at once."""
    sandbox.script(Fault(on="create", kind="hang_after"))
    first = unlocked(*KEYED)
    wait_until(lambda: sandbox.jobs)
    first.kill()
    first.wait(60)
    began = time.monotonic()
    result = Command.end(unlocked(*KEYED))
    assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert time.monotonic() < began + 5 + command.slack()
    assert len(sandbox.posts) == 1


def test_one_run_in_two_processes(
    unlocked: Start, sandbox: Sandbox, state: Path, files: Files
) -> None:
    """Two processes that run one jobs file at once create each of its jobs once."""
    files.add(12)
    racers = [unlocked(*files.argv("--max-in-flight", "4")) for _ in range(2)]
    for racer in racers:
        assert Command.end(racer).code == 0
    assert len(sandbox.posts) == 12
    audit(sandbox, state)


def test_one_retry_in_several_processes(
    unlocked: Start, command: Command, sandbox: Sandbox
) -> None:
    """Processes that retry one failed job at once send one more create, and follow the same job."""
    outcome = ("--metadata", "sandbox_outcome=failed", "--metadata", "sandbox_seconds=3")
    assert command.run(*KEYED, *outcome).code == 4
    racers = [unlocked(*KEYED, *outcome, "--retry-failed") for _ in range(6)]
    results = [Command.end(racer) for racer in racers]
    assert [result.code for result in results] == [4] * 6
    assert len({result.id for result in results}) == 1
    assert len(sandbox.posts) == 2


def test_one_retry_of_a_run_in_two_processes(
    unlocked: Start, command: Command, sandbox: Sandbox, files: Files
) -> None:
    """Two processes that retry a run's failed jobs at once send one more create for each."""
    files.add(6, sandbox_outcome="failed", sandbox_seconds="2")
    assert command.run(*files.argv()).code == 4
    racers = [unlocked(*files.argv("--retry-failed")) for _ in range(2)]
    codes = {Command.end(racer).code for racer in racers}
    assert 4 in codes
    assert codes <= {4, 7}
    assert len(sandbox.posts) == 12


def test_a_run_and_a_create_in_flight(
    unlocked: Start, sandbox: Sandbox, state: Path, files: Files
) -> None:
    """--resubmit-unknown sends nothing again while another process still waits for its reply."""
    files.add(2)
    sandbox.script(Fault(on="create", kind="delay", seconds=2.0, times=2))
    first = unlocked(*files.argv())
    wait_until(lambda: len(sandbox.posts) == 2)
    second = unlocked(*files.argv("--resubmit-unknown"))
    assert [Command.end(process).code for process in (first, second)] == [0, 0]
    assert len(sandbox.posts) == 2
    audit(sandbox, state)
