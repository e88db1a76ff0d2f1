"""A streamed answer in human mode: it grows on the screen, stays there, and is there once."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import environment
from oaibg.contract.events import OutputTextDelta, Timeout
from oaibg.output.human import Human
from oaibg.output.human.streamed import Streamed
from oaibg.output.stdout import Stdout
from run_events import final, refused
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.contract.events import Event
    from oaibg.sandbox import Sandbox

LONG = 600
"""Seconds of a job whose time a test moves with `elapse`."""

TEXT = "\n\n".join(
    (
        "# Rivers",
        " ".join(f"alpha{number}" for number in range(20)),
        "- one **bold** item\n- `two` items",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        " ".join(f"omega{number}" for number in range(20)),
    )
)
SUBMIT = (
    *("submit", "--prompt", "x", "--human", "--stream-text", "--job-key", "k"),
    *("--metadata", f"sandbox_seconds={LONG}", "--metadata", f"sandbox_text={TEXT}"),
)


def elapse(sandbox: Sandbox, share: float) -> None:
    """Make this share of the time of the job pass."""
    for job in sandbox.jobs.values():
        job.created -= share * LONG


@pytest.fixture
def terminal(sandbox: Sandbox, state: Path) -> Callable[..., Terminal]:
    """Return a function that starts the command in a terminal, against the sandbox."""

    def start(*argv: str, stdout: int | None = None, **more: str) -> Terminal:
        settings = environment(sandbox.base_url, state) | more
        return Terminal(*argv, environment=settings, rows=40, stdout=stdout)

    return start


@pytest.mark.process
def test_blocks_appear_one_by_one(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """A block that is complete is printed and rendered; what follows it is in the live display."""
    with terminal(*SUBMIT) as screen:
        screen.wait_for(lambda text: "queued" in text)
        elapse(sandbox, 0.9)
        grown = screen.wait_for(lambda text: "\n  omega0" in text)
        assert re.search(r"\n\nRivers\n\nalpha0 alpha1 ", grown)
        assert "\n\n • one bold item\n • two items\n\na  b\n────\n1  2\n\n  omega0 " in grown
        assert re.search(r"\n\n\S k · in progress · \d+ s · writing the answer\n$", grown)
        elapse(sandbox, 0.1)
        assert screen.end() == 0
        whole = screen.text
    assert [whole.count(word) for word in ("Rivers", "alpha7", "bold", "a  b", "omega19")] == [
        1
    ] * 5
    assert "writing" not in whole
    assert re.search(r" omega19\n\nk completed after [^\n]+\ngpt-5\.2 · [^\n]+\n$", whole)


@pytest.mark.process
@pytest.mark.parametrize("dumb", [False, True], ids=["colors", "dumb"])
def test_text_stays_after_ctrl_c(
    terminal: Callable[..., Terminal], sandbox: Sandbox, dumb: bool
) -> None:
    """Ctrl-C leaves all of the text that has arrived, and an empty line before the message."""
    with terminal(*SUBMIT, **({"TERM": "dumb"} if dumb else {})) as screen:
        screen.wait_for(lambda text: "Submitted" in text)
        elapse(sandbox, 0.9)
        screen.wait_for(lambda text: ("| 1 | 2 |" if dumb else "\n  omega0") in text)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 130
        whole = screen.text
    assert [whole.count(word) for word in ("Rivers", "alpha7", "bold")] == [1] * 3
    message = r"\n\nInterrupted; k keeps running\.\nWait for it again: "
    assert re.search(message if dumb else rf"\n\nomega0[\s\w]*{message}", whole)
    assert "--starting-after" not in whole


@pytest.mark.process
def test_file_gets_the_text_after_ctrl_c(
    terminal: Callable[..., Terminal], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Ctrl-C leaves the text that has arrived in a file, too, unchanged."""
    path = tmp_path / "answer.md"
    with path.open("wb") as file, terminal(*SUBMIT, stdout=file.fileno()) as screen:
        screen.wait_for(lambda text: "Submitted" in text)
        elapse(sandbox, 0.9)
        screen.wait_for(lambda text: "  omega0" in text)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 130
        assert "omega0" not in screen.text
    text = path.read_text().removesuffix("\n")
    assert "omega0" in text
    assert TEXT.startswith(text)


@pytest.mark.parametrize("kind", ["timeout", "error", "failed"])
def test_text_stays_whatever_ends_the_wait(capfd: pytest.CaptureFixture[str], kind: str) -> None:
    """Text that was streamed is printed if the wait ends without an answer."""
    human = Human(Stdout())
    for delta in ("one\n\n", "tw"):
        human.write(OutputTextDelta(response_id="resp_1", delta=delta, sequence_number=1))
    ends: dict[str, Event] = {
        "timeout": Timeout(
            response_id="resp_1", status="queued", elapsed_seconds=1.0, exit_code=3, next=None
        ),
        "error": refused("x").but(exit_code=1),
        "failed": final("x", "failed", 4).but(exit_code=4),
    }
    human.write(ends[kind])
    assert capfd.readouterr().out == "one\n\ntw\n"


def test_pipe_gets_the_answer_once(run: Callable[..., Result]) -> None:
    """In a pipe, the streamed answer is the job's text, unchanged."""
    short = [word.replace(f"={LONG}", "=0.5") for word in SUBMIT]
    result = run(*short)
    assert (result.code, result.out.decode()) == (0, f"{TEXT}\n")


_WORDS = st.sampled_from(["a", "# b", "- c", "```", "\n", "\n\n", "1. d", "| e |\n|---|\n", "  "])


@given(st.lists(_WORDS), st.lists(_WORDS))
def test_no_text_is_lost_or_doubled(deltas: list[str], more: list[str]) -> None:
    """The blocks and the rest are the answer, however it arrives; so are interrupted parts."""
    streamed, interrupted, shown = Streamed(), Streamed(), ""
    for delta in deltas:
        streamed.add(delta)
        shown += streamed.take_blocks()
        interrupted.add(delta)
    answer = "".join(deltas + more)
    assert interrupted.take_blocks() + interrupted.take_rest() == "".join(deltas)
    assert shown + streamed.take_end(answer) == answer
    assert streamed.take_rest() == ""


def test_another_answer_is_printed_whole() -> None:
    """If the answer does not begin with the blocks that were printed, all of it is printed."""
    streamed = Streamed()
    streamed.add("one\n\ntwo\n\nthree")
    assert streamed.take_blocks() == "one\n\ntwo\n\n"
    assert streamed.take_end("other") == "other"


def test_json_is_not_cut() -> None:
    """An answer in JSON is printed unchanged at the end, not in blocks."""
    text = '{\n\n"a": 1,\n\n"b": [2]\n\n}\n'
    streamed = Streamed()
    for char in text:
        streamed.add(char)
        assert streamed.take_blocks() == ""
    assert streamed.take_end(text) == text
