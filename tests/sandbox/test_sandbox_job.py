"""The life of a sandbox job, its response object, and what its metadata chooses."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Personality, Sandbox
from oaibg.sandbox.job.events import timeline
from oaibg.sandbox.job.job import new_job
from oaibg.sandbox.schema_sample import sample
from sandbox_client import LONG, create, end, events, refused, request

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI


# --- life and response object --------------------------------------------------------------


def test_a_background_create_returns_a_queued_response(http: httpx2.Client) -> None:
    """The reply has an ID in the API's format, no output and no usage yet."""
    answer = http.post("/responses", json=request())
    body = answer.json()
    assert (answer.status_code, body["status"], body["output"]) == (200, "queued", [])
    assert body["usage"] is None
    assert len(body["id"]) == len("resp_") + 50
    assert len(answer.headers["x-request-id"]) == len("req_") + 32


def test_a_job_goes_from_queued_to_in_progress_to_completed(sandbox: Sandbox, sdk: OpenAI) -> None:
    """A job passes all three statuses in order, and every reply parses strictly."""
    metadata = {"sandbox_seconds": str(LONG)}
    job = sdk.responses.create(model="gpt-5.2", input="Hi", background=True, metadata=metadata)
    seen = [job.status]
    for _ in range(3):
        job = sdk.responses.retrieve(job.id)
        seen.append(job.status)
        sandbox.jobs[job.id].created -= LONG / 2
    assert seen == ["queued", "queued", "in_progress", "completed"]
    assert job.output_text == 'The sandbox has no model to ask. You said: "Hi"'
    assert [item.type for item in job.output] == ["reasoning", "message"]
    assert job.usage is not None
    assert job.usage.total_tokens == job.usage.input_tokens + job.usage.output_tokens
    assert job.completed_at is not None


def test_the_status_of_a_job_only_depends_on_the_time() -> None:
    """A job is queued for a third of its duration, and a cancel holds from its own time on."""
    job = new_job(request(), now=100.0, seconds=30.0)
    times = (100.0, 109.9, 110.0, 129.9, 130.0)
    assert [job.status(now) for now in times] == [
        "queued",
        "queued",
        "in_progress",
        "in_progress",
        "completed",
    ]
    assert job.cancel(115.0)
    assert [job.status(now) for now in (114.9, 115.0, 130.0)] == [
        "in_progress",
        "cancelled",
        "cancelled",
    ]
    assert [event["type"] for _, event in timeline(job)][-1] == "response.failed"


