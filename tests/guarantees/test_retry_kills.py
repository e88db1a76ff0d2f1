"""kill -9 before steps of a run with `--retry-failed`, and then the same command without it."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import some_of_each_kind
from ledger import audit, count, rows_of
from runs import FAST, BatchFiles, Files, age, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

ROW = pytest.mark.row("`kill -9` at any moment of a retry (`--retry-failed`)")
RETRY = "--retry-failed"
ONCE = {"sandbox_failures": "1", "sandbox_seconds": "0.01"}
"""Metadata of a job whose first attempt fails."""


class Victim:
    """A command whose jobs have failed, and that is killed while it retries them."""

    def __init__(
        self, command: Command, sandbox: Sandbox, folder: Path, argv: tuple[str, ...]
    ) -> None:
        if not command.forks.injects:
            pytest.skip("needs Linux and a C compiler")
        self._command, self._sandbox, self._folder, self._argv = command, sandbox, folder, argv
        self.state = folder / "state"
        command.environment["OAIBG_STATE_DIR"] = str(self.state)
        self.failed = command.run(*argv)
        self._before = shutil.copytree(folder, folder.with_name("before"))

    def fresh(self) -> None:
        """Restore the files as they were before the retry."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._before, self._folder)
        self._sandbox.requests.clear()

    def steps(self) -> list[str]:
        """Return the steps of a retry that is not killed."""
        self.fresh()
        log = self._folder.with_name("log")
        fault = IoFault(mode="count", below=str(self._folder), log=str(log))
        assert self._command.run(*self._argv, RETRY, fault=fault).code == 0
        return log.read_text().splitlines()

    def reruns(self, nth: int) -> Iterator[Result]:
        """Kill retries before every nth step of each kind; yield the rerun after each."""
        chosen = some_of_each_kind(self.steps(), nth)
        assert len(chosen) > 10
        for at in chosen:
            self.fresh()
            fault = IoFault(mode="kill", below=str(self._folder), at=at)
            process = self._command.start(*self._argv, RETRY, fault=fault)
            process.communicate(timeout=120)
            if process.returncode == -9:
                count("kills")
                yield self.run()

    def run(self, *options: str) -> Result:
        """Run the command."""
        return self._command.run(*self._argv, *options)


@ROW
def test_a_job_is_killed(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """A job is submitted at most once more; nothing is sent again if that may have happened."""
    folder = tmp_path / "run"
    folder.mkdir()
    options = ("--metadata", "sandbox_failures=1", "--metadata", "sandbox_seconds=0.01")
    argv = ("submit", "--prompt", "x", "--job-key", "k", *FAST, *options)
    victim = Victim(command, sandbox, folder, argv)
    seen: Counter[int] = Counter()
    for again in victim.reruns(4):
        posts = len(sandbox.posts)
        seen[again.code] += 1
        if again.code == 4:
            assert (posts, again.id) == (0, victim.failed.id)
            assert victim.run(RETRY).code == 0
        else:
            assert again.code in (0, 6)
            assert posts == 1 or (posts, again.code) == (0, 6)
        audit(sandbox, victim.state)
    assert {4, 0} <= seen.keys()


@ROW
def test_a_run_is_killed(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """Each failed or refused job of a run is submitted at most once more, all of them or none."""
    folder = tmp_path / "run"
    folder.mkdir()
    files = Files(folder)
    files.write(line("a", metadata=ONCE), line("b", metadata=ONCE), line("c", temperature="hot"))
    command.environment["OAIBG_STATE_DIR"] = str(folder / "state")
    assert command.run(*files.argv()).last["counts"] == {"failed": 2, "refused": 1}
    files.write(line("a", metadata=ONCE), line("b", metadata=ONCE), line("c"))
    victim = Victim(command, sandbox, folder, files.argv())
    seen: Counter[str] = Counter()
    for again in victim.reruns(12):
        posted = Counter(post.raw_body for post in sandbox.posts)
        assert set(posted.values()) <= {1}
        audit(sandbox, victim.state)
        if again.code == 2:  # the request of c has changed, and the retry had not begun
            assert not posted
            again = victim.run(RETRY)  # noqa: PLW2901
            seen["not begun"] += 1
        counts = dict(again.last["counts"])
        unknown = counts.pop("outcome_unknown", 0)
        assert (again.code, counts.get("completed", 0)) == (6 if unknown else 0, 3 - unknown)
        assert again.last["next"] is None
        seen["unknown" if unknown else "completed"] += 1
        done = victim.run("--resubmit-unknown")
        assert (done.code, done.last["counts"]) == (0, {"completed": 3})
        assert len(sandbox.posts) <= 3 + unknown
    assert {"not begun", "completed"} <= seen.keys()


@ROW
def test_a_batch_is_killed(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """The jobs of a batch are submitted in one more batch; it is found if its reply is lost."""
    folder = tmp_path / "run"
    folder.mkdir()
    files = BatchFiles(folder)
    files.write(line("a"), line("b"))
    command.environment["OAIBG_STATE_DIR"] = str(folder / "state")
    assert command.run(*files.argv("--detach")).code == 0
    (first,) = sandbox.batches.values()
    first.window = 0.0
    age(sandbox, 1)
    victim = Victim(command, sandbox, folder, files.argv())
    assert victim.failed.last["counts"] == {"expired": 2}
    seen: Counter[str] = Counter()
    for again in victim.reruns(12):
        sent = len(sandbox.batch_posts)
        if again.code == 4:
            assert (sent, again.last["counts"]) == (0, {"expired": 2})
            again = victim.run(RETRY)  # noqa: PLW2901
            seen["not begun"] += 1
        if again.code == 6:
            assert sent == 0, "the kill came before the request"
            assert rows_of(victim.state)[-1][0] == "sending"
            again = victim.run("--resubmit-unknown")  # noqa: PLW2901
        assert (again.code, again.last["counts"]) == (0, {"completed": 2})
        assert len(sandbox.batch_posts) == 1
        seen["completed"] += 1
    assert {"not begun", "completed"} <= seen.keys()
