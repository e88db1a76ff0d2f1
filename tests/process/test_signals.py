"""Signals at any moment: one closing line, its exit code, and no lost job."""

from __future__ import annotations

import signal
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from harness import Command, Result, await_line, parsed, wait_until
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

LONG = ("--metadata", "sandbox_seconds=600")
CODES = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


def test_signal_before_the_request(command: Command, sandbox: Sandbox) -> None:
    """A signal before the request is sent ends with `not_created`, and nothing is sent."""
    for _ in range(10):
        sandbox.clear()
        process = command.start("submit", "--prompt", "x", *LONG, fresh=True)
        _, read = await_line(process, "submit_start")
        process.send_signal(signal.SIGTERM)
        result = command.end(process)
        if not sandbox.posts:
            break  # otherwise, the request was faster than the signal
    last = parsed(read + result.out)[-1]
    assert (result.code, last["event"], last["outcome"]) == (143, "interrupted", "not_created")
    assert not sandbox.posts


@pytest.mark.parametrize("number", CODES)
def test_signal_while_importing(command: Command, number: signal.Signals) -> None:
    """A signal during the imports ends with an `interrupted` line and its exit code."""
    nowhere = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}  # a late signal finds no job either
    for delay in (0.05, 0.08, 0.12, 0.2):
        process = command.start("submit", "--prompt", "x", fresh=True, env=nowhere)
        time.sleep(delay)
        process.send_signal(number)
        result = command.end(process)
        if not result.out:
            continue  # the signal came before Python ran our code
        assert (result.code, result.last["event"]) == (CODES[number], "interrupted")
        assert result.last["outcome"] == "not_created"
        assert list(result.last)[-4:] == ["job_key", "hint", "exit_code", "next"]
        assert result.err == ""


def test_signals_around_the_end(command: Command) -> None:
    """With many signals near the end, one closing line has the exit code of the process."""
    for attempt in range(8):
        process = command.start("submit", "--prompt", "x", "--dry-run", fresh=True)
        assert process.stdout is not None
        read = process.stdout.readline() if attempt % 2 else b""
        time.sleep(0.1 if not attempt % 2 else 0)
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
        result = command.end(process)
        if read or result.out:
            assert Result(result.code, read + result.out, "").last["exit_code"] == result.code


def test_many_signals_while_waiting(command: Command) -> None:
    """Many signals in a row cause one closing line."""
    process = command.start("submit", "--prompt", "x", *LONG)
    _, read = await_line(process, "submitted")
    for _ in range(50):
        process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert Result(result.code, read + result.out, "").last["event"] == "interrupted"
    assert result.code == 143


def test_signal_while_the_id_is_being_stored(
    command: Command, sandbox: Sandbox, state: Path
) -> None:
    """A signal while the database is locked does not lose the ID: the job key finds the job."""
    sandbox.script(Fault(on="create", kind="delay", seconds=1.0))
    argv = ("submit", "--prompt", "x", "--job-key", "k", *LONG)
    process = command.start(*argv)
    wait_until(lambda: sandbox.posts)
    database = sqlite3.connect(state / "state.sqlite3", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    time.sleep(2)  # by now the reply is there, and the ID is waiting for the database
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # the process handles the signal while the database is locked
    database.execute("ROLLBACK")
    database.close()
    result = command.end(process)
    assert (result.code, result.last["outcome"]) == (143, "created")
    assert command.run(*argv, "--detach").id == result.id
    assert len(sandbox.posts) == 1


def test_refusal_after_a_signal(command: Command, sandbox: Sandbox) -> None:
    """If the API refuses the job after a signal, the run ends with `not_created` and no row."""
    sandbox.script(Fault(on="create", kind="delay", seconds=2.0))
    process = command.start("submit", "--prompt", "x", "--metadata", "sandbox_outcome=nonsense")
    wait_until(lambda: sandbox.posts)
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert (result.code, result.last["outcome"]) == (143, "not_created")
    assert command.run("show", "--list").last["counts"] == {}


def test_cancel_on_interrupt_before_the_first_reply(command: Command, sandbox: Sandbox) -> None:
    """`monitor --cancel-on-interrupt` cancels the job, even before the first reply."""
    identifier = command.run("submit", "--prompt", "x", "--detach", *LONG).id
    sandbox.script(Fault(on="retrieve", kind="delay", seconds=5, times=1))
    before = len(sandbox.requests)
    process = command.start("monitor", identifier, "--cancel-on-interrupt")
    wait_until(lambda: len(sandbox.requests) > before)
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert (result.code, result.last["job_cancelled"]) == (130, True)


def test_nohup_is_respected(command: Command, sandbox: Sandbox) -> None:
    """If SIGHUP was ignored at the start (nohup), it stays ignored."""
    process = command.start(
        *("submit", "--prompt", "x", "--metadata", "sandbox_seconds=1", "--poll-seconds", "0.2"),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    await_line(process, "submitted")
    process.send_signal(signal.SIGHUP)
    assert command.end(process).code == 0
