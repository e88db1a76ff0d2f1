"""kill -9 before a step of a submit or at a random moment, and then the same command again."""

from __future__ import annotations

import json
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from forkserver import IoFault
from harness import await_line, some_of_each_kind, wait_until
from ledger import audit, count, rows_of, tally
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Command, Result, Running
    from oaibg.sandbox import Sandbox

TEXT = "The whole answer. " * 25
PARTS = 2
"""Tests that share the steps, so that they run in parallel."""


class Victim:
    """A submit with a job key that is killed and then run again."""

    def __init__(self, command: Command, sandbox: Sandbox, folder: Path) -> None:
        if not command.forks.injects:
            pytest.skip("needs Linux and a C compiler")
        self._command, self._sandbox = command, sandbox
        self.folder = folder
        self.state = folder / "state"
        self.answer = folder / "answer.md"
        self.argv: tuple[str, ...] = (
            *("submit", "--prompt", "x", "--job-key", "k", "--poll-seconds", "0.05"),
            *("--metadata", f"sandbox_text={TEXT}", "--metadata", "sandbox_seconds=0.01"),
            *("--output-text-file", str(self.answer)),
        )

    def fresh(self) -> None:
        """Delete the local state and clear the sandbox."""
        self._sandbox.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def start(self, fault: IoFault | None = None) -> Running:
        """Start the submit."""
        return self._command.start(*self.argv, fault=fault)

    def survive(self, process: Running) -> str | None:
        """Wait for the end of a killed run, run the command again, and check what is promised.

        Returns how far the job's local state had come, or None if the run was not killed in time.
        """
        out, _ = process.communicate(timeout=120)
        killed = process.returncode == -9
        assert killed or process.returncode == 0
        emitted = ids(out or b"")
        left = rows_of(self.state)
        step = left[0][0] if left else "nothing"
        if step not in ("sending", "submitted"):
            assert not self._sandbox.posts, "the state is written before the create is sent"
        assert not emitted or left == [("submitted", emitted[0])], "an ID is stored, then emitted"
        assert not self.answer.exists() or self.answer.read_text() == TEXT
        again = self._command.run(*self.argv)
        self._check(again, step, emitted)
        audit(self._sandbox, self.state)
        tally(self._sandbox)
        count("kills", killed)
        return step if killed else None

    def killed_before(self, at: int) -> str | None:
        """Kill a run before its step number `at`; returns what `survive` returns."""
        self.fresh()
        return self.survive(self.start(IoFault(mode="kill", below=str(self.folder), at=at)))

    def killed_at_random_moments(self, kills: int) -> None:
        """Kill runs at random moments; a run that ended before its kill is not counted."""
        self.fresh()
        began = time.monotonic()
        self.start().wait(120)
        duration = time.monotonic() - began
        while kills:
            self.fresh()
            process = self.start()
            time.sleep(random.random() * duration)
            process.kill()
            if self.survive(process) is None:
                duration *= 0.9  # the first run was slow, perhaps on a busy machine
            else:
                kills -= 1

    def _check(self, again: Result, step: str, emitted: list[str]) -> None:
        if step == "sending":
            assert (again.code, again.last["outcome"]) == (6, "unknown")
            assert len(self._sandbox.posts) <= 1
            return
        assert again.code == 0
        assert len(self._sandbox.posts) == 1
        assert again.lines[1]["reattached"] == (step == "submitted")
        assert again.id in self._sandbox.jobs
        assert emitted in ([], [again.id])
        assert self.answer.read_text() == TEXT


def ids(out: bytes) -> list[str]:
    """Return the response IDs in the complete lines of a killed run; each of them is JSON."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in out.split(b"\n")[:-1]]
    return list({line["response_id"]: 0 for line in lines if line["response_id"]})


@pytest.fixture
def victim(command: Command, sandbox: Sandbox, tmp_path: Path) -> Victim:
    """A submit with a directory for its local state and its output file."""
    folder = tmp_path / "run"
    command.environment["OAIBG_STATE_DIR"] = str(folder / "state")
    return Victim(command, sandbox, folder)


@pytest.mark.parametrize("part", range(PARTS))
def test_kill_9_before_steps_of_each_kind(victim: Victim, tmp_path: Path, part: int) -> None:
    """A submit that is killed before every second step of each kind is never sent twice."""
    log = tmp_path / "log"
    victim.fresh()
    fault = IoFault(mode="count", below=str(victim.folder), log=str(log))
    assert victim.start(fault).wait(120) == 0
    steps = log.read_text().splitlines()
    assert len(steps) > 100
    chosen = some_of_each_kind(steps, 2)[part::PARTS]
    seen = [victim.killed_before(at) for at in chosen]
    assert {"nothing", "intent", "sending", "submitted"} <= set(seen)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_kill_9_before_every_step(victim: Victim, part: int) -> None:
    """A submit that is killed before any of its steps is never sent twice."""
    at = part + 1
    while victim.killed_before(at) is not None:
        at += PARTS
    assert at > 100


@pytest.mark.parametrize(("options", "kills"), [((), 25), (("--stream-text",), 10)])
def test_kill_9_at_random_moments(victim: Victim, options: tuple[str, ...], kills: int) -> None:
    """A submit that is killed at a random moment is never sent twice."""
    victim.argv = (*victim.argv, *options)
    victim.killed_at_random_moments(kills)


@pytest.mark.soak
@pytest.mark.parametrize(("options", "kills"), [((), 500), (("--stream-text",), 100)])
def test_kill_9_at_many_random_moments(
    victim: Victim, options: tuple[str, ...], kills: int
) -> None:
    """A submit that is killed at a random moment is never sent twice."""
    victim.argv = (*victim.argv, *options)
    victim.killed_at_random_moments(kills)


@pytest.mark.parametrize("round_", range(4))
def test_some_racers_are_killed(
    victim: Victim, command: Command, sandbox: Sandbox, round_: int
) -> None:
    """Five processes submit one job key and three are killed: at most one create is sent."""
    victim.fresh()
    sandbox.script(Fault(on="create", kind="delay", seconds=0.05))
    racers = [victim.start() for _ in range(5)]
    for racer in racers[:3]:
        time.sleep(random.random() * 0.06)
        racer.kill()
    results = [command.end(racer) for racer in racers[3:]]
    for racer in racers[:3]:
        count("kills", racer.wait(120) == -9)
    assert len(sandbox.posts) <= 1
    codes = {result.code for result in results}
    assert codes in ({0}, {6})
    again = command.run(*victim.argv)
    assert {again.code} == codes
    assert {result.last["response_id"] for result in results} == {again.last["response_id"]}
    audit(sandbox, victim.state)
    tally(sandbox)


def test_kill_9_without_a_job_key(command: Command, sandbox: Sandbox, state: Path) -> None:
    """After a kill, `show` reports an unknown outcome, or the response ID if it was stored."""
    argv = ("submit", "--prompt", "x", "--metadata", "sandbox_seconds=600")
    sandbox.script(Fault(on="create", kind="hang_after"))
    process = command.start(*argv)
    wait_until(lambda: sandbox.jobs)
    process.kill()
    assert process.wait(60) == -9
    assert command.run("show").code == 6
    process = command.start(*argv, "--poll-seconds", "5")
    submitted, _ = await_line(process, "submitted")
    process.kill()
    shown = command.run("show")
    assert (shown.code, shown.id) == (3, submitted["response_id"])
    count("kills", 2)
    audit(sandbox, state, decided=1)
    tally(sandbox)
