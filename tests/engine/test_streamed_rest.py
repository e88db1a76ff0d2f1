"""Text that only a job's result has: it is emitted after the streamed text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import response
from stream_runs import (
    LONG,
    completed,
    delta,
    message,
    script_stream,
    sse,
    sse_fault,
    streamed_text,
    text_done,
    warning_codes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

SUBMIT = ("submit", "--prompt", "x", "--stream-text", "--poll-seconds", "0.05")


def output(*texts: str, **more: Any) -> list[dict[str, Any]]:
    """An output with a message for each text; `more` are keys of the first one."""
    items = [message(text, place)["item"] for place, text in enumerate(texts)]
    return [items[0] | more, *items[1:]]


RESULTS = {
    "the rest of a message": ([delta("Hel")], output("Hello world"), "Hello world"),
    "a second message": ([delta("a"), text_done("a"), message("a")], output("a", "b"), "ab"),
    "both": ([delta("H")], output("Hi", " you"), "Hi you"),
    "nothing": ([delta("Hi")], output("Hi"), "Hi"),
    "repeated letters": ([delta("a")], output("aab"), "aab"),
    "a text part of another server": (
        [delta("H")],
        [{"type": "message", "id": "item_0", "content": [{"type": "text", "text": "Hi"}]}],
        "Hi",
    ),
    "a string": ([delta("H")], [{"type": "message", "id": "item_0", "content": "Hi"}], "Hi"),
    "commentary": (
        [delta("Wait."), message("Wait.")],
        output("Wait.", "Done.", phase="commentary"),
        "Wait.Done.",
    ),
}


@pytest.mark.parametrize("found", ["in the end", "by a retrieve"])
@pytest.mark.parametrize(("events", "items", "text"), RESULTS.values(), ids=RESULTS)
def test_text_that_only_the_result_has(
    run: Callable[..., Result],
    sandbox: Sandbox,
    events: list[dict[str, Any]],
    items: list[dict[str, Any]],
    text: str,
    found: str,
) -> None:
    """The deltas are the whole text, even if a part of it was never streamed."""
    last = completed(output=items if found == "in the end" else [])
    script_stream(sandbox, *events, last, retrieved=response("completed", output=items))
    result = run(*SUBMIT)
    assert (streamed_text(result), warning_codes(result)) == (text, [])
    numbers = [one["sequence_number"] for one in result.lines if "delta" in one["event"]]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("text", ["The Seine.", "the Loire", "A. The Loire"])
def test_result_that_contradicts_the_deltas(
    run: Callable[..., Result], sandbox: Sandbox, text: str
) -> None:
    """If the result's text does not begin with the emitted text, one warning says so."""
    script_stream(sandbox, delta("The Loire"), completed(output=output(text)))
    result = run(*SUBMIT)
    assert (result.code, streamed_text(result)) == (0, "The Loire")
    assert warning_codes(result) == ["stream_gap"]


def test_no_text_is_compared_without_stream_text(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """Without --stream-text, no text is emitted, and no warning is about it."""
    script_stream(sandbox, delta("a"), completed(output=output("b")))
    result = run("submit", "--prompt", "x", "--stream")
    assert (streamed_text(result), warning_codes(result)) == ("", [])


def test_text_of_a_failed_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A job that failed may lack the text that it had streamed."""
    script_stream(sandbox, delta("a"), completed("failed", output=[]))
    result = run(*SUBMIT)
    assert (result.code, streamed_text(result), warning_codes(result)) == (4, "a", [])


@pytest.mark.parametrize(
    ("events", "text", "codes"),
    [
        ([delta("lo wo")], "lo world", []),
        ([delta("l")], "l", []),
        ([text_done("Hello world")], "", []),
        ([], "", []),
        ([delta("xyz")], "xyz", ["stream_gap"]),
    ],
)
def test_rest_of_a_resumed_stream(
    run: Callable[..., Result],
    sandbox: Sandbox,
    events: list[dict[str, Any]],
    text: str,
    codes: list[str],
) -> None:
    """After --starting-after, the text after the emitted text follows if it is certain."""
    identifier = run(*SUBMIT, *LONG, "--detach").id
    last = completed(output=output("Hello world"))
    sandbox.script(sse_fault(sse(*events, last, first=5)))
    result = run("monitor", identifier, "--stream-text", "--starting-after", "4")
    assert (streamed_text(result), warning_codes(result)) == (text, codes)
