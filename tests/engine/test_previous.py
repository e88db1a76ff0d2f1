"""`--continue` finds the response to continue, and checks the tool results that are sent to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from outputs import APPROVAL, CALL, bring, completed, message
from runs import FAST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox.server import Sandbox
    from outputs import Item

RESULT: Item = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
APPROVED: Item = {
    "type": "mcp_approval_response",
    "approval_request_id": "mcpr_1",
    "approve": True,
}


@pytest.fixture
def waiting(run: Callable[..., Result], sandbox: Sandbox) -> Callable[..., str]:
    """Run a job with the key `k` and this output to its end; return its ID."""

    def start(*output: Item) -> str:
        bring(sandbox, completed(*output))
        identifier = run("submit", "--prompt", "x", "--job-key", "k", *FAST).id
        sandbox.requests.clear()
        return identifier

    return start


@pytest.fixture
def send(run: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """Continue a response with these input items; nothing waits for the new job."""

    def submit(name: str, *items: Item, dry: bool = True) -> Result:
        path = tmp_path / "results.json"
        path.write_text(json.dumps(items))
        flag = "--dry-run" if dry else "--detach"
        return run("submit", "--continue", name, "--input-json-file", str(path), flag)

    return submit


@pytest.mark.parametrize("by_key", [False, True])
def test_the_id_or_the_key(
    run: Callable[..., Result],
    sandbox: Sandbox,
    waiting: Callable[..., str],
    by_key: bool,
) -> None:
    """`--continue` takes the response ID or the job key; both become `previous_response_id`."""
    identifier = waiting(message("42"))
    result = run("submit", "--continue", "k" if by_key else identifier, "--prompt", "y", "--detach")
    assert result.code == 0
    assert sandbox.posts[-1].body["previous_response_id"] == identifier


def test_other_options_work_as_usual(
    run: Callable[..., Result], waiting: Callable[..., str], tmp_path: Path
) -> None:
    """Tools, a schema and attachments can be added."""
    waiting(message("42"))
    (tmp_path / "tools.json").write_text('[{"type": "web_search"}]')
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    (tmp_path / "note.txt").write_text("note")
    result = run(
        *("submit", "--continue", "k", "--prompt", "y", "--dry-run"),
        *("--tools-json-file", str(tmp_path / "tools.json")),
        *("--json-schema-file", str(tmp_path / "schema.json")),
        *("--attach", str(tmp_path / "note.txt")),
    )
    body = result.last["body"]
    assert body["tools"] == [{"type": "web_search"}]
    assert body["text"]["format"]["type"] == "json_schema"
    assert len(body["input"][0]["content"]) == 2


def test_results_of_all_calls(sandbox: Sandbox, waiting: Callable[..., str], send: Any) -> None:
    """Results for exactly the calls that wait are sent unchanged."""
    waiting(CALL, APPROVAL)
    assert send("k", RESULT, APPROVED).code == 0
    assert send("k", APPROVED, RESULT, {"role": "user", "content": "Be brief."}).code == 0


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([], "The input has no result for call_1, mcpr_1."),
        ([{"role": "user", "content": "Hello"}], "The input has no result for call_1, mcpr_1."),
        ([RESULT], "The input has no result for mcpr_1."),
        ([APPROVED], "The input has no result for call_1."),
        ([RESULT | {"call_id": "call_9"}], "Input[0] has the call_id 'call_9', which matches"),
        ([RESULT | {"call_id": "fc_1"}], "Input[0] has the call_id 'fc_1', which matches"),
        ([RESULT | {"call_id": "mcpr_1"}], "Input[0] answers mcpr_1, which needs the type mcp_app"),
        (
            [RESULT | {"type": "custom_tool_call_output"}],
            "Input[0] answers call_1, which needs the",
        ),
        ([RESULT | {"call_id": {}}], "Input[0] has the call_id {}, which matches no waiting call."),
        ([RESULT | {"call_id": 1}], "Input[0] has the call_id 1, which matches no waiting call."),
        (
            [{"type": "function_call_output", "output": "x"}],
            "Input[0] has no call_id. These calls",
        ),
        ([RESULT, RESULT, APPROVED], "Input[1] answers call_1 a second time."),
        ([RESULT, APPROVED | {"approval_request_id": "x"}], "Input[1] has the approval_request_id"),
        (
            [RESULT, {"type": "mcp_approval_response", "approve": True}],
            "Input[1] has no approval_request_id. These",
        ),
        ([{"type": "function_call_output", "call_id": "call_1"}], "Input[0] has no `output`."),
        ([{"type": "mcp_approval_response", "approval_request_id": "mcpr_1"}], "Input[0] has no"),
    ],
)
def test_results_that_do_not_fit(
    sandbox: Sandbox,
    waiting: Callable[..., str],
    send: Callable[..., Result],
    items: list[Item],
    problem: str,
) -> None:
    """A missing or unknown ID is a usage error that lists the calls that wait; nothing is sent."""
    identifier = waiting(CALL, APPROVAL)
    items = items or [{"role": "user", "content": "Hello"}]
    result = send("k", *items, dry=False)
    assert (result.code, sandbox.requests) == (2, [])
    error = result.last
    assert error["message"].startswith(problem)
    waits = f"These calls of {identifier} are waiting: call_1 (get_weather), mcpr_1 (delete)."
    assert error["message"].endswith(waits)
    assert '"call_id": "call_1"' in error["hint"]
    assert '"approval_request_id": "mcpr_1"' in error["hint"]


@pytest.mark.parametrize(
    ("call", "result", "needed"),
    [
        ({"type": "tool_search_call", "execution": "client"}, "tool_search_output", {"tools": []}),
        ({"type": "apply_patch_call"}, "apply_patch_call_output", {"status": "completed"}),
        ({"type": "custom_tool_call"}, "custom_tool_call_output", {"output": "…"}),
    ],
)
def test_results_in_other_forms(
    waiting: Callable[..., str],
    send: Callable[..., Result],
    call: Item,
    result: str,
    needed: Item,
) -> None:
    """The result of each type of call has the type and the keys that the API requires."""
    waiting(call | {"call_id": "call_2"})
    refused = send("k", {"role": "user", "content": "Hello"}).last["hint"]
    assert (
        json.dumps([{"type": result, "call_id": "call_2", **needed}], ensure_ascii=False) in refused
    )
    assert send("k", {"type": result, "call_id": "call_2"}).code == 2
    assert send("k", {"type": result, "call_id": "call_2", **needed}).code == 0


@pytest.mark.parametrize("key", ["id", "call_id"])
def test_result_of_a_local_shell(
    waiting: Callable[..., str], send: Callable[..., Result], key: str
) -> None:
    """The result of a local shell call may have the call's ID as its `id`, as the API documents."""
    waiting({"type": "local_shell_call", "id": "lsh_1", "call_id": "call_2"})
    assert send("k", {"type": "local_shell_call_output", key: "call_2", "output": "{}"}).code == 0


