"""The stream events of the outcomes of a sandbox job that complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from openai.types.responses import ResponseStreamEvent

from oaibg.sandbox.job.metadata import OUTCOMES, STATUSES
from sandbox_streams import streamed

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from openai import OpenAI

COMPLETING = ("completed", *(name for name in OUTCOMES if name not in STATUSES))
EVENTS: dict[str, tuple[str, ...]] = {
    "function_call": ("function_call_arguments.delta", "function_call_arguments.done"),
    "custom_tool_call": ("custom_tool_call_input.delta", "custom_tool_call_input.done"),
    "approval": (),
    "refusal": ("content_part.added", "refusal.delta", "refusal.done", "content_part.done"),
    "image": (
        "image_generation_call.in_progress",
        "image_generation_call.generating",
        "image_generation_call.completed",
    ),
    "file": (
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
    ),
    "summary": (
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ),
}
"""The events of an outcome's own item, between those that add it and end it."""
TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "function_call": lambda item: str(item["arguments"]),
    "custom_tool_call": lambda item: str(item["input"]),
    "refusal": lambda item: str(item["content"][0]["refusal"]),
    "file": lambda item: str(item["code"]),
    "summary": lambda item: "".join(part["text"] for part in item["summary"]),
}
"""The text of an outcome's own item that arrives in deltas."""


@pytest.mark.parametrize("outcome", COMPLETING)
def test_every_outcome_streams_its_items(sdk: OpenAI, outcome: str) -> None:
    """Each event has an SDK type and the next number, and the items equal those of the output."""
    kinds = get_args(get_args(ResponseStreamEvent)[0])
    metadata = {"sandbox_outcome": outcome, "sandbox_tools": "1"}
    sent = list(
        sdk.responses.create(model="m", input="Hi", background=True, stream=True, metadata=metadata)
    )
    assert {type(event) for event in sent} <= set(kinds)
    assert [event.sequence_number for event in sent] == list(range(len(sent)))
    last = sent[-1]
    assert last.type == "response.completed"
    done = [event.item for event in sent if event.type == "response.output_item.done"]
    assert done == last.response.output
    added = [event.item.id for event in sent if event.type == "response.output_item.added"]
    assert added == [item.id for item in last.response.output]


def own_events(http: httpx2.Client, outcome: str) -> list[dict[str, Any]]:
    """Return the events of an outcome's own item, the second one unless it is the reasoning."""
    index = 0 if outcome == "summary" else 1
    sent = streamed(http, metadata={"sandbox_outcome": outcome})
    return [one for one in sent if one.get("output_index") == index]


@pytest.mark.parametrize("outcome", EVENTS)
def test_the_events_of_an_item_are_in_the_order_of_the_api(
    http: httpx2.Client, outcome: str
) -> None:
    """Each outcome has its own types of events, and those of one part are together."""
    types = [one["type"].removeprefix("response.") for one in own_events(http, outcome)]
    wanted = ("output_item.added", *EVENTS[outcome], "output_item.done")
    assert tuple(dict.fromkeys(types)) == wanted


@pytest.mark.parametrize("outcome", TEXTS)
def test_an_item_is_added_empty_and_its_deltas_fill_it(http: httpx2.Client, outcome: str) -> None:
    """The deltas add up to the text of the finished item, which it lacks at first."""
    first, *others, last = own_events(http, outcome)
    text = TEXTS[outcome](last["item"])
    deltas = [one["delta"] for one in others if "delta" in one]
    assert len(deltas) > 1
    assert "".join(deltas) == text
    begun = [first["item"], *(one["part"] for one in others if one["type"].endswith(".added"))]
    assert deltas[0] not in str(begun)
    assert first["item"]["id"] == last["item"]["id"]


def test_an_image_is_added_without_a_result(http: httpx2.Client) -> None:
    """Only the finished item has the image."""
    first, *_, last = own_events(http, "image")
    assert (first["item"]["status"], first["item"]["result"]) == ("in_progress", None)
    assert (last["item"]["status"], bool(last["item"]["result"])) == ("completed", True)


def test_a_citation_comes_after_its_text(http: httpx2.Client) -> None:
    """The event of an annotation comes after the deltas, and has that of the message."""
    sent = streamed(http, metadata={"sandbox_outcome": "file"})
    types = [one["type"].removeprefix("response.") for one in sent if "content_index" in one]
    assert types[-4:] == [
        *("output_text.delta", "output_text.annotation.added"),
        *("output_text.done", "content_part.done"),
    ]
    (added,) = (one for one in sent if one["type"] == "response.output_text.annotation.added")
    (citation,) = sent[-1]["response"]["output"][2]["content"][0]["annotations"]
    assert (added["annotation"], added["annotation_index"]) == (citation, 0)


def test_the_messages_of_a_stream_have_their_phase(http: httpx2.Client) -> None:
    """The item events of a commentary and of the final answer both have the phase."""
    sent = streamed(http, metadata={"sandbox_outcome": "commentary"})
    phases = [one["item"].get("phase") for one in sent if "item" in one]
    assert phases == [None, None, *["commentary"] * 2, *["final_answer"] * 2]
