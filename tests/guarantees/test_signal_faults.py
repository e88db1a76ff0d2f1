"""Signals while a command waits."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fault_runs import FAST, KEYED, LONG
from harness import await_line, parsed, wait_until
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from harness import Command
    from oaibg.sandbox import Sandbox

SIGNALS = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}
DURING_CREATE = "A signal while the create is in flight"


@pytest.mark.row("SIGHUP, SIGINT or SIGTERM while the command sleeps, polls or saves")
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("during", ["sleep", "poll", "save"])
def test_signal(
    command: Command, sandbox: Sandbox, tmp_path: Path, number: signal.Signals, during: str
) -> None:
    """A signal ends the wait at once, whatever the command is doing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # the test never reads from it
    outcome = ("--metadata", "sandbox_bytes=500000") if during == "save" else LONG
    identifier = command.run("submit", "--prompt", "x", "--detach", *outcome).id
    if during == "poll":
        sandbox.script(Fault(on="retrieve", kind="hang_before", times=0))
    interval = ("--poll-seconds", "60" if during == "sleep" else "0.2")
    process = command.start("monitor", identifier, *interval, "--output-text-file", str(pipe))
    if during == "poll":
        wait_until(lambda: len(sandbox.requests) > 1)
    else:
        status = "completed" if during == "save" else "queued"
        wait_until(lambda: sandbox.requests[-1].method == "GET" and sandbox.requests[-1].status)
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["status"] != status:
            pass
    if during == "save":
        assert select.select([reader], [], [], 60)[0], "the command writes, and the pipe is full"
    sent = time.monotonic()
    process.send_signal(number)
    result = command.end(process)
    assert time.monotonic() - sent < 1 + command.slack()
    assert (result.code, result.err) == (SIGNALS[number], "")
    last = parsed(result.out)[-1]
    assert last == last | {
        "event": "interrupted",
        "signal": number.name,
        "job_cancelled": False,
        "exit_code": SIGNALS[number],
        "response_id": identifier,
    }
    assert last["next"][-1] == identifier
    assert [one.path for one in sandbox.requests if one.method == "POST"] == ["/v1/responses"]
    os.close(reader)


@pytest.mark.skipif(sys.platform != "linux", reason="needs tgkill and /proc")
def test_signal_that_another_thread_receives(
    command: Command, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A signal ends the wait at once even if it doesn't interrupt the main thread."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    large = ("--metadata", "sandbox_bytes=500000")
    identifier = command.run("submit", "--prompt", "x", "--detach", *large).id
    process = command.start("monitor", identifier, *FAST, "--output-text-file", str(pipe))
    assert select.select([reader], [], [], 60)[0], "a thread writes, and the pipe is full"
    others = [int(one.name) for one in Path(f"/proc/{process.pid}/task").iterdir()]
    others.remove(process.pid)
    sent = time.monotonic()
    assert ctypes.CDLL(None).tgkill(process.pid, others[0], signal.SIGTERM) == 0
    assert command.end(process).code == 143
    assert time.monotonic() - sent < 1 + command.slack()
    os.close(reader)


@pytest.mark.row(DURING_CREATE)
def test_signal_before_the_reply(command: Command, sandbox: Sandbox) -> None:
    """After a signal, the reply to a create is still awaited and its ID reported."""
    sandbox.script(Fault(on="create", kind="delay", seconds=2.0))
    process = command.start(*KEYED, *LONG)
    wait_until(lambda: sandbox.posts)
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    (identifier,) = sandbox.jobs
    assert (result.code, result.id, result.last["outcome"]) == (130, identifier, "created")
    assert result.events == ["submit_start", "interrupted"]
    assert command.run(*KEYED, *LONG, "--detach").id == identifier
    assert len(sandbox.posts) == 1


@pytest.mark.row(DURING_CREATE)
@pytest.mark.parametrize("signals", [1, 2])
def test_signal_and_no_reply(command: Command, sandbox: Sandbox, signals: int) -> None:
    """A signal during a create without a reply: an unknown outcome, at once after a second one."""
    sandbox.script(Fault(on="create", kind="hang_after"))
    process = command.start(*KEYED)
    wait_until(lambda: sandbox.jobs)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    while signals == 2 and process.poll() is None:
        # Two signals count as one while the process has not handled the first.
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert time.monotonic() - sent < (5 if signals == 1 else 1) + command.slack()
    assert (result.code, result.last["outcome"]) == (143, "unknown")
    assert command.run(*KEYED).code == 6
    assert len(sandbox.posts) == 1


@pytest.mark.row("A signal with `--cancel-on-interrupt`")
@pytest.mark.parametrize(
    ("faults", "cancelled"),
    [
        ([], True),
        ([Fault(on="cancel", kind="raw", body="{}")], True),
        ([Fault(on="cancel", kind="reset_before"), Fault(on="cancel", kind="status")], True),
        ([Fault(on="cancel", kind="raw", body='{"status":"in_progress"}', times=0),
          Fault(on="retrieve", kind="raw", body='{"status":"in_progress"}', times=0)],
         False),
        ([Fault(on="cancel", kind="hang_before", times=0)], False),
        ([Fault(on="cancel", kind="status", status=409, times=0)], False),
    ],
)  # fmt: skip
def test_cancel_on_interrupt(
    command: Command, sandbox: Sandbox, faults: list[Fault], cancelled: bool
) -> None:
    """--cancel-on-interrupt cancels the job and reports whether that is confirmed."""
    process = command.start("submit", "--prompt", "x", "--cancel-on-interrupt", *LONG, *FAST)
    poll, read = await_line(process, "poll")
    sandbox.script(*faults)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert time.monotonic() - sent < 5 + command.slack()
    last = parsed(read + result.out)[-1]
    assert (result.code, last["job_cancelled"]) == (130, cancelled)
    if cancelled:
        assert last["next"] is None
    else:
        assert "monitor" in last["next"]
        assert last["next"][-1] == poll["response_id"]
