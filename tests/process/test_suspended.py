"""A process that is suspended, as by a closed laptop, beyond its wait limit."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from harness import Command
    from oaibg.sandbox import Sandbox

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.mark.parametrize("kind", ["delay", "drip"])
def test_suspended_in_the_create(command: Command, sandbox: Sandbox, kind: str) -> None:
    """A reply that arrived meanwhile is read: its ID is reported and kept, although time is up."""
    sandbox.script(Fault(on="create", kind=kind, seconds=1.0 if kind == "delay" else 0.0002))
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_seconds=600")
    process = command.start(*argv, "--max-wait-seconds", "3")
    wait_until(lambda: sandbox.posts)
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    result = command.end(process)
    assert (result.code, result.last["event"]) == (3, "timeout")
    (job,) = sandbox.jobs
    assert result.last["response_id"] == job
    again = command.run("show", "k")
    assert (again.code, again.last["response_id"], len(sandbox.posts)) == (3, job, 1)
