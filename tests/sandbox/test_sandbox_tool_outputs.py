"""A create that continues a response with open calls, and the items of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox_batches import end as end_batch
from sandbox_batches import line, read, start
from sandbox_client import LONG, create, end, refused, request

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

NOTHING: dict[str, Any] = {"role": "user", "content": "Go on."}
KINDS: dict[str, tuple[str, str, str, str]] = {
    "function_call": (
        "call_id",
        "function_call_output",
        "No tool output found for function call {}.",
        "No tool call found for function call output with call_id {}.",
    ),
    "custom_tool_call": (
        "call_id",
        "custom_tool_call_output",
        "No tool output found for custom tool call {}.",
        "No tool call found for custom tool call output with call_id {}.",
    ),
    "approval": (
        "id",
        "mcp_approval_response",
        "No approval response found for MCP approval request {}.",
        "No approval request found for MCP approval response with approval_request_id {}.",
    ),
}
"""Of each outcome: the key of the call's ID, the type that answers it, and the errors."""


def answer_to(outcome: str, call_id: str) -> dict[str, Any]:
    """Return the input item that answers a call."""
    kind = KINDS[outcome][1]
    if outcome == "approval":
        return {"type": kind, "approval_request_id": call_id, "approve": True}
    return {"type": kind, "call_id": call_id, "output": "22 degrees"}


def open_call(http: httpx2.Client, outcome: str) -> tuple[str, str]:
    """Create a job that ends with a call; return its ID and that of the call."""
    metadata = {"sandbox_outcome": outcome, "sandbox_seconds": "0"}
    job = end(http, create(http, metadata=metadata)["id"])
    return job["id"], job["output"][-1][KINDS[outcome][0]]


@pytest.mark.parametrize("outcome", KINDS)
def test_a_create_that_answers_the_call_completes(
    http: httpx2.Client, sdk: OpenAI, outcome: str
) -> None:
    """The next response has the outcome of its own metadata, and its input is listed."""
    previous, call_id = open_call(http, outcome)
    given = [answer_to(outcome, call_id), NOTHING]
    job = end(http, create(http, previous_response_id=previous, input=given)["id"])
    assert [item["type"] for item in job["output"]] == ["reasoning", "message"]
    listed = sdk.responses.input_items.list(job["id"], order="asc").data
    assert [item.type for item in listed] == [KINDS[outcome][1], "message"]


@pytest.mark.parametrize("given", [None, "Go on.", [], [NOTHING]])
@pytest.mark.parametrize("outcome", KINDS)
def test_an_open_call_needs_its_output(http: httpx2.Client, outcome: str, given: object) -> None:
    """Without the output of the call, a create gets 400, and creates no job."""
    previous, call_id = open_call(http, outcome)
    answer = http.post("/responses", json=request(previous_response_id=previous, input=given))
    error = refused(answer)
    assert (answer.status_code, error["message"]) == (400, KINDS[outcome][2].format(call_id))
    assert (error["type"], error["param"]) == ("invalid_request_error", "input")


@pytest.mark.parametrize("outcome", KINDS)
def test_an_output_needs_its_call(http: httpx2.Client, outcome: str) -> None:
    """An output with another ID gets 400, after a response with a call, without one, and alone."""
    previous, call_id = open_call(http, outcome)
    plain = end(http, create(http)["id"])["id"]
    odd = answer_to(outcome, "call_odd")
    for before, given in (
        (previous, [answer_to(outcome, call_id), odd]),
        (plain, [odd]),
        (None, [odd]),
    ):
        answer = http.post("/responses", json=request(previous_response_id=before, input=given))
        assert answer.status_code == 400
        assert refused(answer)["message"] == KINDS[outcome][3].format("call_odd")


def test_an_output_may_follow_its_call_in_the_input(http: httpx2.Client) -> None:
    """The whole conversation can be sent, without a previous response; each call needs its output.

    The items are those of an output, as a client sends them back.
    """
    job = end(http, create(http, metadata={"sandbox_outcome": "function_call"})["id"])
    given = [{"role": "user", "content": "Hi"}, *job["output"]]
    call_id = job["output"][-1]["call_id"]
    assert create(http, input=[*given, answer_to("function_call", call_id)])["status"] == "queued"
    answer = http.post("/responses", json=request(input=given))
    assert answer.status_code == 400
    assert refused(answer)["message"] == f"No tool output found for function call {call_id}."


