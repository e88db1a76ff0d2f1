"""A result that the API once returned is kept, and output is reported under any status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oaibg.sandbox import Fault
from outputs import CALL, IMAGE, REASONING, bring, completed, message
from runs import FAST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox.server import Sandbox
    from outputs import Item

SUBMIT = ("submit", "--prompt", "x", *FAST)


@pytest.mark.row("Retrieve: the result has less output than before")
@pytest.mark.parametrize("command", ["monitor", "show"])
@pytest.mark.parametrize(
    "later",
    [[], None, [REASONING], [REASONING, message()], [REASONING, message("The an")]],
)
def test_an_emptier_result_does_not_replace_a_whole_one(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    command: str,
    later: list[Item] | None,
) -> None:
    """If a later retrieve returns less output, the local copy is delivered, and it stays."""
    bring(sandbox, completed(REASONING, message("The answer.")), times=1)
    bring(sandbox, completed() | {"output": later})
    identifier = run(*SUBMIT).id
    text = tmp_path / "answer.md"
    for _ in range(2):
        result = run(command, identifier, "--output-text-file", str(text))
        assert (result.code, text.read_text()) == (0, "The answer.")
        text.unlink()
    assert run("show", "--output-text", identifier).out == b"The answer."


@pytest.mark.parametrize(
    ("item", "key", "value"),
    [
        (IMAGE | {"result": "aGk="}, "result", None),
        (CALL, "arguments", ""),
        (
            {"type": "web_search_call", "action": {"sources": [{"url": "https://a.test"}]}},
            "action",
            {},
        ),
        ({"type": "code_interpreter_call", "outputs": [{"logs": "1"}]}, "outputs", []),
        ({"type": "custom_tool_call", "call_id": "c", "input": "1"}, "input", None),
        (message({"type": "refusal", "refusal": "No."}), "content", [{"type": "refusal"}]),
        (message("a"), "content", [{"type": "output_text", "text": None}]),
        (message("a") | {"content": "a"}, "content", ""),
        (REASONING | {"summary": [{"text": "Hm."}]}, "summary", []),
    ],
)
def test_an_emptied_item_does_not_replace_a_whole_one(
    run: Callable[..., Result], sandbox: Sandbox, item: Item, key: str, value: Any
) -> None:
    """If an item of a later result holds less than before, the local copy stays.

    That is so even if items of other types hold more. Other IDs and statuses don't matter.
    """
    other = message("This one.")
    bring(sandbox, completed(item, other), times=1)
    bring(sandbox, completed(item | {key: value}, {"type": "new_item", "text": "x" * 99}, other))
    identifier = run(*SUBMIT).id
    result = run("monitor", identifier)
    assert [one["code"] for one in result.lines if one["event"] == "warning"] == ["local_copy"]
    assert run("show", identifier).last["response"]["output"][0] == item
    renamed = item | {"id": "x", "status": "done"}
    sandbox.clear()
    bring(sandbox, completed(renamed, other))
    assert "warning" not in run("monitor", identifier).events


@pytest.mark.row("404 for a job with a local copy of its result")
@pytest.mark.parametrize("status", [404, 500, 503])
def test_the_local_copy_ends_a_monitor(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, status: int
) -> None:
    """If the first poll of a job that has ended fails, its local copy is delivered at once."""
    bring(sandbox, completed(message("The answer.")), times=1)
    identifier = run(*SUBMIT).id
    sandbox.script(Fault(kind="status", on="retrieve", status=status, times=0))
    text = tmp_path / "answer.md"
    result = run("monitor", identifier, "--output-text-file", str(text))
    assert (result.code, result.events) == (0, ["warning", "wrote_text", "final"])
    assert (result.lines[0]["code"], text.read_text()) == ("local_copy", "The answer.")


def test_a_fuller_result_replaces_the_local_copy(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """If a later retrieve returns more output, that is delivered and stored."""
    bring(sandbox, completed(message("The")), times=1)
    bring(sandbox, completed(REASONING, message("The answer.")))
    identifier = run(*SUBMIT).id
    assert run("monitor", identifier).last["output_text_bytes"] == 11
    assert run("show", "--output-text", identifier).out == b"The answer."


@pytest.mark.parametrize("status", ["stop", "", "COMPLETED", None, 7, "absent"])
def test_output_under_an_unknown_status(
    run: Callable[..., Result], sandbox: Sandbox, status: Any
) -> None:
    """Output under an unknown status is reported once, can be shown, and the wait continues."""
    body = completed(message("The answer."), status=status)
    if status == "absent":
        del body["status"]
    bring(sandbox, body, times=5)
    result = run(*SUBMIT)
    assert (result.code, result.events.count("warning")) == (0, 1)
    warning = result.lines[result.events.index("warning")]
    assert warning["code"] == "unknown_status"
    assert f"oaibg show {result.id} --output-text" in warning["message"]
    identifier = run("submit", "--prompt", "x", "--detach").id
    bring(sandbox, body)
    shown = run("show", identifier, "--output-text")
    assert (shown.code, shown.out) == (3, b"The answer.")


def test_output_that_comes_later(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """An unknown status is reported at once, and once more when there is output."""
    bring(sandbox, completed(status="thinking"), times=3)
    bring(sandbox, completed(message("The answer."), status="thinking"), times=3)
    result = run(*SUBMIT)
    messages = [line["message"] for line in result.lines if line["event"] == "warning"]
    assert ["--output-text" in one for one in messages] == [False, True]
