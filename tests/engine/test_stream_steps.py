"""The `progress` events of a stream, and how a person reads them."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from harness import response, with_text
from oaibg.contract.events import Progress
from oaibg.output.human.live import JobStatus
from oaibg.output.human.steps import is_news, progress_words
from oaibg.output.human.streamed import Streamed
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
    text_done,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

SUBMIT = ("submit", "--prompt", "x", "--stream")
SUMMARY = "**Checking the sources**\n\nThey agree."
PART = {"type": "summary_text", "text": SUMMARY}


def script(sandbox: Sandbox, *events: dict[str, Any]) -> None:
    """Make the sandbox stream these events; the job's result has all of their items."""
    done = [one["item"] for one in events if one["type"].endswith("item.done")]
    items = [item for item in done if isinstance(item, dict)]
    has_message = any(item.get("type") == "message" for item in items)
    output = items if has_message else [*items, *with_text("ok")["output"]]
    script_stream(
        sandbox, *events, completed(output=output), retrieved=response("completed", output=output)
    )


def summary(kind: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """An event of a reasoning summary's part."""
    return event(f"reasoning_summary_{kind}", summary_index=index, **more)


def added(kind: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """The event that begins an output item."""
    return event("output_item.added", index, item={"id": f"item_{index}", "type": kind, **more})


SUMMARIES = {
    "all events": [
        summary("part.added", part={"type": "summary_text", "text": ""}),
        *(summary("text.delta", delta=piece) for piece in (SUMMARY[:9], SUMMARY[9:])),
        summary("text.done", text=SUMMARY),
        summary("part.done", part=PART),
    ],
    "text.done": [summary("text.done", text=SUMMARY)],
    "part.done": [summary("part.done", part=PART)],
    "deltas, then no text": [
        *(summary("text.delta", delta=piece) for piece in (SUMMARY[:9], SUMMARY[9:])),
        summary("text.done"),
    ],
    "finished item": [item_done(0, "reasoning", summary=[PART])],
    "all, and the item": [
        summary("text.done", text=SUMMARY),
        summary("part.done", part=PART),
        item_done(0, "reasoning", summary=[PART]),
    ],
}


@pytest.mark.parametrize("events", SUMMARIES.values(), ids=SUMMARIES)
def test_a_summary_is_one_step(
    run: Callable[..., Result], sandbox: Sandbox, events: list[dict[str, Any]]
) -> None:
    """A part of a reasoning summary is one step with its text, whichever events bring it."""
    script(sandbox, *events)
    found = steps(run(*SUBMIT))
    assert [text for _, _, text in found if text] == [SUMMARY]
    assert {kind for _, kind, _ in found} == {"reasoning"}


def test_each_part_of_a_summary_is_a_step(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Parts of a summary with the same text are separate steps."""
    events = [summary("text.done", index, text="a") for index in range(3)]
    script(sandbox, *events)
    assert steps(run(*SUBMIT)) == [("reasoning_summary_text.done", "reasoning", "a")] * 3


def test_resumed_in_a_summary(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A stream resumed after the text of a summary's part does not report that part again."""
    identifier = run(*SUBMIT, *LONG, "--detach").id
    done = item_done(0, "reasoning", summary=[PART])
    rest = [summary("part.done", part=PART), done, completed(output=[done["item"]])]
    sandbox.script(sse_fault(sse(*rest, first=4)))
    result = run("monitor", identifier, "--stream", "--starting-after", "3")
    assert steps(result) == [("output_item.done", "reasoning", None)]


@pytest.mark.parametrize(
    ("action", "about"),
    [
        ({"type": "search", "query": "rivers of France"}, "rivers of France"),
        ({"type": "search", "queries": ["rivers", "France"]}, "rivers, France"),
        ({"type": "open_page", "url": "https://example.org"}, "https://example.org"),
        ({"type": "find_in_page", "url": "https://e.org", "pattern": "Loire"}, "Loire"),
        ({"type": "search", "query": 7, "queries": [None, {}]}, None),
        (None, None),
    ],
)
def test_web_search(
    run: Callable[..., Result], sandbox: Sandbox, action: Any, about: str | None
) -> None:
    """The end of a web search has what was searched for."""
    script(
        sandbox,
        added("web_search_call"),
        event("web_search_call.searching"),
        item_done(0, "web_search_call", action=action),
    )
    found = steps(run(*SUBMIT))
    assert found[:2] == [
        ("output_item.added", "web_search_call", None),
        ("web_search_call.searching", "web_search_call", None),
    ]
    assert found[2] == ("output_item.done", "web_search_call", about)


def test_steps_with_names(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The steps of calls have the tool's name, and a failed tool listing has its error."""
    script(
        sandbox,
        added("mcp_list_tools", 0, server_label="maps"),
        event("mcp_list_tools.in_progress", 0),
        event("mcp_list_tools.failed", 0, error={"message": "no route"}),
        item_done(0, "mcp_list_tools", server_label="maps", error="no route"),
        added("function_call", 1, name="get_weather"),
        added("mcp_call", 2, name="find"),
        event("mcp_call.in_progress", 2),
        item_done(3, "mcp_approval_request", name="pay"),
        item_done(4, "compaction", encrypted_content="…"),
        event("compaction.compacting", 4),
    )
    assert steps(run(*SUBMIT)) == [
        ("output_item.added", "mcp_list_tools", "maps"),
        ("mcp_list_tools.in_progress", "mcp_list_tools", "maps"),
        ("mcp_list_tools.failed", "mcp_list_tools", "maps: no route"),
        ("output_item.done", "mcp_list_tools", "maps: no route"),
        ("output_item.added", "function_call", "get_weather"),
        ("output_item.added", "mcp_call", "find"),
        ("mcp_call.in_progress", "mcp_call", "find"),
        ("output_item.done", "mcp_approval_request", "pay"),
        ("output_item.done", "compaction", None),
        ("compaction.compacting", "compaction", None),
    ]


REFUSED = {"type": "refusal", "refusal": "I can't."}


@pytest.mark.parametrize(
    "events",
    [
        [
            event("refusal.delta", content_index=0, delta="I "),
            event("refusal.done", refusal="I can't."),
        ],
        [
            event("refusal.delta", content_index=0, delta="I can't."),
            event("refusal.done", content_index=0),
            item_done(0, "message", content=[REFUSED]),
        ],
        [item_done(0, "message", content=[REFUSED])],
    ],
)
def test_refusal(
    run: Callable[..., Result], sandbox: Sandbox, events: list[dict[str, Any]]
) -> None:
    """A refusal is reported once, with its text."""
    script(sandbox, *events)
    found = steps(run(*SUBMIT))
    assert [(kind, text) for _, kind, text in found if text] == [("message", "I can't.")]


@pytest.mark.parametrize(
    "kind",
    [
        "output_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_text.delta",
        "refusal.delta",
        "mcp_call_arguments.delta",
        "mcp_call.arguments_delta",
        "mcp_call.arguments.delta",
        "custom_tool_call_input.delta",
        "function_call_arguments.delta",
        "code_interpreter_call_code.delta",
        "code_interpreter_call.code.delta",
        "code_interpreter_call.delta",
        "shell_call_output_content.delta",
    ],
)
def test_deltas_are_no_steps(run: Callable[..., Result], sandbox: Sandbox, kind: str) -> None:
    """A delta of any kind is not a step of its own."""
    script(sandbox, *[event(kind, delta="x", content_index=0)] * 50)
    result = run(*SUBMIT)
    assert (steps(result), result.code) == ([], 0)


def test_long_texts_are_cut(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The text of a step has at most 2,000 characters."""
    script(
        sandbox,
        summary("text.done", text="é" * 3000),
        *[summary("text.delta", 1, delta="b" * 900)] * 3,
        summary("text.done", 1),
        summary("text.done", 2, text="c" * 2000),
    )
    assert [text for _, _, text in steps(run(*SUBMIT))] == [
        "é" * 1999 + "…",
        "b" * 1999 + "…",
        "c" * 2000,
    ]


@pytest.mark.parametrize("value", [None, 7, [], {}, {"type": []}, "x"])
def test_odd_values(run: Callable[..., Result], sandbox: Sandbox, value: Any) -> None:
    """Whatever values the events have, the job is followed to its end."""
    keys = ("item", "text", "part", "refusal", "delta", "error", "item_id", "output_index")
    odd = dict.fromkeys((*keys, "summary_index", "content_index"), value)
    kinds = [
        *("output_item.added", "output_item.done", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "refusal.delta"),
        *("refusal.done", "mcp_list_tools.failed", "web_search_call.completed"),
        *("output_text.done", "content_part.added", "content_part.done"),
    ]
    script(sandbox, *(event(kind, **odd) for kind in kinds))
    result = run(*SUBMIT, "--stream-text", "--show-output-text")
    assert (result.code, result.last["output_text_bytes"]) == (0, 2)


def test_human_steps(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """With --human, each step is a line of plain words, and a repeated one is left out."""
    script(
        sandbox,
        event("queued", None),
        added("mcp_list_tools", 0, server_label="maps"),
        event("mcp_list_tools.failed", 0, error="no route"),
        added("reasoning", 1),
        event("reasoning_summary_text.done", 1, summary_index=0, text=SUMMARY),
        added("web_search_call", 2),
        event("web_search_call.searching", 2),
        item_done(2, "web_search_call", action={"query": "rivers\x1b[31m"}),
        added("function_call", 3, name="get_weather"),
        added("message", 4),
        delta("ok", 4),
        text_done("ok", 4),
        message("ok", 4),
    )
    result = run(*SUBMIT, "--human", "--show-output-text")
    lines = result.err.splitlines()
    begin = lines.index("queued")
    assert lines[begin : begin + 9] == [
        "queued",
        "listing the tools of maps",
        "listing the tools of maps failed: no route",
        "thinking",
        "thinking: Checking the sources …",
        "searching the web",
        "searching the web: rivers\\x1b[31m",
        "calling get_weather",
        "writing the answer",
    ]
    assert "response." not in result.err
    assert result.out == b"ok\n"


def test_live_display_has_the_latest_step() -> None:
    """On a terminal, the status line has the latest step, and its text controls nothing."""
    display = JobStatus(lambda: 0.0, Streamed())
    for kind, item_type, text in [
        ("in_progress", None, None),
        ("output_item.added", "reasoning", None),
        ("reasoning_summary_text.done", "reasoning", "[b]Rivers\x1b[2J\nare long"),
        ("output_item.done", "reasoning", None),
    ]:
        display.update(_step(kind, item_type, text))
    console = Console(width=80, file=StringIO())
    console.print(display)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "in progress · 0 s · thinking: [b]Rivers\\x1b[2J …" in shown


@pytest.mark.parametrize(
    ("kind", "item_type", "text", "words"),
    [
        ("queued", None, None, "queued"),
        ("in_progress", None, None, "in progress"),
        ("output_item.added", None, None, "working"),
        ("output_item.added", "code_interpreter_call", None, "running code"),
        ("image_generation_call.generating", "image_generation_call", None, "generating an image"),
        ("output_item.done", "file_search_call", None, "searching files"),
        ("output_item.done", "file_search_call", "plans", "searching files: plans"),
        ("output_item.done", "mcp_approval_request", "pay", "waiting for approval: pay"),
        ("output_item.added", "compaction", None, "compacting the conversation"),
        ("output_item.added", "custom_tool_call", "grep", "calling grep"),
        ("mcp_call.failed", "mcp_call", "grep", "calling grep failed"),
        ("mcp_list_tools.failed", "mcp_list_tools", None, "listing the tools of a server failed"),
        ("output_item.done", "mcp_list_tools", "m: gone", "listing the tools of m failed: gone"),
        ("refusal.done", "message", "I can't.", "refused: I can't."),
        ("output_item.done", "message", None, "writing the answer"),
        ("output_item.done", "message", "I'll *check*.\nOK?", "says: I'll check. …"),
        (
            "reasoning_summary_text.done",
            "reasoning",
            "**A b** and *c*: 2*3*4",
            "thinking: A b and c: 2*3*4",
        ),
        ("output_item.done", "web_search_call", "**kwargs", "searching the web: **kwargs"),
        ("reasoning_summary_text.done", "reasoning", "a" * 150, f"thinking: {'a' * 100} …"),
    ],
)
def test_words(kind: str, item_type: str | None, text: str | None, words: str) -> None:
    """Each step has plain words; an item type that has none is shown without underscores."""
    assert progress_words(_step(kind, item_type, text)) == words


def test_repeated_steps() -> None:
    """A step with the same words is news only if it is another job's."""
    step = _step("output_item.added", "reasoning", None)
    assert is_news(step, None)
    assert not is_news(_step("output_item.done", "reasoning", None), step)
    assert is_news(step.of_many("a"), step.of_many("b"))


def _step(kind: str, item_type: str | None, text: str | None) -> Progress:
    return Progress(
        response_id="r", type=f"response.{kind}", item_type=item_type, sequence_number=1, text=text
    )