def test_the_response_echoes_the_request_with_defaults(http: httpx2.Client) -> None:
    """Given settings return unchanged; the others have the API's defaults."""
    tool = {"type": "function", "name": "find", "parameters": {"type": "object"}}
    job = create(
        http,
        instructions="Be brief.",
        metadata={"a": "b"},
        reasoning={"effort": "high"},
        text={"verbosity": "low"},
        tools=[tool],
        temperature=0.5,
        max_output_tokens=100,
        background_options={"completion_window": "2h"},
    )
    assert job["instructions"] == "Be brief."
    assert job["metadata"] == {"a": "b"}
    assert job["reasoning"] == {"effort": "high", "summary": None}
    assert job["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert job["tools"] == [{**tool, "description": None, "strict": True}]
    assert (job["temperature"], job["top_p"], job["max_output_tokens"]) == (0.5, 1.0, 100)
    assert (job["store"], job["background"], job["truncation"]) == (True, True, "disabled")
    assert (job["tool_choice"], job["parallel_tool_calls"]) == ("auto", True)
    assert job["billing"] == {"payer": "developer"}
    assert "background_options" not in job


def test_the_echo_of_many_settings_parses_strictly(sdk: OpenAI) -> None:
    """Tools, formats and options of several kinds match the SDK's types."""
    first = sdk.responses.create(model="gpt-5.2", input="Hi", background=True)
    job = sdk.responses.create(
        model="gpt-5.2",
        input=[{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        background=True,
        previous_response_id=first.id,
        reasoning={"effort": "xhigh", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        tools=[
            {"type": "web_search"},
            {"type": "function", "name": "f", "parameters": {}, "strict": False},
        ],
        tool_choice={"type": "function", "name": "f"},
        service_tier="fast",
        truncation="auto",
        store=False,
        user="me",
    )
    assert job.previous_response_id == first.id
    assert job.service_tier == "priority"


def test_without_background_the_reply_comes_at_the_end(sdk: OpenAI) -> None:
    """A create without background mode returns the completed response when the job ends."""
    begun = time.monotonic()
    job = sdk.responses.create(model="gpt-5.2", input="Hi", metadata={"sandbox_seconds": "0.1"})
    assert (job.status, job.background) == ("completed", False)
    assert time.monotonic() - begun >= 0.1


# --- metadata ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "text"), [("failed", ""), ("incomplete", "some"), ("cancelled", "")]
)
def test_metadata_chooses_how_a_job_ends(
    http: httpx2.Client, sdk: OpenAI, outcome: str, text: str
) -> None:
    """`sandbox_outcome` sets the status; an incomplete job has a reason and partial output."""
    metadata = {"sandbox_outcome": outcome, "sandbox_text": "someness", "sandbox_seconds": "0"}
    job = sdk.responses.retrieve(create(http, metadata=metadata)["id"])
    assert (job.status, job.output_text) == (outcome, text)
    assert (job.error is not None) == (outcome == "failed")
    assert (job.incomplete_details is not None) == (outcome == "incomplete")
    if outcome == "incomplete":
        assert [getattr(item, "status", None) for item in job.output] == [None, "incomplete"]


def test_metadata_makes_a_job_expire_or_get_stuck(http: httpx2.Client) -> None:
    """`expired` is a status that the SDK's type lacks; a stuck job never ends."""
    jobs = [
        create(http, metadata={"sandbox_outcome": outcome, "sandbox_seconds": "0.01"})["id"]
        for outcome in ("expired", "stuck")
    ]
    time.sleep(0.03)
    statuses = [http.get(f"/responses/{job}").json()["status"] for job in jobs]
    assert statuses == ["expired", "in_progress"]


@pytest.mark.parametrize("size", [0, 1, 70, 100_001])
def test_metadata_chooses_the_size_of_the_text(http: httpx2.Client, size: int) -> None:
    """`sandbox_bytes` sets the exact size of the output text in bytes."""
    job = end(http, create(http, metadata={"sandbox_bytes": str(size)})["id"])
    assert len(job["output"][1]["content"][0]["text"].encode()) == size


def test_metadata_makes_a_job_complete_without_a_text(http: httpx2.Client) -> None:
    """With `sandbox_empty`, the output only contains the reasoning item."""
    job = end(http, create(http, metadata={"sandbox_empty": "true"})["id"])
    assert (job["status"], [item["type"] for item in job["output"]]) == ("completed", ["reasoning"])


@pytest.mark.parametrize("text", ["\x1b[31m[red]", "a\u2028b\x85c\u202e", "lone \ud800", "🙂é\r\n"])
def test_hostile_texts_return_unchanged(http: httpx2.Client, text: str) -> None:
    """Control characters and lone surrogates survive in the response and in the deltas."""
    body = json.dumps(request(stream=True, metadata={"sandbox_text": text}))
    streamed = events(http.post("/responses", content=body).text)
    deltas = [one["delta"] for one in streamed if one["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text
    assert streamed[-1]["response"]["output"][1]["content"][0]["text"] == text


def test_metadata_makes_a_job_search_the_web(sdk: OpenAI) -> None:
    """The web searches come between the reasoning and the message, and parse strictly."""
    job = sdk.responses.create(
        model="m", input="Hi", metadata={"sandbox_tools": "2", "sandbox_seconds": "0"}
    )
    assert [item.type for item in job.output] == [
        *("reasoning", "web_search_call", "web_search_call", "message")
    ]
    assert len({item.id for item in job.output}) == 4
    assert job.output_text


def test_partial_output_contains_the_searches(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A server with partial output shows the searches together with part of the text."""
    sandbox.become(Personality(partial=True, statuses="in_progress"))
    job = create(http, metadata={"sandbox_tools": "1", "sandbox_seconds": str(LONG)})
    assert [item["type"] for item in job["output"]] == ["reasoning", "web_search_call", "message"]


def test_a_job_can_search_without_an_answer(http: httpx2.Client) -> None:
    """The output of a job with searches and `sandbox_empty` ends with the searches."""
    metadata = {"sandbox_tools": "1", "sandbox_empty": "true"}
    job = end(http, create(http, metadata=metadata)["id"])
    assert [item["type"] for item in job["output"]] == ["reasoning", "web_search_call"]


@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "1001", "²"])
def test_an_invalid_number_of_searches_is_refused(http: httpx2.Client, value: str) -> None:
    """An invalid `sandbox_tools` gets 400 with the parameter `metadata`."""
    body = json.dumps(request(metadata={"sandbox_tools": value}))
    answer = http.post("/responses", content=body)
    assert (answer.status_code, refused(answer)["param"]) == (400, "metadata")


# --- structured output ---------------------------------------------------------------------


def test_structured_output_matches_its_schema(http: httpx2.Client) -> None:
    """Required keys, enums, unions, references, bounds and recursive schemas are supported."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 10},
            "size": {"type": "integer", "minimum": 3},
            "depth": {"type": "number", "exclusiveMaximum": -1},
            "kind": {"enum": ["x", "y"]},
            "one": {"const": 1},
            "on": {"type": "boolean"},
            "maybe": {"type": ["string", "null"]},
            "list": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "minItems": 2},
            "tree": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "required": ["name", "size", "depth", "kind", "one", "on", "maybe", "list", "tree"],
        "$defs": {"leaf": {"type": "object", "properties": {"a": {"type": "array"}}}},
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "name": "all", "schema": schema}
    job = end(http, create(http, text={"format": wanted})["id"])
    assert job["text"]["format"] == {"description": None, "strict": True, **wanted}
    assert json.loads(job["output"][1]["content"][0]["text"]) == {
        "name": "sandbox...",
        "size": 3,
        "depth": -2,
        "kind": "x",
        "one": 1,
        "on": False,
        "maybe": None,
        "list": [{}, {}],
        "tree": None,
    }


def test_an_endless_schema_is_cut_off() -> None:
    """A required reference to itself and odd schemas become None instead of a hang."""
    itself = {letter: {"$ref": "#"} for letter in "abcdefghij"}
    endless = {"type": "object", "properties": itself, "required": list(itself)}
    assert sample(endless) == dict.fromkeys(itself, dict.fromkeys(itself))
    odd: list[object] = [True, {}, {"$ref": "#/nowhere"}, {"type": []}]
    assert [sample(schema) for schema in odd] == [None] * 4
