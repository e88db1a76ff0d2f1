"""Ends of a stream or a create that hold less than what came before: they are looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import response
from oaibg.sandbox import Fault
from outputs import bring
from stream_runs import (
    completed,
    event,
    item_done,
    message,
    retrieves,
    script_stream,
    text_done,
    warning_codes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

SUBMIT = ("submit", "--prompt", "x", "--stream", "--poll-seconds", "0.05")
IMAGE = item_done(0, "image_generation_call", result="aGk=")
CALL = item_done(0, "function_call", name="f", arguments="{}", call_id="c")
TOOL = item_done(0, "custom_tool_call", name="run", input="1 + 1", call_id="c")
SEARCH = item_done(0, "web_search_call", action={"sources": [{"url": "https://a.test"}]})
WHOLE = [message("The answer.", 1)["item"], CALL["item"], TOOL["item"]]


def added(kind: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """The event that begins an output item."""
    item = {"id": f"item_{index}", "type": kind, "status": "in_progress", **more}
    return event("output_item.added", index, item=item)


def of_call(kind: str, **more: Any) -> dict[str, Any]:
    """The event that brings what a call does."""
    return event(f"{kind}.done", **more)


ARGUMENTS = of_call("function_call_arguments", arguments="{}", name="f")
INPUT = of_call("custom_tool_call_input", input="1 + 1")
REFUSAL = event("refusal.done", content_index=0, refusal="No.")


@pytest.mark.parametrize("status", ["completed", "incomplete"])
@pytest.mark.parametrize(
    "events",
    [
        [added("function_call", call_id="c", name="f", arguments=""), ARGUMENTS],
        [added("custom_tool_call", call_id="c", name="run", input=""), INPUT],
        [REFUSAL],
        [added("image_generation_call"), event("image_generation_call.completed")],
        [added("message")],
        [],
    ],
    ids=["arguments", "input", "refusal", "image", "message begun", "nothing"],
)
def test_end_without_output(
    run: Callable[..., Result], sandbox: Sandbox, events: list[dict[str, Any]], status: str
) -> None:
    """An end without any output is looked up once, whatever was streamed before it."""
    whole = response(status, output=WHOLE)
    script_stream(sandbox, *events, completed(status, output=[]), retrieved=whole)
    result = run(*SUBMIT, "--show-output-text")
    assert (result.lines[-2]["text"], warning_codes(result)) == ("The answer.", [])
    assert len(retrieves(sandbox)) == 1


@pytest.mark.parametrize("output", [[], None])
def test_nothing_anywhere(run: Callable[..., Result], sandbox: Sandbox, output: Any) -> None:
    """If the retrieved result is empty, too, and nothing was streamed, the job has no output."""
    script_stream(sandbox, completed(output=output), retrieved=response("completed", output=output))
    result = run(*SUBMIT)
    assert (result.code, result.last["output_types"], warning_codes(result)) == (0, {}, [])
    assert len(retrieves(sandbox)) == 1


@pytest.mark.parametrize(
    ("done", "key", "value"),
    [
        (IMAGE, "result", None),
        (IMAGE, "result", ""),
        (CALL, "arguments", None),
        (CALL, "arguments", ""),
        (TOOL, "input", ""),
        (SEARCH, "action", {}),
    ],
)
@pytest.mark.parametrize("retrieves_it", [True, False])
def test_end_whose_items_hold_less(
    run: Callable[..., Result],
    sandbox: Sandbox,
    done: dict[str, Any],
    key: str,
    value: Any,
    retrieves_it: bool,
) -> None:
    """If an item of the end lacks what the finished item had, the job is retrieved.

    If the retrieved one lacks it, too, the streamed item is used. Other items stay.
    """
    thought = {"id": "rs", "type": "reasoning", "summary": []}
    emptied = [done["item"] | {key: value}, thought]
    body = response("completed", output=[done["item"] if retrieves_it else emptied[0], thought])
    script_stream(sandbox, done, completed(output=emptied), retrieved=body)
    result = run(*SUBMIT)
    codes = [] if retrieves_it else ["output_from_stream"]
    assert (len(retrieves(sandbox)), warning_codes(result)) == (1, codes)
    assert run("show", result.id).last["response"]["output"] == [done["item"], thought]


def test_end_with_fewer_items_than_were_begun(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If more items have begun than the end has, the job is retrieved."""
    events = [message("a"), added("message", 1)]
    both = [message("a")["item"], message("b", 1)["item"]]
    last = completed(output=both[:1])
    script_stream(sandbox, *events, last, retrieved=response("completed", output=both))
    assert run(*SUBMIT).last["output_text_bytes"] == 2
    assert len(retrieves(sandbox)) == 1


@pytest.mark.parametrize(
    ("events", "types", "code"),
    [
        ([REFUSAL], {"message": 1}, 10),
        (
            [event("content_part.done", part={"type": "refusal", "refusal": "No."})],
            {"message": 1},
            10,
        ),
        ([added("function_call", call_id="c", name="f"), ARGUMENTS], {"function_call": 1}, 10),
        ([ARGUMENTS], {"function_call": 1}, 10),
        (
            [added("function_call", call_id="c", name="f"), ARGUMENTS, CALL],
            {"function_call": 1},
            10,
        ),
        ([ARGUMENTS | {"item_id": "x"}, CALL], {"function_call": 1}, 10),
        ([added("custom_tool_call", call_id="c", name="r"), INPUT], {"custom_tool_call": 1}, 10),
        ([message("a"), text_done("b", 1)], {"message": 2}, 0),
        ([message("a"), REFUSAL | {"output_index": 1}], {"message": 2}, 10),
        ([added("image_generation_call")], {}, 0),
    ],
)
def test_output_from_done_events(
    run: Callable[..., Result],
    sandbox: Sandbox,
    events: list[dict[str, Any]],
    types: dict[str, int],
    code: int,
) -> None:
    """If no result has the output, texts, refusals and arguments of `…done` events are it."""
    empty = response("completed", output=[])
    script_stream(sandbox, *events, completed(output=[]), retrieved=empty)
    result = run(*SUBMIT)
    assert (result.code, result.last["output_types"]) == (code, types)
    assert warning_codes(result) == (["output_from_stream"] if types else [])
    assert [one["name"] for one in result.last["calls"]] in ([], ["f"], ["r"])
    if code == 10:
        assert result.last["calls"] or result.last["refusal"] == "No."


def test_create_that_is_answered_without_output(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """If the reply to a plain create has a completed job without output, the job is polled."""
    sandbox.script(Fault(on="create", kind="raw", body=response("completed", output=[])))
    bring(sandbox, response("completed", output=WHOLE[:1]))
    result = run("submit", "--prompt", "x", "--poll-seconds", "0.05")
    assert (result.code, result.last["output_text_bytes"]) == (0, 11)
