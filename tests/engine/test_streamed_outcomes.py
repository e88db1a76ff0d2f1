"""Streams of every outcome of the sandbox, also if their ends or deltas are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oaibg.api.answer import Answer
from oaibg.sandbox import Fault
from oaibg.sandbox.job.metadata import OUTCOMES
from stream_runs import TEXT, retrieves, steps, stream_events, streamed_text, warning_codes

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

ENDING = sorted(OUTCOMES.keys() - {"stuck"})
WORDS = {
    "function_call": ["calling get_weather"],
    "custom_tool_call": ["calling run_code"],
    "approval": ["waiting for approval: delete_file"],
    "refusal": ["writing the answer", f"refused: {TEXT}"],
    "image": ["generating an image"],
    "commentary": [
        "writing the answer",
        "says: I'll check the data first.",
        "writing the answer",
    ],
    "summary": [
        "thinking: Reading the question …",
        "thinking: Choosing an answer …",
        "writing the answer",
    ],
    "file": ["running code", "writing the answer"],
}


def submit(outcome: str) -> tuple[str, ...]:
    """The command that streams a job with this outcome."""
    settings = ("--metadata", f"sandbox_outcome={outcome}", "--metadata", f"sandbox_text={TEXT}")
    return ("submit", "--prompt", "x", "--stream-text", "--poll-seconds", "0.1", *settings)


def output(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The output of the sandbox's only job."""
    items: list[dict[str, Any]] = stream_events(sandbox)[-1]["response"]["output"]
    return items


@pytest.mark.parametrize("outcome", WORDS)
def test_words_of_each_outcome(run: Callable[..., Result], outcome: str) -> None:
    """A person reads plain words for each step of a job, whatever its outcome."""
    lines = run(*submit(outcome), "--human").err.splitlines()
    begin = lines.index("thinking") + 1
    assert lines[begin : begin + len(WORDS[outcome])] == WORDS[outcome]
    assert not {"thinking", "writing the answer"} & set(lines[begin + len(WORDS[outcome]) :])


def test_summaries_are_steps(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Each part of a reasoning summary is one step with its whole text."""
    result = run(*submit("summary"))
    texts = [text for _, kind, text in steps(result) if kind == "reasoning" and text]
    assert texts == [part["text"] for part in output(sandbox)[0]["summary"]]


@pytest.mark.parametrize("outcome", ENDING)
def test_empty_end(run: Callable[..., Result], sandbox: Sandbox, outcome: str) -> None:
    """Whatever was streamed, an empty end is looked up, and the result is the whole one."""
    sandbox.script(Fault(on="create", kind="empty_end"))
    result = run(*submit(outcome))
    assert warning_codes(result) == []
    assert len(retrieves(sandbox)) == (result.last["status"] in ("completed", "incomplete"))
    shown = run("show", result.id).last
    assert shown["response"]["output"] == output(sandbox)


@pytest.mark.parametrize("outcome", ENDING)
def test_no_deltas(run: Callable[..., Result], sandbox: Sandbox, outcome: str) -> None:
    """Without deltas, the emitted text is the answer's text, as it is with them."""
    with_deltas = streamed_text(run(*submit(outcome)))
    sandbox.clear()
    sandbox.script(Fault(on="create", kind="no_deltas"))
    result = run(*submit(outcome))
    assert streamed_text(result) == Answer(output(sandbox)).text
    assert streamed_text(result) == with_deltas
    assert warning_codes(result) == []
