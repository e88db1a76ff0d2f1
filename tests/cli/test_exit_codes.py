"""The exit codes in the help of a command are those that it can have: each of them is reached."""

from __future__ import annotations

import json
import os
import re
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from oaibg.cli.help import exit_codes
from oaibg.contract.errors import ExitCode
from oaibg.sandbox import Fault
from runs import FAST

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

COMMANDS = ("submit", "monitor", "cancel", "show")
LONG: tuple[str, ...] = ("--metadata", "sandbox_seconds=600")
SIGNALS = {129: signal.SIGHUP, 130: signal.SIGINT, 143: signal.SIGTERM}
REFUSED = {"error": {"message": "No.", "type": "invalid_request_error", "code": "no"}}
SUBMIT = ("submit", "x", "--job-key", "k", *FAST)
QUICK = (*FAST, "--max-wait-seconds", "0.5")
ENDED = ("--metadata", "sandbox_seconds=0")
OUTCOMES = {4: "failed", 10: "refusal"}
"""The outcome of a job whose end gives an exit code."""
REPORTED = [
    (name, int(code))
    for name in COMMANDS
    for code, _ in exit_codes(name)
    if int(code) <= ExitCode.NEEDS_ACTION and int(code) != ExitCode.LOCAL_IO
]
"""Each command with each of its codes, except for those of signals and of a stdout that fails."""


def documented(run: Callable[..., Result], name: str) -> dict[int, str]:
    """Return the exit codes in the help of a command, with their meanings."""
    text = run(name, "--help").out.decode().partition("\nExit codes:\n")[2].partition("\n\n")[0]
    rows = re.findall(r"(?m)^  (\d+) +(.+)$", text)
    return {int(code): meaning for code, meaning in rows}


@pytest.mark.parametrize(("name", "code"), REPORTED)
def test_codes_that_a_command_reports(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    instant_sleep: None,
    name: str,
    code: int,
) -> None:
    """A command can have each exit code that its help lists."""
    job = ENDED if code == ExitCode.OK and name != "cancel" else LONG
    if code in OUTCOMES:
        job = (*ENDED, "--metadata", f"sandbox_outcome={OUTCOMES[code]}")
    if code == ExitCode.OUTCOME_UNKNOWN:
        sandbox.script(Fault(on="create", kind="reset_after"))
        assert run(*SUBMIT, *job).code == code
        identifier = "k"
    elif code == ExitCode.NOT_FOUND:
        identifier = "resp_none"
        run(*SUBMIT, *job, "--detach")
        sandbox.jobs.clear()
    elif name != "submit":
        identifier = started(*job)
    for fault in faults(name, code, identifier if name == "cancel" else ""):
        sandbox.script(fault)
    if code == ExitCode.UNAVAILABLE:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    elif code == ExitCode.AUTH:
        monkeypatch.delenv("OPENAI_API_KEY")
    argv = (*SUBMIT, *job) if name == "submit" else (name, identifier)
    wait = QUICK if code == ExitCode.STILL_RUNNING and name in ("submit", "monitor") else ()
    wrong = ("--no-such-option",) if code == ExitCode.USAGE else ()
    assert run(*argv, *wait, *wrong).code == code


def faults(name: str, code: int, identifier: str) -> list[Fault]:
    """Return the faults with which a command ends with a code."""
    if code == ExitCode.ERROR:
        on = {"submit": "create", "cancel": "cancel"}.get(name, "retrieve")
        return [Fault(on=on, kind="status", status=400, body=REFUSED, times=0)]
    if code == ExitCode.STILL_RUNNING and name == "cancel":
        body = json.dumps({"id": identifier, "status": "in_progress"})
        return [Fault(on=on, kind="raw", body=body, times=0) for on in ("cancel", "retrieve")]
    return []


@pytest.mark.parametrize("name", COMMANDS)
def test_codes_of_signals_and_of_stdout(
    run: Callable[..., Result], command: Command, sandbox: Sandbox, name: str
) -> None:
    """A command can have the exit codes of signals, and of a stdout that is closed or full."""
    codes = documented(run, name)
    identifier = command.run("submit", "x", "--detach", *LONG).id
    argv = SUBMIT if name == "submit" else (name, identifier)
    for code in set(codes) & set(SIGNALS):
        sandbox.script(Fault(on="create", kind="delay", seconds=0.5, times=0))
        sandbox.script(Fault(on="retrieve", kind="hang_before", times=0))
        sandbox.script(Fault(on="cancel", kind="hang_before", times=0))
        arrived = partial(has_more_than, len(sandbox.requests), sandbox)
        process = command.start(*argv)
        wait_until(arrived)
        process.send_signal(SIGNALS[code])
        assert command.end(process).code == code
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full, open(writer, "wb", closefd=True) as closed:  # noqa: PTH123
        assert command.run(name, "--no-such-option", stdout=full).code == 9
        assert command.run(name, "--no-such-option", stdout=closed).code == 141
    assert set(codes) >= {9, 141, *SIGNALS}


def has_more_than(number: int, sandbox: Sandbox) -> bool:
    """Return whether the sandbox has received more than a number of requests."""
    return len(sandbox.requests) > number


def test_codes_that_a_command_never_has(
    run: Callable[..., Result], started: Callable[..., str]
) -> None:
    """A cancel of a job that waits for something reports that it ended: it never has 10."""
    assert set(ExitCode) - set(documented(run, "cancel")) == {ExitCode.NEEDS_ACTION}
    identifier = started(*ENDED, "--metadata", "sandbox_outcome=refusal")
    assert run("cancel", identifier).code == ExitCode.UNSUCCESSFUL
    for name in {*COMMANDS} - {"cancel"}:
        assert set(documented(run, name)) == set(ExitCode)


def test_meanings_fit_the_command(run: Callable[..., Result]) -> None:
    """The help of a command gives the meaning that a code has for it."""
    assert "cancelled" not in documented(run, "submit")[4]
    assert documented(run, "cancel")[0] == "the job is cancelled"
    assert documented(run, "show")[3] == "the job is queued or running"
    assert documented(run, "monitor")[3] == ExitCode.STILL_RUNNING.meaning
