"""kill -9 at every step of a submit and at random moments, and the same command again each time."""

from __future__ import annotations

import json
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from forkserver import IoFault
from harness import await_line, wait_until
from ledger import audit, count, rows_of, tally
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Command, Result, Running
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

TEXT = "The whole answer. " * 25
PARTS = 6


class Victim:
    """A keyed submit that is killed, and then run again."""

    def __init__(self, command: Command, sandbox: Sandbox, folder: Path) -> None:
        if not command.forks.injects:
            pytest.skip("needs Linux and a C compiler")
        self._command, self._sandbox = command, sandbox
        self.folder = folder
        self.state = folder / "state"
        self.answer = folder / "answer.md"
        self.argv: tuple[str, ...] = (
            *("submit", "--prompt", "x", "--job-key", "k", "--poll-seconds", "0.02"),
            *("--metadata", f"sandbox_text={TEXT}", "--metadata", "sandbox_seconds=0.01"),
            *("--output-text-file", str(self.answer)),
        )

    def fresh(self) -> None:
        """Forget everything."""
        self._sandbox.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def start(self, fault: IoFault | None = None) -> Running:
        """Start it."""
        return self._command.start(*self.argv, fault=fault)

    def survive(self, process: Running) -> str | None:
        """Wait for a killed run's end and run the command again; gives the step it was killed at.

        None where it had ended by itself.
        """
        out, _ = process.communicate(timeout=30)
        killed = process.returncode == -9
        assert killed or process.returncode == 0
        told = ids(out or b"")
        left = rows_of(self.state)
        step = left[0][0] if left else "nothing"
        if step not in ("sending", "submitted"):
            assert not self._sandbox.posts, "the state is ahead of the wire"
        assert not told or left == [("submitted", told[0])], "stored before it is told"
        assert not self.answer.exists() or self.answer.read_text() == TEXT
        again = self._command.run(*self.argv)
        self._check(again, step, told)
        audit(self._sandbox, self.state)
        tally(self._sandbox)
        count("kills", killed)
        return step if killed else None

    def _check(self, again: Result, step: str, told: list[str]) -> None:
        if step == "sending":
            assert (again.code, again.last["outcome"]) == (6, "unknown")
            assert len(self._sandbox.posts) <= 1
            return
        assert again.code == 0
        assert len(self._sandbox.posts) == 1
        assert again.lines[1]["reattached"] == (step == "submitted")
        assert again.id in self._sandbox.jobs
        assert told in ([], [again.id])
        assert self.answer.read_text() == TEXT


def ids(out: bytes) -> list[str]:
    """The ids that whole lines of a killed run have told; every whole line is JSON."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in out.split(b"\n")[:-1]]
    return list({line["response_id"]: 0 for line in lines if line["response_id"]})


@pytest.fixture
def victim(command: Command, sandbox: Sandbox, tmp_path: Path) -> Victim:
    """A submit with its state and its output file in a folder of their own."""
    folder = tmp_path / "run"
    command.environment["OAIBG_STATE_DIR"] = str(folder / "state")
    return Victim(command, sandbox, folder)


@pytest.mark.parametrize("part", range(PARTS))
def test_kill_9_at_every_step(victim: Victim, part: int) -> None:
    """Before each step that leaves a trace: what the state knows decides, and it is never behind.

    Steps are changes of files, writes to stdout, and sends and receives. Each part takes every
    sixth step, up to the run that ends by itself.
    """
    seen: dict[str, int] = {}
    at = part + 1
    while True:
        victim.fresh()
        step = victim.survive(victim.start(IoFault(mode="kill", below=str(victim.folder), at=at)))
        if step is None:
            break
        seen[step] = seen.get(step, 0) + 1
        at += PARTS
    assert at > 100
    assert seen.keys() == {"nothing", "intent", "sending", "submitted"}


def test_kill_9_at_random_moments(victim: Victim) -> None:
    """Fifty moments of the run, whichever they are."""
    killed_at_random_moments(victim, 50)


def test_kill_9_at_random_moments_of_a_stream(victim: Victim) -> None:
    """As above."""
    victim.argv = (*victim.argv, "--stream-text")
    killed_at_random_moments(victim, 20)


@pytest.mark.soak
def test_kill_9_at_five_hundred_random_moments(victim: Victim) -> None:
    """As above."""
    killed_at_random_moments(victim, 500)


def killed_at_random_moments(victim: Victim, kills: int) -> None:
    """Kill runs until so many were killed; one that was faster than its killer doesn't count."""
    victim.fresh()
    begun = time.monotonic()
    victim.start().wait(30)
    whole = time.monotonic() - begun
    while kills:
        victim.fresh()
        process = victim.start()
        time.sleep(random.random() * whole * 0.9)
        process.kill()
        kills -= victim.survive(process) is not None


@pytest.mark.parametrize("round_", range(4))
def test_racers_of_whom_some_are_killed(
    victim: Victim, command: Command, sandbox: Sandbox, round_: int
) -> None:
    """Five processes submit one key, three of them are killed: one POST, or an unknown outcome."""
    victim.fresh()
    sandbox.script(Fault(on="create", kind="delay", seconds=0.05))
    racers = [victim.start() for _ in range(5)]
    for racer in racers[:3]:
        time.sleep(random.random() * 0.06)
        racer.kill()
    results = [command.end(racer) for racer in racers[3:]]
    for racer in racers[:3]:
        count("kills", racer.wait(30) == -9)
    assert len(sandbox.posts) <= 1
    codes = {result.code for result in results}
    assert codes in ({0}, {6})
    again = command.run(*victim.argv)
    assert {again.code} == codes
    assert {result.last["response_id"] for result in results} == {again.last["response_id"]}
    audit(sandbox, victim.state)
    tally(sandbox)


def test_kill_9_without_a_job_key(command: Command, sandbox: Sandbox, state: Path) -> None:
    """`show` tells what is known: an unknown outcome before the reply, else the id."""
    argv = ("submit", "--prompt", "x", "--metadata", "sandbox_seconds=600")
    sandbox.script(Fault(on="create", kind="hang_after"))
    process = command.start(*argv)
    wait_until(lambda: sandbox.jobs)
    process.kill()
    assert process.wait(10) == -9
    assert command.run("show").code == 6
    process = command.start(*argv, "--poll-seconds", "5")
    submitted, _ = await_line(process, "submitted")
    process.kill()
    shown = command.run("show")
    assert (shown.code, shown.id) == (3, submitted["response_id"])
    count("kills", 2)
    audit(sandbox, state, decided=1)
    tally(sandbox)
