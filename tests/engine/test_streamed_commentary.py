"""Commentary in a stream: a step of the job, and not part of the answer's text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness import response
from stream_runs import (
    LONG,
    completed,
    delta,
    event,
    item_done,
    message,
    script_stream,
    sse,
    sse_fault,
    steps,
    streamed_text,
    text_done,
    warning_codes,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

SUBMIT = ("submit", "--prompt", "x", "--stream-text", "--poll-seconds", "0.05")
SAID, ANSWER = "I'll check the data first.", "The Loire."
Event = dict[str, Any]


def added(index: int, phase: str | None = None, **more: Any) -> Event:
    """The event that begins a message."""
    item = {"id": f"item_{index}", "type": "message", "content": []}
    return event("output_item.added", index, item=item | _phase(phase), **more)


def done(text: str, index: int, phase: str | None = None) -> Event:
    """The event that brings a finished message with a phase."""
    finished = message(text, index)
    return {**finished, "item": finished["item"] | _phase(phase)}


def _phase(phase: str | None) -> Event:
    return {} if phase is None else {"phase": phase}


PART = {"type": "output_text", "text": SAID}
BEGUN = added(0, "commentary")
DONE = done(SAID, 0, "commentary")
FINAL = [
    added(1, "final_answer"),
    *(delta(ANSWER[:4], 1), delta(ANSWER[4:], 1), text_done(ANSWER, 1)),
    done(ANSWER, 1, "final_answer"),
]
OUTPUT = [DONE["item"], FINAL[-1]["item"]]
COMMENTARY: dict[str, list[Event]] = {
    "deltas": [BEGUN, delta(SAID[:9]), delta(SAID[9:]), text_done(SAID), DONE],
    "a text.done only": [BEGUN, text_done(SAID), DONE],
    "a content_part.done only": [
        BEGUN,
        event("content_part.done", content_index=0, part=PART),
        DONE,
    ],
    "its item only": [DONE],
    "deltas without the end of the text": [BEGUN, delta(SAID[:9]), DONE],
    "deltas that differ": [BEGUN, delta("We"), text_done(SAID), DONE],
    "only a place in the deltas": [BEGUN, delta(SAID, item_id=None), DONE],
    "only an ID in the deltas": [BEGUN, delta(SAID, output_index=None), DONE],
    "IDs that change": [BEGUN, delta(SAID, item_id="x"), text_done(SAID, item_id="y"), DONE],
}


@pytest.mark.parametrize("said", COMMENTARY.values(), ids=COMMENTARY)
def test_commentary_is_a_step(
    run: Callable[..., Result], sandbox: Sandbox, said: list[Event]
) -> None:
    """The deltas join to the answer alone; the commentary is a `progress` event with its text."""
    script_stream(sandbox, *said, *FINAL, completed(output=OUTPUT))
    result = run(*SUBMIT, "--show-output-text")
    assert (streamed_text(result), result.lines[-2]["text"]) == (ANSWER, ANSWER)
    assert warning_codes(result) == []
    assert [step for step in steps(result) if step[2]] == [("output_item.done", "message", SAID)]


def test_structured_output_stays_valid(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """The streamed text of structured output is valid JSON, although commentary came before."""
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"lakes": {"type": "array"}}}')
    options = ("--json-schema-file", str(schema), "--metadata", "sandbox_outcome=commentary")
    result = run(*SUBMIT, *options, "--show-output-text")
    assert isinstance(json.loads(streamed_text(result)), dict)
    assert streamed_text(result) == result.lines[-2]["text"]


def test_long_commentary_is_cut(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A step has at most 2,000 characters of the commentary; an empty one has none."""
    long, empty = done("é" * 3000, 0, "commentary"), done("", 1, "commentary")
    script_stream(sandbox, long, empty, completed(output=OUTPUT))
    assert [text for _, _, text in steps(run(*SUBMIT))] == ["é" * 1999 + "…", None]


@pytest.mark.parametrize("said", COMMENTARY.values(), ids=COMMENTARY)
@pytest.mark.parametrize("more", [[], [item_done(1, "function_call", name="f", call_id="c")]])
def test_commentary_that_is_the_whole_text(
    run: Callable[..., Result], sandbox: Sandbox, said: list[Event], more: list[Event]
) -> None:
    """If the only message is commentary, it is the job's text, and is emitted at the end."""
    output = [one["item"] for one in (DONE, *more)]
    script_stream(sandbox, *said, *more, completed(output=output))
    result = run(*SUBMIT, "--show-output-text")
    assert (streamed_text(result), result.lines[-2]["text"]) == (SAID, SAID)


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([added(0), delta(SAID), DONE, *FINAL], SAID + ANSWER),
        ([BEGUN, delta(SAID), DONE, added(0, "final_answer"), delta("a"), done("ab", 0)], "ab"),
        ([BEGUN, delta(SAID), DONE, delta("a", item_id="x"), text_done("ab", item_id="x")], "ab"),
        ([BEGUN, delta("I"), added(1, "final_answer"), delta("a", 1), delta("'ll")], "a"),
        ([added(0, "analysis"), delta("a"), done("a", 0, "analysis")], "a"),
        ([event("output_item.added", item=None), delta("a"), delta("b", 1)], "ab"),
    ],
)
def test_which_text_is_commentary(
    run: Callable[..., Result], sandbox: Sandbox, events: list[Event], text: str
) -> None:
    """Only an item that began as commentary is held back, also if its place is used again."""
    more = [{"type": "reasoning", "id": f"rs_{number}"} for number in range(2)]
    script_stream(sandbox, *events, completed(output=[*OUTPUT, *more]))
    assert streamed_text(run(*SUBMIT)) == text


@pytest.mark.parametrize(
    "events",
    [
        [*COMMENTARY["deltas"], *FINAL],
        [*COMMENTARY["its item only"], *FINAL],
        [*COMMENTARY["deltas"], *FINAL[:-1]],
        [*COMMENTARY["deltas"][:-1], *FINAL[:-1]],
    ],
)
def test_restored_output_has_the_commentary(
    run: Callable[..., Result], sandbox: Sandbox, events: list[Event]
) -> None:
    """An output restored from the stream has the commentary, apart from the answer."""
    empty = response("completed", output=[])
    script_stream(sandbox, *events, completed(output=[]), retrieved=empty)
    result = run(*SUBMIT, "--show-output-text")
    assert warning_codes(result) == ["output_from_stream"]
    assert (streamed_text(result), result.lines[-2]["text"]) == (ANSWER, ANSWER)
    output = run("show", result.id).last["response"]["output"]
    texts = [(item.get("phase"), item["content"][0]["text"]) for item in output]
    assert [text for _, text in texts] == [SAID, ANSWER]
    assert texts[0][0] == "commentary"


def test_resumed_within_commentary(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """After --starting-after, an item whose beginning was not seen counts as the answer."""
    identifier = run(*SUBMIT, *LONG, "--detach").id
    events = (delta(SAID[9:]), text_done(SAID), DONE, *FINAL, completed(output=OUTPUT))
    sandbox.script(sse_fault(sse(*events, first=6)))
    result = run("monitor", identifier, "--stream-text", "--starting-after", "5")
    assert (streamed_text(result), warning_codes(result)) == (SAID[9:] + ANSWER, [])


def test_human_commentary(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """With --human, the words of the commentary are a line."""
    script_stream(sandbox, *COMMENTARY["deltas"], *FINAL, completed(output=OUTPUT))
    result = run(*SUBMIT, "--human")
    assert f"\nsays: {SAID}\n" in result.err
