"""What a person reads who does not know oaibg yet: first steps, wrong addresses, plain words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness import environment
from oaibg.contract.advice import ASK_FOR_NETWORK, for_people
from oaibg.sandbox import Fault
from runs import FAST, line
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox
    from runs import Files


@pytest.fixture
def terminal(sandbox: Sandbox, state: Path) -> Callable[..., Terminal]:
    """Return a function that starts the command in a terminal, against the sandbox."""

    def start(*argv: str, columns: int = 1000, **more: str) -> Terminal:
        settings = environment(sandbox.base_url, state) | more
        return Terminal(*argv, environment=settings, columns=columns, rows=40)

    return start


def test_empty_list(run: Callable[..., Result], state: Path) -> None:
    """An empty list is one line that says how to begin; it is not a warning."""
    result = run("show", "--list", "--human")
    begin = f'There are no jobs yet in {state}. To submit the first one: `oaibg submit "PROMPT"`.\n'
    assert (result.out, result.err) == (b"", begin)


def test_nothing_matches(run: Callable[..., Result], state: Path) -> None:
    """A list without matches is one line that says what was looked for."""
    run("submit", "x", "--detach")
    result = run("show", "--list", "--status", "failed", "--human")
    assert result.err == f"No job in the local state in {state} has the status 'failed'.\n"


@pytest.mark.parametrize("command", ["show", "monitor"])
def test_no_newest_job(run: Callable[..., Result], command: str) -> None:
    """Without any job, the error of a command for the newest one says how to begin."""
    error = run(command, "--human").err
    assert error.startswith("Error: There are no jobs for http://127.0.0.1:")
    assert 'To submit the first one: `oaibg submit "PROMPT"`.' in error
    assert "OAIBG_STATE_DIR" not in error


def test_list_of_jobs_that_had_not_ended(run: Callable[..., Result]) -> None:
    """Below a list with running jobs is how to update them, which updates the list."""
    one = run("submit", "x", "--detach", "--job-key", "k", "--metadata", "sandbox_seconds=0").id
    note = "Queued and running jobs are as last seen; oaibg monitor KEY updates them.\n"
    assert run("show", "--list", "--human").err == f"1 queued\n{note}"
    assert run("monitor", "k", *FAST).id == one
    assert run("show", "--list", "--human").err == "1 completed\n"


def test_rerun_of_a_run_that_has_ended(run: Callable[..., Result], files: Files) -> None:
    """A rerun of a run whose jobs have all ended says that nothing was submitted."""
    files.write(line("a"), line("b"))
    first = run(*files.argv("--human"))
    assert re.search(r"\n2 completed\. This command took [\d.]+ s\.\n", first.err)
    again = run(*files.argv("--human"))
    begin = "All jobs had already ended; nothing was submitted.\n2 completed\n"
    assert begin in again.err
    assert "already ended" not in first.err


def test_which_job_is_followed(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`monitor` of a running job says which one it follows, once."""
    one = run("submit", "x", "--detach", "--job-key", "k", "--metadata", "sandbox_seconds=0.5").id
    shown = run("monitor", "--human", *FAST).err
    assert shown.startswith(f"Following k  {one}\n")
    assert shown.count("Following") == 1
    assert "Following" not in run("monitor", "--human", *FAST).err
    assert "Following" not in run("submit", "x", "--human", *FAST).err
    sandbox.script(Fault(on="retrieve", kind="status", status=500))
    two = run("submit", "x", "--detach", "--metadata", "sandbox_seconds=2").id
    assert f"\nFollowing {two}\n" in run("monitor", "--human", *FAST).err


def test_server_that_does_not_answer(
    run: Callable[..., Result],
    sandbox: Sandbox,
    instant_sleep: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the second failure to reach the server, one line says what to check.

    It does not once the server has answered: then the address is right.
    """
    check = "Check the network and OPENAI_BASE_URL: 127.0.0.1:"
    sandbox.script(Fault(on="retrieve", kind="reset_before", times=3))
    one = run("submit", "x", "--detach").id
    lines = run("monitor", one, "--human", *FAST).err.splitlines()
    assert [one.startswith(check) for one in lines[:4]] == [False, False, True, False]
    sandbox.script(Fault(on="retrieve", kind="reset_before", times=3, after=1))
    assert check not in run("submit", "x", "--human", *FAST).err
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    shown = run("submit", "x", "--human", "--max-wait-seconds", "30").err
    assert shown.count(f"{check}9 does not answer.\n") == 1


def test_words_for_agents() -> None:
    """People don't read what only helps agents, nor the codes of Python and the system."""
    lost = f"[Errno 104] Connection reset by peer (ReadError). {ASK_FOR_NETWORK}"
    assert for_people(lost) == "Connection reset by peer."
    assert for_people("Ask the person who pays (or me).") == "Ask the person who pays (or me)."


@pytest.mark.process
def test_hints_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    """On a terminal, a usage error has no hint that only repeats it; in JSON, it has one."""
    for human in ([], ["--human"]):
        with terminal("submit", "", *human) as screen:
            assert screen.end() == 2
            assert screen.text == "Error: The prompt is empty.\n"


@pytest.mark.process
def test_raw_text_ends_its_line(
    run: Callable[..., Result], terminal: Callable[..., Terminal]
) -> None:
    """`show --output-text` ends the last line on a terminal; a pipe gets the same bytes."""
    run("submit", "x", "--metadata", "sandbox_text=abc", *FAST)
    assert run("show", "--output-text").out == b"abc"
    with terminal("show", "--output-text") as screen:
        assert screen.end() == 0
        assert screen.written == b"abc\r\n"


@pytest.mark.process
def test_long_values_of_a_page(
    run: Callable[..., Result], terminal: Callable[..., Terminal]
) -> None:
    """A long value is folded between words, below its first line."""
    run("submit", "x", "--metadata", "sandbox_outcome=failed", *FAST)
    with terminal("show", "--human", columns=40) as screen:
        assert screen.end() == 4
        rows = [row for row in screen.lines if not row.startswith("resp_")]
    at = next(number for number, row in enumerate(rows) if row.startswith("  Reason"))
    assert rows[at + 1].startswith(" " * 17)
    words = " ".join(row[17:] for row in rows[at : at + 3])
    assert "The model failed to generate a response." in words


@pytest.mark.process
def test_commands_with_the_variable(terminal: Callable[..., Terminal]) -> None:
    """With OAIBG_HUMAN=1, the command to run next has no --human."""
    with terminal("submit", "x", "--detach", OAIBG_HUMAN="1") as screen:
        assert screen.end() == 0
        assert re.search(r"\nWait for it: \S+( -m oaibg)? monitor resp_\w+\n", screen.text)


@pytest.mark.process
def test_words_of_an_interrupt(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """After Ctrl-C, human mode does not name the signal."""
    with terminal("submit", "x", "--human", "--metadata", "sandbox_seconds=60") as screen:
        screen.wait_for(lambda text: "next poll" in text)
        screen.process.send_signal(2)
        assert screen.end() == 130
        assert "Interrupted; the job keeps running.\n" in screen.text


def test_listed_job_without_an_id(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """In a list, a job of unknown outcome without a key has words in place of its ID."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    assert run("submit", "x").code == 6
    listed = run("show", "--list", "--human").out.decode()
    assert re.search(r"\n\(no ID\) +outcome unknown +", listed)
