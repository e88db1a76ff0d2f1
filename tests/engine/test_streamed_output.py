"""The output that only a stream has, and text that comes without deltas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness import response
from oaibg.sandbox import Fault
from stream_runs import (
    LONG,
    completed,
    delta,
    event,
    item_done,
    message,
    retrieves,
    script_stream,
    sse,
    sse_fault,
    streamed_text,
    text_done,
    warning_codes,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

SUBMIT = ("submit", "--prompt", "x", "--stream", "--poll-seconds", "0.05")
TEXT = "The Loire is the longest river of France."
THOUGHT = item_done(0, "reasoning", summary=[])
ITEMS = [THOUGHT["item"], message(TEXT, 1)["item"]]
STREAMED = [
    THOUGHT,
    event("output_item.added", 1, item={"id": "item_1", "type": "message"}),
    *(delta(TEXT[start : start + 9], 1) for start in range(0, len(TEXT), 9)),
    text_done(TEXT, 1),
    message(TEXT, 1),
]
BLANK = [THOUGHT["item"], message("", 1)["item"]]
HALF = [THOUGHT["item"], message(TEXT[:9], 1)["item"]]

EMPTY: dict[str, dict[str, Any]] = {
    "an empty list": {"output": []},
    "null": {"output": None},
    "no output": {},
    "an object": {"output": {}},
    "fewer items": {"output": ITEMS[:1]},
    "the message only, without text": {"output": BLANK[1:]},
    "no text": {"output": BLANK},
    "half of the text": {"output": HALF},
}


@pytest.mark.parametrize("last", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_empty_end_is_looked_up(
    run: Callable[..., Result], sandbox: Sandbox, status: str, last: dict[str, Any]
) -> None:
    """If the stream's last event lacks streamed output, the job is retrieved."""
    whole = response(status, output=ITEMS)
    script_stream(sandbox, *STREAMED, completed(status, **last), retrieved=whole)
    result = run(*SUBMIT, "--show-output-text")
    assert (result.lines[-2]["text"], warning_codes(result)) == (TEXT, [])
    assert (result.last["status"], len(retrieves(sandbox))) == (status, 1)
    assert run("show", result.id).last["response"] == whole


@pytest.mark.row("Stream: its end lacks output that it sent before")
@pytest.mark.parametrize("last", EMPTY.values(), ids=EMPTY)
def test_streamed_items_become_the_output(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, last: dict[str, Any]
) -> None:
    """If the retrieved result lacks the streamed output, too, the streamed items are the output."""
    empty = response("completed", usage={"output_tokens": 9}, **last)
    script_stream(sandbox, *STREAMED, completed(**last), retrieved=empty)
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    files = ("--output-json-file", str(out), "--output-text-file", str(text))
    result = run(*SUBMIT, *files)
    assert (result.code, warning_codes(result)) == (0, ["output_from_stream"])
    assert result.last["output_text_bytes"] == len(TEXT)
    assert json.loads(out.read_text()) == {**empty, "output": ITEMS}
    assert text.read_text() == TEXT
    shown = run("show", result.id)
    assert (shown.last["source"], shown.last["response"]["output"]) == ("local", ITEMS)


@pytest.mark.parametrize(
    ("events", "output"),
    [
        ([item_done(0, "function_call", name="f", arguments="{}", call_id="c")], None),
        ([item_done(0, "image_generation_call", result="aGk=")], None),
        ([message("a", 1), THOUGHT], [THOUGHT["item"], message("a", 1)["item"]]),
        (
            [item_done(0, "reasoning", id="a"), item_done(0, "web_search_call", id="b")],
            [
                item_done(0, "reasoning", id="a")["item"],
                item_done(0, "web_search_call", id="b")["item"],
            ],
        ),
        ([{**message("a"), "output_index": None}], [message("a")["item"]]),
        ([message("a"), message("a")], [message("a")["item"]]),
    ],
)
def test_items_of_any_kind(
    run: Callable[..., Result], sandbox: Sandbox, events: list[dict[str, Any]], output: Any
) -> None:
    """Streamed items of any type are used in the order of their `output_index`."""
    empty = response("completed", output=[])
    script_stream(sandbox, *events, completed(output=[]), retrieved=empty)
    result = run(*SUBMIT)
    assert warning_codes(result) == ["output_from_stream"]
    expected = output or [one["item"] for one in events]
    assert run("show", result.id).last["response"]["output"] == expected