def test_an_output_may_answer_a_referenced_call(http: httpx2.Client) -> None:
    """The sandbox can't know the calls behind references, so it accepts any output with one."""
    given = [{"type": "item_reference", "id": "fc_1"}, answer_to("function_call", "call_1")]
    assert create(http, input=given)["status"] == "queued"


def test_a_call_can_follow_the_output_of_a_call(http: httpx2.Client) -> None:
    """Several rounds of calls are possible; each response has a call of its own."""
    job, first = open_call(http, "function_call")
    metadata = {"sandbox_outcome": "function_call", "sandbox_seconds": "0"}
    given = [answer_to("function_call", first)]
    following = create(http, previous_response_id=job, input=given, metadata=metadata)["id"]
    second = end(http, following)["output"][-1]["call_id"]
    assert second != first
    given = [answer_to("function_call", second)]
    last = end(http, create(http, previous_response_id=following, input=given)["id"])
    assert "22 degrees" in last["output"][-1]["content"][0]["text"]


def test_a_response_without_a_call_can_be_continued(http: httpx2.Client) -> None:
    """A job that still runs, failed or was cancelled has no open call."""
    metadata = {"sandbox_outcome": "function_call", "sandbox_seconds": str(LONG)}
    running = create(http, metadata=metadata)["id"]
    assert create(http, previous_response_id=running)["status"] == "queued"
    http.post(f"/responses/{running}/cancel")
    assert create(http, previous_response_id=running)["status"] == "queued"


def test_a_line_of_a_batch_must_answer_the_call(http: httpx2.Client, sdk: OpenAI) -> None:
    """A line that continues a response is checked as a create is."""
    previous, call_id = open_call(http, "function_call")
    given = [answer_to("function_call", call_id)]
    requests = [
        line("good", previous_response_id=previous, input=given),
        line("bad", previous_response_id=previous),
    ]
    batch = end_batch(sdk, start(sdk, requests))
    assert set(read(sdk, batch.output_file_id)) == {"good"}
    error = read(sdk, batch.error_file_id)["bad"]["response"]
    assert error["status_code"] == 400
    assert call_id in error["body"]["error"]["message"]


@pytest.mark.parametrize(
    ("item", "param", "code"),
    [
        ({"type": "function_call_output", "output": "x"}, "call_id", "missing_required_parameter"),
        (
            {"type": "custom_tool_call_output", "call_id": "c"},
            *("output", "missing_required_parameter"),
        ),
        ({"type": "function_call_output", "call_id": "c", "output": {}}, "output", "invalid_type"),
        ({"type": "function_call_output", "call_id": 1, "output": "x"}, "call_id", "invalid_type"),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "odd"}]},
            *("output[0].type", "invalid_value"),
        ),
        (
            {"type": "mcp_approval_response", "approval_request_id": "m", "approve": "yes"},
            *("approve", "invalid_type"),
        ),
        ({"type": "function_call", "call_id": "c", "name": "f"}, "arguments", None),
        ({"type": "item_reference"}, "id", "missing_required_parameter"),
        ({"type": ["message"]}, "type", "invalid_type"),
    ],
)
def test_an_invalid_item_is_refused(
    http: httpx2.Client, item: dict[str, Any], param: str, code: str | None
) -> None:
    """The 400 names the field; nothing is checked that the API doesn't require."""
    answer = http.post("/responses", json=request(input=[item]))
    error = refused(answer)
    assert (answer.status_code, error["param"]) == (400, f"input[0].{param}")
    assert error["code"] == (code or "missing_required_parameter")


def test_an_output_may_have_parts(http: httpx2.Client) -> None:
    """The output of a tool can be a list of texts, images and files."""
    previous, call_id = open_call(http, "function_call")
    parts = [{"type": "input_text", "text": "x"}, {"type": "input_image", "file_id": "file-1"}]
    item = {"type": "function_call_output", "call_id": call_id, "output": parts}
    job = create(http, previous_response_id=previous, input=[item])
    assert job["previous_response_id"] == previous
