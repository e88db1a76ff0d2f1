"""The state: what it keeps, and what happens where it can't."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from oaibg.store import DAY, FILE, Intent, StateBusyError, StateError, Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

URL = "http://api.test/v1"


def intent(**more: str) -> Intent:
    """An intent with a hash."""
    return Intent(base_url=URL, request_sha256="h", **more)


def test_steps_of_a_job(state: Path) -> None:
    """Intent, sending, submitted: each is there for another process at once."""
    store, other = Store(str(state)), Store(str(state))
    number = store.intent(intent(job_key="k", model="m"))
    assert list(other.jobs()) == []
    assert other.newest(URL) is None
    store.sending(number)
    assert [(row.step, row.response_id) for row in other.jobs()] == [("sending", None)]
    store.submitted(number, "resp_1", "queued")
    row = other.by_key(URL, "k")
    assert row is not None
    assert (row.step, row.response_id, row.status, row.model) == (
        "submitted",
        "resp_1",
        "queued",
        "m",
    )
    assert other.by_id(URL, "resp_1") == row == other.newest(URL)
    assert other.by_key("http://elsewhere/v1", "k") is None
    assert other.elsewhere("http://elsewhere/v1", "resp_1") == row
    store.close()
    other.close()


def test_results_are_kept_for_so_long(state: Path) -> None:
    """They go after `keep_days`, and their files with them; 0 keeps none."""
    time = 0.0
    store = Store(str(state), keep_days=2, now=lambda: time)
    store.seen(URL, "resp_1", "completed", "m")
    store.keep(URL, "resp_1", b"{ }")
    row = store.by_id(URL, "resp_1")
    assert row is not None
    assert store.result(row) == b"{ }"
    time = 2 * DAY + 1
    assert store.result(row) is None
    later = Store(str(state), keep_days=2, now=lambda: time)
    later.seen(URL, "resp_2", "completed", "m")
    later.keep(URL, "resp_2", b"2")
    assert [path.read_bytes() for path in (state / "results").iterdir()] == [b"2"]
    none = Store(str(state), keep_days=0, now=lambda: time)
    none.keep(URL, "resp_3", b"3")
    assert len(list((state / "results").iterdir())) == 1
    for opened in (store, later, none):
        opened.close()


def test_a_key_has_one_lock(state: Path) -> None:
    """The second waits; the lock ends with its holder."""
    store = Store(str(state))
    lock = store.lock(URL, "k")
    assert lock is not None
    assert store.lock(URL, "k") is None
    assert store.lock(URL, "other") is not None
    store.unlock(lock)
    again = store.lock(URL, "k")
    assert again is not None
    store.unlock(again)
    store.close()


def test_busy_is_told_apart(state: Path) -> None:
    """Another process that writes is no reason to give up."""
    store = Store(str(state))
    other = sqlite3.connect(state / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateBusyError):
        store.intent(intent())
    other.execute("ROLLBACK")
    other.close()
    store.intent(intent())
    store.close()


def test_corrupt_file_is_set_aside(run: Callable[..., Result], state: Path) -> None:
    """Kept under another name, told, and a new one begun."""
    state.mkdir()
    (state / FILE).write_bytes(b"this is no database, it is a text" * 100)
    result = run("submit", "--prompt", "x", "--poll-seconds", "0.03")
    assert result.events[:3] == ["submit_start", "warning", "submitted"]
    assert (result.code, result.lines[1]["code"]) == (0, "state_corrupt")
    (aside,) = state.glob(f"{FILE}.corrupt-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert run("show").code == 0


def test_corrupt_file_and_a_job_key(
    run: Callable[..., Result], state: Path, sandbox: Sandbox
) -> None:
    """The key's promise can't be kept, so that nothing is sent; the next run begins anew."""
    state.mkdir()
    (state / FILE).write_bytes(b"x" * 4096)
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--detach")
    result = run(*argv)
    assert (result.code, result.last["code"], result.last["outcome"]) == (
        2,
        "state_corrupt",
        "not_created",
    )
    assert not sandbox.posts
    assert run(*argv).code == 0


def test_newer_file_is_refused(run: Callable[..., Result], state: Path, sandbox: Sandbox) -> None:
    """Before the POST, and left as it is; monitoring an id goes on without it."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    database = sqlite3.connect(state / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    before = (state / FILE).read_bytes()
    result = run("submit", "--prompt", "y")
    assert (result.code, result.last["code"]) == (2, "state_newer")
    assert len(sandbox.posts) == 1
    monitored = run("monitor", identifier, "--poll-seconds", "0.03")
    assert (monitored.code, monitored.events[0]) == (0, "warning")
    assert (state / FILE).read_bytes() == before


@pytest.fixture
def unprivileged(command: Command) -> Callable[..., Result]:
    """Run the command as nobody: root may write everywhere."""
    if os.geteuid() != 0:
        return command.run
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root without setpriv can't drop its rights")

    def run_it(*argv: str) -> Result:
        done = subprocess.Popen(
            [
                *(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"),
                *(sys.executable, "-m", "oaibg", *argv),
            ],
            env=command.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return command.end(done)

    probe = run_it("--version")
    if probe.code:
        pytest.skip("this Python is not readable by other users")
    return run_it


def test_state_that_cannot_be_written(
    unprivileged: Callable[..., Result], command: Command, state: Path, sandbox: Sandbox
) -> None:
    """A warning that names OAIBG_STATE_DIR, and the run goes on; a job key ends it unsent."""
    state.mkdir()
    state.chmod(0o555)
    for folder in state.parents:
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    result = unprivileged("submit", "--prompt", "x", "--poll-seconds", "0.05")
    assert result.code == 0
    assert result.events[:3] == ["submit_start", "warning", "submitted"]
    assert result.lines[1]["code"] == "state_unwritable"
    assert "OAIBG_STATE_DIR" in result.lines[1]["message"]
    keyed = unprivileged("submit", "--prompt", "x", "--job-key", "k")
    assert (keyed.code, keyed.last["code"], len(sandbox.posts)) == (2, "state_unwritable", 1)


def test_reading_a_state_that_cannot_be_written(
    unprivileged: Callable[..., Result], command: Command, state: Path
) -> None:
    """What is known stays known in a read-only folder."""
    identifier = command.run("submit", "--prompt", "x", "--poll-seconds", "0.05").id
    for path in (state, *state.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for folder in state.parents:
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    result = unprivileged("show")
    assert (result.code, result.id, result.last["source"]) == (0, identifier, "local")
    monitored = unprivileged("monitor", identifier)
    assert monitored.events == ["poll", "warning", "final"]


def test_store_of_this_process_alone() -> None:
    """Where the folder can't be had, a run has a state of its own, without locks and results."""
    store, problem = open_store("/proc/no/such")
    assert problem is not None
    assert problem.code == "state_unwritable"
    store.sending(store.intent(intent()))
    assert [row.step for row in store.jobs()] == ["sending"]
    with pytest.raises(StateError):
        store.lock(URL, "k")
    store.close()
