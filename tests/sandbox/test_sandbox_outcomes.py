"""The outcomes of a sandbox job that complete: their output."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from openai.types.responses import Response

from oaibg.sandbox.job.metadata import OUTCOMES, STATUSES
from sandbox_batches import end as end_batch
from sandbox_batches import line, read, start
from sandbox_client import create, end, refused, request

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

COMPLETING = ("completed", *(name for name in OUTCOMES if name not in STATUSES))
ITEMS = {
    "function_call": ["reasoning", "function_call"],
    "custom_tool_call": ["reasoning", "custom_tool_call"],
    "approval": ["reasoning", "mcp_approval_request"],
    "image": ["reasoning", "image_generation_call"],
    "commentary": ["reasoning", "message", "message"],
    "file": ["reasoning", "code_interpreter_call", "message"],
}
"""The types of the output items of each outcome that has not only an answer."""


def ended(http: httpx2.Client, outcome: str, **changes: Any) -> dict[str, Any]:
    """Create a job with this outcome and return its response when it has ended."""
    metadata = {"sandbox_outcome": outcome, "sandbox_seconds": "0", **changes.pop("metadata", {})}
    return end(http, create(http, metadata=metadata, **changes)["id"])


# --- every outcome -------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", COMPLETING)
def test_every_outcome_completes_and_parses_strictly(http: httpx2.Client, outcome: str) -> None:
    """The job has the status `completed` and the items of its outcome, with IDs of their own."""
    job = ended(http, outcome)
    parsed = Response.model_validate(job, strict=True)
    assert (parsed.status, parsed.completed_at is None) == ("completed", False)
    assert [item.type for item in parsed.output] == ITEMS.get(outcome, ["reasoning", "message"])
    ids = [item["id"] for item in job["output"]]
    assert len(set(ids)) == len(ids)


def test_every_outcome_is_the_same_in_a_batch(sdk: OpenAI) -> None:
    """The result of a line has the output of its outcome, and parses strictly."""
    requests = [line(one, metadata={"sandbox_outcome": one}) for one in COMPLETING]
    results = read(sdk, end_batch(sdk, start(sdk, requests)).output_file_id)
    for outcome in COMPLETING:
        body = Response.model_validate(results[outcome]["response"]["body"], strict=True)
        assert [item.type for item in body.output] == ITEMS.get(outcome, ["reasoning", "message"])


def test_an_unknown_outcome_is_refused(http: httpx2.Client) -> None:
    """The message of the 400 lists the outcomes."""
    answer = http.post("/responses", json=request(metadata={"sandbox_outcome": "tool"}))
    assert answer.status_code == 400
    assert ", ".join(OUTCOMES) in refused(answer)["message"]


# --- single outcomes -----------------------------------------------------------------------


def test_a_function_call_fits_the_first_function(http: httpx2.Client) -> None:
    """The call has the function's name and arguments that match its schema."""
    parameters = {
        "type": "object",
        "properties": {"place": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        "required": ["place", "days"],
    }
    tools = [
        {"type": "web_search"},
        {"type": "function", "name": "forecast", "parameters": parameters},
        {"type": "function", "name": "other", "parameters": {}},
    ]
    call = ended(http, "function_call", tools=tools)["output"][1]
    jsonschema.validate(json.loads(call["arguments"]), parameters)
    assert (call["name"], call["status"]) == ("forecast", "completed")
    assert call["call_id"].startswith("call_")


def test_a_function_call_needs_no_tools(http: httpx2.Client) -> None:
    """Without `tools`, the call is one of `get_weather`; without `parameters`, it has none."""
    call = ended(http, "function_call")["output"][1]
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Paris"})
    call = ended(http, "function_call", tools=[{"type": "function", "name": "f"}])["output"][1]
    assert (call["name"], call["arguments"]) == ("f", "{}")


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "function", "name": "f", "parameters": {"anyOf": 1}}, "parameters"),
        ({"type": "function", "name": "f", "parameters": []}, "parameters"),
        ({"type": "custom"}, "name"),
        ({"type": "mcp", "server_url": "https://example.com"}, "server_label"),
    ],
)
def test_what_a_call_needs_of_a_tool_is_checked(
    http: httpx2.Client, tool: dict[str, Any], param: str
) -> None:
    """A malformed schema, or a tool without its name, gets 400 with the parameter."""
    answer = http.post("/responses", json=request(tools=[tool]))
    assert (answer.status_code, refused(answer)["param"]) == (400, f"tools[0].{param}")


@pytest.mark.parametrize(
    ("outcome", "key", "default", "tool"),
    [
        ("custom_tool_call", "name", "run_code", {"type": "custom", "name": "mine"}),
        (
            "approval",
            "server_label",
            "files",
            {"type": "mcp", "server_label": "mine", "server_url": "https://example.com"},
        ),
    ],
)
def test_a_call_names_the_first_tool_of_its_type(
    http: httpx2.Client, outcome: str, key: str, default: str, tool: dict[str, str]
) -> None:
    """A custom tool's call and a request for approval name the tool, or else a default."""
    function = {"type": "function", "name": "f"}
    assert ended(http, outcome, tools=[function])["output"][1][key] == default
    assert ended(http, outcome, tools=[function, tool])["output"][1][key] == "mine"


@pytest.mark.parametrize(
    ("metadata", "text"), [({}, "I can't help with that."), ({"sandbox_text": "No."}, "No.")]
)
def test_a_refusal_is_the_only_part(
    http: httpx2.Client, metadata: dict[str, str], text: str
) -> None:
    """The message has one part of the type `refusal`, and its text can be chosen."""
    message = ended(http, "refusal", metadata=metadata)["output"][1]
    assert message["content"] == [{"type": "refusal", "refusal": text}]


def test_an_image_is_a_valid_png(http: httpx2.Client) -> None:
    """The result is Base64 of a PNG file whose chunks have the right checksums."""
    image = ended(http, "image")["output"][1]
    content = base64.b64decode(image["result"], validate=True)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, place = {}, 8
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        data = content[place + 8 : place + 8 + size]
        (checksum,) = struct.unpack_from(">I", content, place + 8 + size)
        assert checksum == zlib.crc32(name + data)
        chunks[name], place = data, place + 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert len(zlib.decompress(chunks[b"IDAT"])) == 4
    assert (image["id"][:3], image["status"]) == ("ig_", "completed")


def test_a_commentary_comes_before_the_final_answer(http: httpx2.Client) -> None:
    """Both messages have a phase; the messages of other outcomes have none."""
    messages = ended(http, "commentary", metadata={"sandbox_text": "42"})["output"][1:]
    found = [(one["phase"], one["content"][0]["text"]) for one in messages]
    assert found == [("commentary", "I'll check the data first."), ("final_answer", "42")]
    assert "phase" not in ended(http, "completed")["output"][1]


def test_a_summary_is_part_of_the_reasoning(http: httpx2.Client) -> None:
    """The reasoning has two parts of a summary; that of other outcomes has none."""
    reasoning = ended(http, "summary")["output"][0]
    assert [part["type"] for part in reasoning["summary"]] == ["summary_text"] * 2
    assert ended(http, "completed")["output"][0]["summary"] == []