def test_odd_ids_of_calls(waiting: Callable[..., str], send: Any) -> None:
    """A call with a number as its ID can be answered; one without any ID needs no result."""
    identifier = waiting(CALL | {"call_id": 7}, {"type": "computer_call"})
    for number in (7, "7"):
        assert send(identifier, RESULT | {"call_id": number}).code == 0
    refused = send(identifier, {"role": "user", "content": "y"})
    assert (refused.code, "no result for 7" in refused.last["message"]) == (2, True)


def test_a_prompt_while_a_call_waits(
    run: Callable[..., Result], sandbox: Sandbox, waiting: Callable[..., str]
) -> None:
    """A prompt in place of the results is refused, because the API would refuse it."""
    waiting(CALL)
    result = run("submit", "--continue", "k", "--prompt", "Go on.")
    assert (result.code, sandbox.requests) == (2, [])
    assert "no result for call_1" in result.last["message"]


def test_results_when_nothing_waits(waiting: Callable[..., str], send: Any) -> None:
    """Results for a response without calls are refused."""
    identifier = waiting(message("42"))
    result = send("k", RESULT)
    assert result.code == 2
    assert result.last["message"].endswith(f". No call of {identifier} is waiting.")


def test_calls_and_their_results_in_one_input(waiting: Callable[..., str], send: Any) -> None:
    """An input may contain other calls together with their results."""
    waiting(message("42"))
    other = {"type": "function_call", "call_id": "call_9", "name": "f", "arguments": "{}"}
    assert send("k", other, RESULT | {"call_id": "call_9"}).code == 0


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("unknown-key", "has no job with the ID or key 'unknown-key'"),
        ("", "the value is empty"),
    ],
)
def test_an_unknown_name(
    run: Callable[..., Result], sandbox: Sandbox, name: str, problem: str
) -> None:
    """A name that is neither a known ID nor a known key is a usage error, and nothing is sent."""
    result = run("submit", "--continue", name, "--prompt", "x")
    assert (result.code, sandbox.requests) == (2, [])
    assert problem in result.last["message"]


def test_an_id_of_another_machine(run: Callable[..., Result]) -> None:
    """An ID of the API that the local state does not know is accepted without a check."""
    result = run("submit", "--continue", "resp_other", "--prompt", "x", "--dry-run")
    assert result.last["body"]["previous_response_id"] == "resp_other"


def test_a_response_of_another_server(
    run: Callable[..., Result],
    sandbox: Sandbox,
    waiting: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A response that was submitted to another base URL is not continued."""
    identifier = waiting(message("42"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    result = run("submit", "--continue", identifier, "--prompt", "x")
    assert (result.code, sandbox.requests) == (2, [])
    assert "was submitted to" in result.last["message"]


def test_two_ways_to_continue(run: Callable[..., Result]) -> None:
    """`--continue` and `--previous-response-id` can't be combined."""
    both = ("--continue", "resp_1", "--previous-response-id", "resp_1")
    result = run("submit", *both, "--prompt", "x")
    assert (result.code, "can't be combined" in result.last["message"]) == (2, True)


def test_a_run(run: Callable[..., Result], tmp_path: Path) -> None:
    """The key of a run names several jobs, so it can't be continued."""
    jobs = tmp_path / "jobs.jsonl"
    body = {"input": "x", "metadata": {"sandbox_seconds": "0"}}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    jobs.write_text(json.dumps(line))
    results = ("--results-file", str(tmp_path / "results.jsonl"), "--job-key", "run")
    assert run("submit", "--jobs-file", str(jobs), *results, *FAST).code == 0
    result = run("submit", "--continue", "run", "--prompt", "x")
    assert (result.code, "belongs to a run of 1 jobs" in result.last["message"]) == (2, True)