@pytest.mark.parametrize(
    "events",
    [
        [delta("a "), delta("b")],
        [delta("a "), text_done("a b")],
        [delta("a "), text_done("a b"), message("")],
        [delta("a b"), item_done(0, "message", content=[])],
        [delta("a "), delta("b", 1)],
    ],
)
def test_text_without_an_item(
    run: Callable[..., Result], sandbox: Sandbox, events: list[dict[str, Any]]
) -> None:
    """If text was streamed and no finished item has it, the text becomes a message."""
    empty = response("completed", output=[])
    script_stream(sandbox, *events, completed(output=[]), retrieved=empty)
    result = run(*SUBMIT, "--show-output-text")
    assert (result.code, result.lines[-2]["text"]) == (0, "a b")
    assert warning_codes(result) == ["output_from_stream"]


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_unsuccessful_end_is_believed(
    run: Callable[..., Result], sandbox: Sandbox, status: str
) -> None:
    """The end of a job that failed or was cancelled is believed without a retrieve."""
    last = event("failed", None, response=response(status, output=[]))
    script_stream(sandbox, *STREAMED, last)
    result = run(*SUBMIT)
    assert (result.code, result.last["status"], warning_codes(result)) == (4, status, [])
    assert retrieves(sandbox) == []


def test_whole_end_is_believed(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """An end that has all that was streamed is believed without a retrieve."""
    script_stream(sandbox, *STREAMED, completed(output=ITEMS))
    result = run(*SUBMIT)
    assert (result.code, warning_codes(result), retrieves(sandbox)) == (0, [], [])


def test_poll_that_finds_an_empty_end(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If a poll finds an empty result, the rest of the stream is read, and its output is used."""
    empty = response("completed", output=[])
    for last, codes in ((ITEMS, []), ([], ["output_from_stream"])):
        sandbox.clear()
        identifier = run(*SUBMIT, *LONG, "--detach").id
        sandbox.script(sse_fault(sse(*STREAMED, completed(output=last))))
        sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(empty), times=0))
        result = run("monitor", identifier, "--stream-text", "--show-output-text")
        assert (result.lines[-2]["text"], streamed_text(result)) == (TEXT, TEXT)
        assert warning_codes(result) == codes


def test_end_that_can_not_be_looked_up(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """If the server doesn't have the job any more, the streamed output is still delivered."""
    script_stream(sandbox, *STREAMED, completed(output=[]))
    sandbox.script(Fault(on="retrieve", kind="status", status=404, times=0))
    result = run(*SUBMIT, "--show-output-text")
    assert (result.code, result.lines[-2]["text"]) == (0, TEXT)
    assert warning_codes(result) == ["output_from_stream"]


def test_resumed_stream_has_what_was_seen(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """After --starting-after, only the items that were seen count."""
    identifier = run(*SUBMIT, *LONG, "--detach").id
    sandbox.script(sse_fault(sse(*STREAMED[-2:], completed(output=[]), first=7)))
    empty = response("completed", output=[])
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(empty), times=0))
    result = run("monitor", identifier, "--stream-text", "--starting-after", "6")
    assert (result.code, result.last["output_text_bytes"]) == (0, len(TEXT))
    assert (streamed_text(result), warning_codes(result)) == ("", ["output_from_stream"])


def test_cut_off_text_is_no_answer(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The end of a text whose beginning was not seen does not become the output."""
    identifier = run(*SUBMIT, *LONG, "--detach").id
    sandbox.script(sse_fault(sse(delta("of France."), completed(output=[]), first=7)))
    empty = response("completed", output=[])
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(empty), times=0))
    result = run("monitor", identifier, "--stream-text", "--starting-after", "6")
    assert (result.last["output_text_bytes"], warning_codes(result)) == (0, [])


def test_text_of_a_lost_stream_is_no_answer(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If a stream is lost, a text that was not finished does not become the output."""
    script_stream(sandbox, delta("The"), retrieved=response("completed", output=[]))
    sandbox.script(Fault(on="stream", kind="status", status=400))
    result = run(*SUBMIT)
    assert (result.last["output_text_bytes"], warning_codes(result)) == (0, ["stream_unavailable"])


# Text that comes without deltas:

PIECES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "text.done only": ([text_done(TEXT, 1)], TEXT),
    "content_part.done only": (
        [
            event(
                "content_part.done", 1, content_index=0, part={"type": "output_text", "text": TEXT}
            )
        ],
        TEXT,
    ),
    "item.done only": ([message(TEXT, 1)], TEXT),
    "all of them": (STREAMED[1:], TEXT),
    "a delta, then the whole": ([delta(TEXT[:9], 1), text_done(TEXT, 1), message(TEXT, 1)], TEXT),
    "two texts": ([text_done("a", 0), delta("b", 1), text_done("bc", 1), message("d", 2)], "abcd"),
    "two parts of one item": (
        [text_done("a"), event("output_text.done", content_index=1, text="b"), delta("c", 1)],
        "abc",
    ),
    "IDs that change": ([delta("a", item_id="x"), delta("b", item_id="y"), message("abc")], "abc"),
    "no place": ([delta("a", None), text_done("ab", None), message("ab", 1)], "ab"),
    "one place for all": (
        [
            *(delta("a", item_id="x"), text_done("ab", item_id="x"), text_done("c", item_id="y")),
            *(delta("d", item_id="z"), text_done("de", item_id="z")),
        ],
        "abcde",
    ),
    "an empty end": ([delta("a"), text_done("")], "a"),
}


@pytest.mark.row("Stream: text that comes without deltas")
@pytest.mark.parametrize(("events", "text"), PIECES.values(), ids=PIECES)
def test_text_in_done_events(
    run: Callable[..., Result], sandbox: Sandbox, events: list[dict[str, Any]], text: str
) -> None:
    """Text that no delta brought is emitted when it arrives, so the deltas are the whole text."""
    output = [message(text)["item"], *[THOUGHT["item"]] * 8]
    script_stream(sandbox, *events, completed(output=output))
    result = run(*SUBMIT, "--stream-text")
    assert (streamed_text(result), warning_codes(result)) == (text, [])


def test_text_in_the_last_event_only(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If only the stream's last event has text, it is emitted as a delta."""
    script_stream(sandbox, THOUGHT, completed(output=ITEMS))
    result = run(*SUBMIT, "--stream-text")
    assert (streamed_text(result), warning_codes(result)) == (TEXT, [])


def test_streamed_text_is_used_once(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Text that can't be matched with its item doesn't come twice in the output."""
    events = [delta("a", None, item_id="x"), item_done(0, "reasoning"), message("a", 1)]
    empty = response("completed", output=[])
    script_stream(sandbox, *events, completed(output=[]), retrieved=empty)
    assert run(*SUBMIT).last["output_text_bytes"] == 1


def test_text_in_done_events_without_stream_text(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """Without --stream-text, no text is emitted."""
    script_stream(sandbox, text_done("a"), completed(output=[message("a")["item"]]))
    assert streamed_text(run(*SUBMIT)) == ""


@pytest.mark.parametrize("text", ["The Seine.", "The"])
def test_text_that_contradicts_its_deltas(
    run: Callable[..., Result], sandbox: Sandbox, text: str
) -> None:
    """If a whole text is not an extension of its deltas, one warning says so."""
    events = [delta("The Loire"), text_done(text), message(text), delta("x", 1), text_done("y", 1)]
    output = [message(text)["item"], message("y", 1)["item"]]
    script_stream(sandbox, *events, completed(output=output))
    result = run(*SUBMIT, "--stream-text")
    assert (streamed_text(result), warning_codes(result)) == ("The Loirex", ["stream_gap"])


@pytest.mark.parametrize("after", range(1, 9))
def test_cut_stream_without_deltas(
    run: Callable[..., Result], sandbox: Sandbox, after: int
) -> None:
    """Wherever a stream is cut, the text of its done events is emitted once."""
    events = [
        event("output_item.added", 0, item={"id": "item_0", "type": "message"}),
        *(delta("a"), delta("b"), text_done("abc"), message("abc"), text_done("d", 1)),
        *(message("d", 1), message("e", 2)),
        completed(
            output=[message(text, place)["item"] for place, text in enumerate(["abc", "d", "e"])]
        ),
    ]
    script_stream(sandbox, *events[:after])
    sandbox.script(sse_fault(sse(*events[after:], first=after + 1)))
    result = run(*SUBMIT, "--stream-text")
    assert (streamed_text(result), warning_codes(result), result.code) == ("abcde", [], 0)


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([delta("b"), text_done("ab"), message("ab")], "bc"),
        ([text_done("ab"), message("ab")], ""),
        ([message("ab")], ""),
        ([message("ab"), event("output_item.added", 1, item={}), text_done("c", 1)], "c"),
        (
            [text_done("ab"), event("content_part.added", 1, content_index=0), text_done("c", 1)],
            "c",
        ),
    ],
)
def test_resumed_text_is_not_repeated(
    run: Callable[..., Result], sandbox: Sandbox, events: list[dict[str, Any]], text: str
) -> None:
    """After --starting-after, no text is emitted that an earlier process may have emitted."""
    identifier = run(*SUBMIT, *LONG, "--detach").id
    output = [message("ab")["item"], message("c", 1)["item"]]
    sandbox.script(sse_fault(sse(*events, completed(output=output), first=6)))
    result = run("monitor", identifier, "--stream-text", "--starting-after", "5")
    assert (streamed_text(result), warning_codes(result)) == (text, [])
