"""Two processes with the same job key at the same time."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from harness import Command, wait_until
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process


def test_show_of_a_key_that_is_being_submitted(command: Command, sandbox: Sandbox) -> None:
    """`show` waits while another process submits the key's job, and then shows the job."""
    sandbox.script(Fault(on="create", kind="delay", seconds=2.0))
    process = command.start(
        "submit", "--prompt", "x", "--job-key", "k", "--detach", "--metadata", "sandbox_seconds=600"
    )
    wait_until(lambda: sandbox.posts)
    shown = command.run("show", "--job-key", "k")
    assert shown.code == 3
    assert shown.id == command.end(process).id


def test_a_key_at_another_base_url(command: Command, sandbox: Sandbox) -> None:
    """The same key at another base URL is a different key, even during a submit."""
    sandbox.script(Fault(on="create", kind="hang_after"))
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--detach")
    command.start(*argv)
    wait_until(lambda: sandbox.jobs)
    url = sandbox.base_url.replace("127.0.0.1", "localhost")
    other = command.run(*argv, env={"OPENAI_BASE_URL": url, "NO_PROXY": "localhost"})
    assert (other.code, len(sandbox.posts)) == (0, 2)


@pytest.mark.row("The process that submits the same job key is suspended")
def test_key_whose_process_is_suspended(command: Command, sandbox: Sandbox) -> None:
    """A second submit names the suspended process, and ends at its wait limit without a create."""
    sandbox.script(Fault(on="create", kind="delay", seconds=0.5))
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--poll-seconds", "0.05")
    first = command.start(*argv)
    wait_until(lambda: sandbox.posts)
    first.send_signal(signal.SIGSTOP)
    second = command.run(*argv, "--max-wait-seconds", "7")
    assert (second.code, second.last["code"]) == (7, "job_key_busy")
    assert second.last["outcome"] == "not_created"
    assert second.events == ["submit_start", "warning", "error"]
    assert f"PID {first.pid}" in second.lines[1]["message"]
    first.send_signal(signal.SIGCONT)
    assert command.run(*argv).id == command.end(first).id
    assert len(sandbox.posts) == 1
