"""The sandbox answers as the API does, and fails as it is told: over real HTTP on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import typing
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI, OpenAI
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from oaibg.sandbox import PERSONALITIES, Fault, Personality, Sandbox
from oaibg.sandbox.checks.create import KNOWN_PARAMETERS
from oaibg.sandbox.faults import parse_faults
from oaibg.sandbox.job.events import timeline
from oaibg.sandbox.job.job import new_job
from oaibg.sandbox.personality import CHOICES
from oaibg.sandbox.schema_sample import sample
from sandbox_client import LONG, command, create, end, events, refused, request

if typing.TYPE_CHECKING:
    from pathlib import Path

# --- what it answers -----------------------------------------------------------------------


def test_a_background_create_is_answered_at_once_as_queued(http: httpx2.Client) -> None:
    """200, an id of the API's shape, no output and no usage yet."""
    answer = http.post("/responses", json=request())
    body = answer.json()
    assert (answer.status_code, body["status"], body["output"]) == (200, "queued", [])
    assert body["usage"] is None
    assert len(body["id"]) == len("resp_") + 50
    assert len(answer.headers["x-request-id"]) == len("req_") + 32


def test_a_job_goes_from_queued_to_in_progress_to_completed(sandbox: Sandbox, sdk: OpenAI) -> None:
    """All three are seen in order, and every answer parses strictly."""
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


def test_the_life_of_a_job_depends_on_the_time_alone() -> None:
    """A third of it queued, then in progress; a cancel holds from when it came."""
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


def test_the_request_is_echoed_with_the_defaults_filled_in(http: httpx2.Client) -> None:
    """Given settings come back as they were; others with the API's defaults."""
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}}
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
    """Tools, formats and options of several kinds fit the SDK's own types."""
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


@pytest.mark.parametrize(
    ("outcome", "text"), [("failed", ""), ("incomplete", "some"), ("cancelled", "")]
)
def test_metadata_chooses_how_a_job_ends(
    http: httpx2.Client, sdk: OpenAI, outcome: str, text: str
) -> None:
    """The status, its reason, and the partial output that an incomplete one has."""
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
    """To the byte."""
    job = end(http, create(http, metadata={"sandbox_bytes": str(size)})["id"])
    assert len(job["output"][1]["content"][0]["text"].encode()) == size


def test_metadata_makes_a_job_complete_without_a_text(http: httpx2.Client) -> None:
    """Only the reasoning item is left."""
    job = end(http, create(http, metadata={"sandbox_empty": "true"})["id"])
    assert (job["status"], [item["type"] for item in job["output"]]) == ("completed", ["reasoning"])


@pytest.mark.parametrize("text", ["\x1b[31m[red]", "a\u2028b\x85c\u202e", "lone \ud800", "🙂é\r\n"])
def test_hostile_texts_come_back_exactly(http: httpx2.Client, text: str) -> None:
    """In the response and in the deltas of the stream, lone surrogates too."""
    body = json.dumps(request(stream=True, metadata={"sandbox_text": text}))
    streamed = events(http.post("/responses", content=body).text)
    deltas = [one["delta"] for one in streamed if one["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text
    assert streamed[-1]["response"]["output"][1]["content"][0]["text"] == text


def test_structured_output_fits_its_schema(http: httpx2.Client) -> None:
    """Required keys, enums, unions, references, bounds, and a recursive schema that ends."""
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


def test_a_schema_that_cannot_end_is_cut_off() -> None:
    """A required reference to itself does not hang the sandbox, nor do odd schemas."""
    itself = {letter: {"$ref": "#"} for letter in "abcdefghij"}
    endless = {"type": "object", "properties": itself, "required": list(itself)}
    assert sample(endless) == dict.fromkeys(itself, dict.fromkeys(itself))
    odd: list[object] = [True, {}, {"$ref": "#/nowhere"}, {"type": []}]
    assert [sample(schema) for schema in odd] == [None] * 4


def test_without_background_the_answer_comes_at_the_end(sdk: OpenAI) -> None:
    """It is complete, and took as long as the job."""
    begun = time.monotonic()
    job = sdk.responses.create(model="gpt-5.2", input="Hi", metadata={"sandbox_seconds": "0.1"})
    assert (job.status, job.background) == ("completed", False)
    assert time.monotonic() - begun >= 0.1


def test_input_items_are_listed_newest_first_in_pages(http: httpx2.Client, sdk: OpenAI) -> None:
    """Plain texts have become parts; every item parses strictly."""
    given = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
    ]
    job = create(http, input=given)["id"]
    listed = http.get(f"/responses/{job}/input_items", params={"limit": 2}).json()
    texts = [item["content"][0]["text"] for item in listed["data"]]
    assert (texts, listed["has_more"]) == (["three", "two"], True)
    rest = sdk.responses.input_items.list(job, after=listed["last_id"])
    assert [item.type for item in rest.data] == ["message"]
    assert len(sdk.responses.input_items.list(job, order="asc").data) == 3


def test_a_deleted_or_forgotten_response_is_not_found(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """By the API's own delete, and by the sandbox letting go of it."""
    deleted, forgotten = create(http)["id"], create(http)["id"]
    answer = http.delete(f"/responses/{deleted}").json()
    assert answer == {"id": deleted, "object": "response", "deleted": True}
    sandbox.forget(forgotten)
    for job in (deleted, forgotten):
        answer = http.get(f"/responses/{job}")
        assert answer.status_code == 404
        assert refused(answer)["message"] == f"Response with id '{job}' not found."


# --- cancel --------------------------------------------------------------------------------


def test_cancel_holds_while_a_job_runs_and_stays(http: httpx2.Client, sdk: OpenAI) -> None:
    """200 `cancelled`, again unchanged, and so it is retrieved."""
    job = create(http, metadata={"sandbox_seconds": str(LONG)})["id"]
    answers = [sdk.responses.cancel(job), sdk.responses.cancel(job), sdk.responses.retrieve(job)]
    assert [answer.status for answer in answers] == ["cancelled"] * 3
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("outcome", ["completed", "failed", "incomplete", "expired"])
def test_cancel_is_refused_once_a_job_has_ended(http: httpx2.Client, outcome: str) -> None:
    """400, and the job stays as it is."""
    metadata = {"sandbox_outcome": outcome, "sandbox_seconds": "0"}
    job = create(http, metadata=metadata)["id"]
    answer = http.post(f"/responses/{job}/cancel")
    assert answer.status_code == 400
    assert refused(answer)["message"] == "Cannot cancel a completed response."
    assert end(http, job)["status"] == outcome


def test_cancel_of_unknown_and_synchronous_responses(http: httpx2.Client) -> None:
    """404 and 400."""
    assert http.post("/responses/resp_none/cancel").status_code == 404
    job = create(http, background=None, metadata={"sandbox_seconds": "0"})["id"]
    assert http.post(f"/responses/{job}/cancel").status_code == 400


# --- what it refuses -----------------------------------------------------------------------

LONG_KEY = "k" * 65
SCHEMA_TEXT = {"format": {"type": "json_schema", "name": "n"}}
ODD_SCHEMA_TEXT = {"format": {"type": "json_schema", "name": "n", "schema": {"enum": 5}}}


def with_part(part: Any) -> dict[str, Any]:
    """The change to a request whose input has one part."""
    return {"input": [{"role": "user", "content": [part]}]}


PDF_URL = "data:application/pdf;base64,JVBERi0="
PART = "input[0].content[0]"


@pytest.mark.parametrize(
    ("part", "key", "code"),
    [
        ("text", "", "invalid_type"),
        ({"text": "x"}, ".type", "missing_required_parameter"),
        ({"type": "text", "text": "x"}, ".type", "invalid_value"),
        ({"type": "input_text"}, ".text", "missing_required_parameter"),
        ({"type": "input_text", "text": 5}, ".text", "invalid_type"),
        ({"type": "input_text", "text": "x" * 10485761}, ".text", "string_above_max_length"),
        ({"type": "input_image"}, ".image_url", "missing_required_parameter"),
        ({"type": "input_image", "image_url": {"url": "x"}}, ".image_url", "invalid_type"),
        ({"type": "input_image", "image_url": "cat.png"}, ".image_url", "invalid_value"),
        ({"type": "input_image", "image_url": PDF_URL}, ".image_url", "invalid_value"),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,%"},
            ".image_url",
            "invalid_value",
        ),
        ({"type": "input_image", "file_id": "f", "detail": "fine"}, ".detail", "invalid_value"),
        ({"type": "input_file", "filename": "a.pdf"}, ".file_data", "missing_required_parameter"),
        ({"type": "input_file", "file_data": "JVBERi0="}, ".file_data", "invalid_value"),
        ({"type": "input_file", "file_url": PDF_URL}, ".file_url", "invalid_value"),
    ],
)
def test_a_bad_part_is_refused_by_its_place(
    sandbox: Sandbox, http: httpx2.Client, part: Any, key: str, code: str
) -> None:
    """400 that names the part's field, and no job."""
    answer = http.post("/responses", json=request(**with_part(part)))
    error = refused(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, PART + key, code)
    assert sandbox.jobs == {}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_text", "text": ""},
        {"type": "input_image", "image_url": "https://example.com/cat.png"},
        {"type": "input_image", "image_url": "data:image/gif;base64,R0lG", "detail": "high"},
        {"type": "input_image", "file_id": "file-x"},
        {"type": "input_file", "filename": "a.pdf", "file_data": PDF_URL},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    ],
)
def test_good_parts_are_taken(http: httpx2.Client, part: Any) -> None:
    """Texts, and images and files by address, by content or by id."""
    assert http.post("/responses", json=request(**with_part(part))).status_code == 200


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
        ({"input": 5}, "input", "invalid_type"),
        ({"background": "yes"}, "background", "invalid_type"),
        ({"max_output_tokens": True}, "max_output_tokens", "invalid_type"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value"),
        ({"text": SCHEMA_TEXT}, "text.format.schema", "missing_required_parameter"),
        ({"text": ODD_SCHEMA_TEXT}, "text.format.schema", "invalid_json_schema"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({"metadata": {LONG_KEY: ""}}, "metadata", "property_name_above_max_length"),
        ({"metadata": {"a": "v" * 513}}, "metadata.a", "string_above_max_length"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"metadata": {"sandbox_outcome": "odd"}}, "metadata", "invalid_value"),
        ({"metadata": {"sandbox_seconds": "nan"}}, "metadata", "invalid_value"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"tools": [{"name": "f"}]}, "tools[0].type", "missing_required_parameter"),
        (
            {"background_options": {"completion_window": "1h"}},
            "background_options.completion_window",
            "invalid_value",
        ),
        (
            {"background_options": {"completion_window": "2h"}, "stream": True},
            "background_options.completion_window",
            None,
        ),
        (
            {"background_options": {"completion_window": "2h"}, "background": None},
            "background_options",
            None,
        ),
        (
            {"previous_response_id": "resp_none"},
            "previous_response_id",
            "previous_response_not_found",
        ),
    ],
)
def test_a_bad_create_is_refused_by_the_parameter(
    sandbox: Sandbox, http: httpx2.Client, changes: dict[str, Any], param: str, code: str | None
) -> None:
    """400 with the API's envelope, and no job."""
    answer = http.post("/responses", json=request(**changes))
    error = refused(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"
    assert sandbox.jobs == {}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"model": NaN}', b"\xff", b"[" * 9999]
)
def test_a_body_that_is_no_json_object_is_refused(http: httpx2.Client, body: bytes) -> None:
    """400, never a crash."""
    answer = http.post("/responses", content=body)
    assert answer.status_code == 400
    assert refused(answer)["type"] == "invalid_request_error"


def test_the_known_parameters_are_those_of_the_sdk() -> None:
    """So that a newer SDK's parameters are noticed."""
    known = {
        *typing.get_type_hints(ResponseCreateParamsNonStreaming),
        *typing.get_type_hints(ResponseCreateParamsStreaming),
    }
    assert known == KNOWN_PARAMETERS


def test_an_unknown_model_is_not_found(sdk: OpenAI) -> None:
    """404 `model_not_found`."""
    with pytest.raises(APIStatusError) as caught:
        sdk.responses.create(model="missing-model", input="Hi", background=True)
    assert (caught.value.status_code, caught.value.code) == (404, "model_not_found")


def test_a_key_is_never_needed_but_can_be_refused(sandbox: Sandbox, http: httpx2.Client) -> None:
    """One that begins with `invalid` gives 401; neither the answer nor the log shows it."""
    answer = http.get("/responses/x", headers={"authorization": "Bearer invalid-hush"})
    assert (answer.status_code, refused(answer)["code"]) == (401, "invalid_api_key")
    assert "hush" not in answer.text
    assert sandbox.requests[-1].headers["authorization"] == "Bearer ***"
    assert create(http)["status"] == "queued"
    assert "authorization" not in sandbox.requests[-1].headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/responses", 405), ("PUT", "/responses/x", 405)],
)
def test_other_paths_and_methods_get_the_envelope(
    http: httpx2.Client, method: str, path: str, status: int
) -> None:
    """As of the API itself."""
    answer = http.request(method, path)
    assert (answer.status_code, refused(answer)["type"]) == (status, "invalid_request_error")


def test_the_log_keeps_requests_in_order(sandbox: Sandbox, http: httpx2.Client) -> None:
    """With what was sent, what was answered, and the job that it is about."""
    job = create(http)["id"]
    http.get(f"/responses/{job}", params={"include": "x"})
    http.get("/responses/none")
    post, get, lost = sandbox.requests
    assert (post.method, post.path, post.status, post.response_id) == (
        "POST",
        "/v1/responses",
        200,
        job,
    )
    assert post.body == request() == json.loads(post.raw_body)
    assert (get.path, get.query, get.body) == (f"/v1/responses/{job}", {"include": "x"}, None)
    assert (lost.status, lost.response_id) == (404, "none")
    assert sandbox.posts == [post]
    assert post.at <= get.at <= lost.at <= time.time()


# --- streams -------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["completed", "failed", "incomplete", "cancelled"])
def test_every_stream_event_parses_strictly(sdk: OpenAI, outcome: str) -> None:
    """Each is of the SDK's own types, numbered from 0, and the last one tells the end."""
    kinds = get_args(get_args(ResponseStreamEvent)[0])
    stream = sdk.responses.create(
        model="gpt-5.2",
        input="Hi",
        background=True,
        stream=True,
        metadata={"sandbox_outcome": outcome},
    )
    seen = list(stream)
    assert all(type(event) in kinds for event in seen)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    types = [event.type for event in seen]
    assert types[:3] == ["response.created", "response.queued", "response.in_progress"]
    ends = {"cancelled": "response.failed"}
    assert types[-1] == ends.get(outcome, f"response.{outcome}")
    last = seen[-1]
    assert last.type in ("response.completed", "response.failed", "response.incomplete")
    assert last.response.status == outcome


def test_a_stream_tells_the_items_of_the_output(http: httpx2.Client) -> None:
    """Reasoning, then the message, its part, its deltas, and all of them done."""
    streamed = events(http.post("/responses", json=request(stream=True)).text)
    types = [one["type"].removeprefix("response.") for one in streamed]
    assert list(dict.fromkeys(types)) == [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "output_item.done",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "completed",
    ]
    assert types.count("output_text.delta") > 3
    items = [one["item"] for one in streamed if one["type"] == "response.output_item.done"]
    assert items == streamed[-1]["response"]["output"]


async def _follow(sandbox: Sandbox) -> tuple[list[int], float]:
    async with AsyncOpenAI(
        base_url=sandbox.base_url,
        api_key="sandbox",
        max_retries=0,
        timeout=5,
        _strict_response_validation=True,
    ) as sdk:
        job = await sdk.responses.create(
            model="gpt-5.2",
            input="Hi",
            background=True,
            stream=True,
            metadata={"sandbox_seconds": "0.3"},
        )
        first = await anext(aiter(job))
        assert first.type == "response.created"
        await job.close()
        begun = time.monotonic()
        rest = await sdk.responses.retrieve(first.response.id, stream=True, starting_after=0)
        return [event.sequence_number async for event in rest], time.monotonic() - begun


def test_a_reader_that_left_resumes_live_after_what_it_has(sandbox: Sandbox) -> None:
    """Its going stopped nothing, the rest comes in time with the job, without gap or repeat."""
    import asyncio

    numbers, took = asyncio.run(_follow(sandbox))
    assert numbers == list(range(1, numbers[-1] + 1))
    assert took > 0.2
    assert [job.status(time.time()) for job in sandbox.jobs.values()] == ["completed"]


def test_every_reader_sees_the_same_events(http: httpx2.Client) -> None:
    """Live, from the beginning once it is over, and from anywhere."""
    live = events(http.post("/responses", json=request(stream=True)).text)
    url = f"/responses/{live[0]['response']['id']}"
    assert events(http.get(url, params={"stream": "true"}).text) == live
    later = http.get(url, params={"stream": "true", "starting_after": 7}).text
    assert events(later) == live[8:]
    past = http.get(url, params={"stream": "true", "starting_after": 99})
    assert (past.status_code, past.text) == (200, "")


def test_a_cancel_reaches_the_readers_of_a_stream(http: httpx2.Client) -> None:
    """It ends in `response.failed` with the status cancelled, for all readers alike."""
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    with http.stream("POST", "/responses", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        job = json.loads(next(lines).removeprefix("data: "))["response"]["id"]
        assert http.post(f"/responses/{job}/cancel").json()["status"] == "cancelled"
        last = [line for line in lines if line.startswith("data: ")][-1]
    event = json.loads(last.removeprefix("data: "))
    assert (event["type"], event["response"]["status"]) == ("response.failed", "cancelled")
    replay = events(http.get(f"/responses/{job}", params={"stream": "true"}).text)
    assert [one["sequence_number"] for one in replay] == [0, 1, 2]
    assert replay[-1] == event


def test_a_job_without_stream_cannot_be_streamed(http: httpx2.Client) -> None:
    """400; so is a `starting_after` that is no number."""
    plain, streamed = create(http)["id"], http.post("/responses", json=request(stream=True)).text
    assert http.get(f"/responses/{plain}", params={"stream": "true"}).status_code == 400
    job = events(streamed)[0]["response"]["id"]
    bad = http.get(f"/responses/{job}", params={"stream": "true", "starting_after": "x"})
    assert (bad.status_code, refused(bad)["param"]) == (400, "starting_after")


# --- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, None),
        (401, "invalid_api_key"),
        (403, "unsupported_country_region_territory"),
        (404, None),
        (418, None),
        (429, "rate_limit_exceeded"),
        (500, None),
        (503, "server_is_overloaded"),
        (599, None),
    ],
)
def test_status_answers_as_the_api_does(
    sandbox: Sandbox, http: httpx2.Client, status: int, code: str | None
) -> None:
    """The usual error of that status; nothing took effect."""
    sandbox.script(Fault(on="create", kind="status", status=status))
    answer = http.post("/responses", json=request())
    assert (answer.status_code, refused(answer)["code"]) == (status, code)
    assert (sandbox.jobs, sandbox.posts[0].status) == ({}, status)


def test_status_takes_a_body_and_headers(sandbox: Sandbox, http: httpx2.Client) -> None:
    """JSON or raw; gateways' statuses are HTML on their own."""
    quota = {"error": {"message": "m", "type": "t", "param": None, "code": "insufficient_quota"}}
    sandbox.script(
        Fault(kind="status", status=429, body=quota, headers={"Retry-After": "7"}),
        Fault(kind="status", status=500, body="", headers={"Content-Type": "text/plain"}),
        Fault(kind="status", status=502),
    )
    first, second, third = (http.get("/responses/x") for _ in range(3))
    assert (first.json(), first.headers["retry-after"]) == (quota, "7")
    assert (second.status_code, second.text) == (500, "")
    assert second.headers.get_list("content-type") == ["text/plain"]
    assert (third.status_code, third.headers["content-type"]) == (502, "text/html; charset=utf-8")


@pytest.mark.parametrize(("kind", "jobs"), [("reset_before", 0), ("reset_after", 1)])
def test_reset_aborts_the_connection(
    sandbox: Sandbox, http: httpx2.Client, kind: str, jobs: int
) -> None:
    """A real reset, before or after the job was created; unanswered in the log."""
    sandbox.script(Fault(on="create", kind=kind))
    with pytest.raises(httpx2.ReadError, match="reset"):
        http.post("/responses", json=request())
    assert len(sandbox.jobs) == jobs
    assert [post.status for post in sandbox.posts] == [None]
    assert create(http)["status"] == "queued"


@pytest.mark.parametrize(("kind", "jobs"), [("hang_before", 0), ("hang_after", 1)])
def test_hang_never_answers(sandbox: Sandbox, http: httpx2.Client, kind: str, jobs: int) -> None:
    """Until the client gives up; the job was created or not."""
    sandbox.script(Fault(on="create", kind=kind))
    with pytest.raises(httpx2.ReadTimeout):
        http.post("/responses", json=request(), timeout=0.1)
    assert (len(sandbox.jobs), sandbox.posts[0].status) == (jobs, None)


@pytest.mark.parametrize("kind", ["hang_before", "hang_after", "delay"])
def test_a_wait_with_seconds_ends_in_the_answer(
    sandbox: Sandbox, http: httpx2.Client, kind: str
) -> None:
    """Late, and as if nothing had been."""
    sandbox.script(Fault(kind=kind, seconds=0.1))
    begun = time.monotonic()
    assert create(http)["status"] == "queued"
    assert 0.1 <= time.monotonic() - begun < 2


def test_drip_sends_byte_by_byte(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The right answer, over a long time."""
    whole = http.get("/responses/x").content
    sandbox.script(Fault(on="retrieve", kind="drip", seconds=0.0005))
    with http.stream("GET", "/responses/x") as answer:
        pieces = list(answer.iter_raw())
    assert b"".join(pieces) == whole
    assert len(pieces) > len(whole) / 2


@pytest.mark.parametrize("after", [None, 0, 10])
def test_truncate_breaks_off_the_body(
    sandbox: Sandbox, http: httpx2.Client, after: int | None
) -> None:
    """The length promised is not kept; the job was created all the same."""
    sandbox.script(Fault(on="create", kind="truncate", after=after))
    with (
        pytest.raises(httpx2.RemoteProtocolError, match="without sending complete"),
        http.stream("POST", "/responses", json=request()) as answer,
    ):
        answer.read()
    assert (len(sandbox.jobs), sandbox.posts[0].status) == (1, 200)


def test_truncate_breaks_off_a_stream(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Without the end of its last chunk."""
    sandbox.script(Fault(on="stream", kind="truncate", after=100))
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post("/responses", json=request(stream=True))


def test_html_and_raw_hide_the_answer(sandbox: Sandbox, http: httpx2.Client) -> None:
    """200 with something else; both jobs were created."""
    sandbox.script(Fault(kind="html"), Fault(kind="raw", body='{"id": '))
    page, raw = (http.post("/responses", json=request()) for _ in range(2))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (raw.status_code, raw.text) == (200, '{"id": ')
    assert len(sandbox.jobs) == 2


def test_cut_ends_a_stream_early(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Without any error; the job goes on, and the rest can be read."""
    sandbox.script(Fault(on="stream", kind="cut", after=2))
    head = events(http.post("/responses", json=request(stream=True)).text)
    url = f"/responses/{head[0]['response']['id']}"
    tail = events(http.get(url, params={"stream": "true", "starting_after": 1}).text)
    assert [one["sequence_number"] for one in head] == [0, 1]
    assert (tail[0]["sequence_number"], tail[-1]["type"]) == (2, "response.completed")


def test_plain_ignores_that_a_stream_was_asked_for(sandbox: Sandbox, http: httpx2.Client) -> None:
    """JSON for the create and for the retrieve; the latter of any job."""
    sandbox.script(Fault(on="stream", kind="plain", times=2))
    answer = http.post("/responses", json=request(stream=True))
    assert (answer.headers["content-type"], answer.json()["status"]) == (
        "application/json",
        "queued",
    )
    job = create(http)["id"]
    assert http.get(f"/responses/{job}", params={"stream": "true"}).json()["id"] == job


@pytest.mark.parametrize("seconds", [None, 0.05])
def test_silent_stops_a_stream_and_keeps_it_open(
    sandbox: Sandbox, http: httpx2.Client, seconds: float | None
) -> None:
    """For ever, or for some seconds."""
    sandbox.script(Fault(on="stream", kind="silent", after=1, seconds=seconds))
    lines: list[str] = []
    with http.stream("POST", "/responses", json=request(stream=True), timeout=0.3) as answer:
        try:
            lines += answer.iter_lines()
        except httpx2.ReadTimeout:
            assert seconds is None
        else:
            assert len(lines) == 3
            assert seconds is not None


def test_faults_come_in_order_and_as_often_as_said(sandbox: Sandbox, http: httpx2.Client) -> None:
    """`skip` lets requests pass, `times` counts, 0 is for ever, and the rest is untouched."""
    job = create(http)["id"]
    sandbox.script(
        Fault(on="retrieve", kind="status", status=500, skip=1, times=2),
        Fault(on="retrieve", kind="status", status=503, skip=1),
        Fault(on="cancel", kind="status", status=501, times=0),
        Fault(on="any", kind="status", status=418, response_id="other"),
    )
    seen = [http.get(f"/responses/{job}").status_code for _ in range(5)]
    assert seen == [200, 500, 500, 503, 200]
    assert {http.post(f"/responses/{job}/cancel").status_code for _ in range(4)} == {501}
    told = [one.fault for one in sandbox.requests if one.method == "GET"]
    assert told == [None, "status", "status", "status", None]
    assert http.get("/responses/other").status_code == 418
    assert http.get("/responses/other").status_code == 404


def test_a_stream_fault_leaves_polls_alone(sandbox: Sandbox, http: httpx2.Client) -> None:
    """And a retrieve fault leaves streams alone."""
    sandbox.script(Fault(kind="cut"), Fault(on="retrieve", kind="status", status=500))
    streamed = http.post("/responses", json=request(stream=True))
    assert (streamed.status_code, streamed.text) == (200, "")
    (job,) = sandbox.jobs
    assert http.get(f"/responses/{job}", params={"stream": "true"}).status_code == 200
    assert http.get(f"/responses/{job}").status_code == 500


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "expected a JSON array of faults"),
        ([1], "fault 1: expected a JSON object"),
        ([{}], "fault 1: kind is required"),
        ([{"kind": "delay"}, {"kind": "odd"}], "fault 2: kind must be one of"),
        ([{"kind": "delay", "colour": 1}], "fault 1: unknown field 'colour'"),
        ([{"kind": "delay", "on": "poll"}], "fault 1: on must be one of"),
        ([{"kind": "delay", "times": -1}], "fault 1: times must be a whole number"),
        ([{"kind": "delay", "skip": True}], "fault 1: skip must be a whole number"),
        ([{"kind": "delay", "seconds": "1"}], "fault 1: seconds must be a number"),
        ([{"kind": "status", "status": 99}], "fault 1: status must be 200 to 599"),
        (
            [{"kind": "status", "status": 204}],
            r"fault 1: status must be .* \(except 204 and 304\), not",
        ),
        ([{"kind": "status", "headers": {"a b": ""}}], "fault 1: headers must be valid HTTP"),
        (
            [{"kind": "status", "headers": {"Content-Length": "1"}}],
            "fault 1: headers can't contain C",
        ),
        ([{"kind": "cut", "on": "retrieve"}], "fault 1: on must be create, stream or any"),
        ([{"kind": "raw"}], "fault 1: body is required for the kind raw"),
        ([{"kind": "delay", "response_id": 5}], "fault 1: response_id must be a string"),
    ],
)
def test_faults_that_make_no_sense_are_refused(value: object, message: str) -> None:
    """With the number of the fault and the field."""
    with pytest.raises(ValueError, match=message):
        parse_faults(value)


# --- personalities -------------------------------------------------------------------------


def text_of(response: dict[str, Any]) -> str:
    """Return the text of a response's message."""
    return "".join(item["content"][0]["text"] for item in response["output"] if "content" in item)


def test_every_difference_is_in_a_named_personality() -> None:
    """Each choice of each field, but for the statuses of refused cancels."""
    for name in Personality.__dataclass_fields__:
        seen = {getattr(one, name) for one in PERSONALITIES.values()}
        assert len(seen) > 1, name
        assert name == "cancel_status" or seen >= set(CHOICES.get(name, ())), name
    assert next(iter(PERSONALITIES.values())) == Personality()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids": "short"}, "ids must be one of openai, uuid, long, not 'short'"),
        ({"statuses": "completed"}, "statuses must be one of"),
        ({"errors": "html"}, "errors must be one of"),
        ({"not_found": 410}, "not_found must be one of 404, 400, not 410"),
        ({"cancel": "late"}, "cancel must be one of"),
        ({"cancel_status": 500}, "cancel_status must be one of"),
    ],
)
def test_personalities_that_make_no_sense_are_refused(fields: Any, message: str) -> None:
    """With the name of the field."""
    with pytest.raises(ValueError, match=message):
        Personality(**fields)


def test_an_unknown_personality_is_refused(sandbox: Sandbox, http: httpx2.Client) -> None:
    """With the names that there are, and nothing has changed."""
    names = "openai, gateway, minimal, eager, stubborn"
    with pytest.raises(ValueError, match=names), Sandbox.running(personality="nobody"):
        pass
    with pytest.raises(ValueError, match=names):
        sandbox.become("nobody")
    assert create(http)["id"].startswith("resp_")


def test_a_sandbox_goes_back_to_the_personality_of_its_start() -> None:
    """A cleared one is as it was; until then it is what it has become, for old jobs too."""
    with (
        Sandbox.running(seconds=LONG, personality="minimal") as sandbox,
        httpx2.Client(base_url=sandbox.base_url, trust_env=False) as http,
    ):
        first = create(http)
        sandbox.become(Personality(ids="long", statuses="in_progress"))
        second = create(http)
        shown = http.get(f"/responses/{first['id']}").json()
        sandbox.clear()
        third = create(http)
    assert [len(job["id"]) for job in (first, second, third)] == [36, 428, 36]
    assert [job.get("usage", "none") for job in (first, second, third)] == ["none", None, "none"]
    assert (shown["id"], shown["status"]) == (first["id"], "in_progress")


@pytest.mark.parametrize(
    ("ids", "shape"),
    [
        ("openai", r"resp_[0-9a-f]{50}"),
        ("uuid", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("long", r"[A-Za-z][A-Za-z0-9_-]{420,440}="),
    ],
)
def test_ids_have_their_shape(sandbox: Sandbox, http: httpx2.Client, ids: str, shape: str) -> None:
    """Each is another one, and stays what it is."""
    sandbox.become(Personality(ids=ids))
    first, second = create(http)["id"], create(http)["id"]
    assert first != second
    assert re.fullmatch(shape, first)
    assert http.get(f"/responses/{first}").json()["id"] == first
    assert list(sandbox.jobs) == [first, second]


def test_a_job_is_found_by_every_id_that_it_was_given(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """Where ids change: by retrieves, cancels, later creates, and until it is let go of."""
    sandbox.become(Personality(ids="uuid", changing_ids=True))
    ids = [create(http, metadata={"sandbox_seconds": str(LONG), "n": "1"})["id"]]
    for _ in range(3):
        answer = http.get(f"/responses/{ids[-1]}").json()
        assert answer["metadata"]["n"] == "1"
        ids.append(answer["id"])
    ids.append(http.post(f"/responses/{ids[2]}/cancel").json()["id"])
    assert len(set(ids)) == 5
    assert [http.get(f"/responses/{one}").json()["status"] for one in ids] == ["cancelled"] * 5
    create(http, previous_response_id=ids[3])
    assert len(sandbox.jobs) == 2
    sandbox.forget(ids[1])
    assert [http.get(f"/responses/{one}").status_code for one in ids] == [404] * 5
    assert http.post("/responses", json=request(previous_response_id=ids[3])).status_code == 400


def test_sparse_payloads_have_little(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Id and status, and at the end the output."""
    sandbox.become(Personality(sparse=True))
    job = create(http)
    assert list(job) == ["id", "status"]
    ended = end(http, job["id"])
    assert list(ended) == ["id", "status", "output"]
    assert text_of(ended)


def test_output_is_null_until_the_end(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A list from then on, also an empty one."""
    sandbox.become(Personality(null_output=True))
    job = create(http)
    assert job["output"] is None
    assert text_of(end(http, job["id"]))
    failed = create(http, metadata={"sandbox_outcome": "failed", "sandbox_seconds": "0"})
    assert end(http, failed["id"])["output"] == []


@pytest.mark.parametrize("statuses", ["queued", "in_progress"])
def test_running_jobs_have_one_status(sandbox: Sandbox, http: httpx2.Client, statuses: str) -> None:
    """From the create to the end."""
    sandbox.become(Personality(statuses=statuses))
    job = create(http)
    seen = [job["status"]]
    while seen[-1] != "completed":
        seen.append(http.get(f"/responses/{job['id']}").json()["status"])
    assert set(seen[:-1]) == {statuses}


def test_partial_output_is_seen_while_a_job_runs(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A part of the text, once the job is in progress; all of it at the end."""
    sandbox.become(Personality(partial=True))
    job = create(http, metadata={"sandbox_text": "someness", "sandbox_seconds": str(LONG)})["id"]
    url = f"/responses/{job}"
    seen = [http.get(url).json()]
    sandbox.jobs[job].created -= LONG / 2
    seen.append(http.get(url).json())
    sandbox.jobs[job].created -= LONG
    seen.append(http.get(url).json())
    assert [(one["status"], text_of(one)) for one in seen] == [
        ("queued", ""),
        ("in_progress", "some"),
        ("completed", "someness"),
    ]
    sandbox.become(Personality(partial=True, statuses="in_progress", sparse=True))
    assert text_of(create(http, metadata={"sandbox_text": "abcd"})) == "ab"


def test_incomplete_jobs_have_the_servers_reason(sandbox: Sandbox, http: httpx2.Client) -> None:
    """In place of the API's."""
    sandbox.become(Personality(incomplete_reason="too_long"))
    metadata = {"sandbox_outcome": "incomplete", "sandbox_seconds": "0"}
    ended = end(http, create(http, metadata=metadata)["id"])
    assert ended["incomplete_details"] == {"reason": "too_long"}


MISSING = "Response with id 'none' not found."
NO_ROLE = "Missing required parameter: 'input[0].role'."
NO_ROLE_LISTED = [
    {"loc": ["body", "input", 0, "role"], "msg": NO_ROLE, "type": "missing_required_parameter"}
]


def enveloped(message: str, **fields: object) -> dict[str, object]:
    """Return the usual error body."""
    usual = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": {**usual, **fields}}


@pytest.mark.parametrize(
    ("errors", "missing", "status", "refused_field"),
    [
        (
            "envelope",
            enveloped(MISSING),
            400,
            enveloped(NO_ROLE, param="input[0].role", code="missing_required_parameter"),
        ),
        (
            "number",
            enveloped(MISSING, code=404),
            400,
            enveloped(NO_ROLE, param="input[0].role", code=400),
        ),
        ("text", {"error": MISSING}, 400, {"error": NO_ROLE}),
        ("detail", {"detail": MISSING}, 422, {"detail": NO_ROLE_LISTED}),
        ("plain", MISSING, 400, NO_ROLE),
    ],
)
def test_error_bodies_have_their_shape(
    sandbox: Sandbox,
    http: httpx2.Client,
    errors: str,
    missing: object,
    status: int,
    refused_field: object,
) -> None:
    """Of retrieves and creates alike, and of scripted ones that have no body of their own."""

    def body(answer: httpx2.Response) -> object:
        plain = answer.headers["content-type"] == "text/plain; charset=utf-8"
        return answer.text if plain else answer.json()

    sandbox.become(Personality(errors=errors))
    lost = http.get("/responses/none")
    bad = http.post("/responses", json=request(input=[{"content": "x"}]))
    assert (lost.status_code, body(lost)) == (404, missing)
    assert (bad.status_code, body(bad)) == (status, refused_field)
    sandbox.script(
        Fault(kind="status", status=418),
        Fault(kind="status", status=418, body={"own": 1}),
        Fault(kind="status", status=502),
        Fault(kind="raw", body="own"),
    )
    usual, own, page, raw = (http.get("/responses/none") for _ in range(4))
    assert usual.status_code == 418
    assert usual.headers["content-type"] == lost.headers["content-type"]
    assert "teapot" in usual.text.lower()
    assert (own.json(), page.text[:6], raw.text) == ({"own": 1}, "<html>", "own")


@pytest.mark.parametrize("status", [404, 400])
def test_not_found_has_its_status(sandbox: Sandbox, http: httpx2.Client, status: int) -> None:
    """For a retrieve and a cancel; an unknown path is 404 all the same."""
    sandbox.become(Personality(not_found=status))
    assert http.get("/responses/none").status_code == status
    assert http.post("/responses/none/cancel").status_code == status
    assert http.get("/nothing").status_code == 404


@pytest.mark.parametrize("status", [400, 404, 409, 501])
def test_cancels_are_refused_with_their_status(
    sandbox: Sandbox, http: httpx2.Client, status: int
) -> None:
    """The job goes on, and completes."""
    sandbox.become(Personality(cancel="refused", cancel_status=status))
    job = create(http)["id"]
    answer = http.post(f"/responses/{job}/cancel")
    assert answer.status_code == status
    assert refused(answer)["message"] == "This server does not cancel responses."
    assert end(http, job)["status"] == "completed"


def test_overtaken_cancels_hold_until_the_jobs_end(sandbox: Sandbox, http: httpx2.Client) -> None:
    """It is `cancelled` at first, and `completed` once its time is over; a stuck job stays."""
    sandbox.become(Personality(cancel="overtaken"))
    stuck = create(http, metadata={"sandbox_outcome": "stuck"})["id"]
    job = create(http, metadata={"sandbox_seconds": str(LONG)})["id"]
    for one in (stuck, job):
        assert http.post(f"/responses/{one}/cancel").json()["status"] == "cancelled"
    assert http.get(f"/responses/{job}").json()["status"] == "cancelled"
    sandbox.jobs[job].created -= LONG
    assert http.get(f"/responses/{job}").json()["status"] == "completed"
    assert http.get(f"/responses/{stuck}").json()["status"] == "cancelled"
    assert http.post(f"/responses/{job}/cancel").status_code == 400


def test_streams_have_the_personality_too(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The payloads in their events; what names no response is as ever."""
    sandbox.become(Personality(sparse=True, statuses="queued", ids="uuid", changing_ids=True))
    streamed = events(http.post("/responses", json=request(stream=True)).text)
    shown = [one["response"] for one in streamed if "response" in one]
    assert [one["status"] for one in shown] == ["queued"] * 3 + ["completed"]
    assert [one["sequence_number"] for one in streamed] == list(range(len(streamed)))
    assert list(shown[0]) == ["id", "status"]
    for one in shown:
        assert http.get(f"/responses/{one['id']}").json()["status"] == "completed"


# --- from other processes ------------------------------------------------------------------


def test_other_processes_steer_over_http(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Faults are scripted, requests read, and everything cleared; none of it is logged."""
    root = sandbox.base_url.removesuffix("/v1")
    script = [{"on": "create", "kind": "status", "status": 500}]
    assert http.post(f"{root}/sandbox/faults", json=script).json() == {"added": 1}
    assert http.post("/responses", json=request()).status_code == 500
    (logged,) = http.get(f"{root}/sandbox/requests").json()
    assert (logged["method"], logged["status"], logged["body"]) == ("POST", 500, request())
    assert logged["fault"] == "status"
    bad = http.post(f"{root}/sandbox/faults", json=[{"kind": "odd"}])
    assert bad.status_code == 400
    assert bad.json()["error"]["message"].startswith("fault 1: kind must be one of")
    assert http.post(f"{root}/sandbox/faults", content=b"{").status_code == 400
    assert http.delete(f"{root}/sandbox").status_code == 200
    assert (sandbox.requests, sandbox.jobs) == ([], {})


def test_it_ends_at_once_with_requests_still_hanging() -> None:
    """Clients see their connections break, and the thread is gone."""
    threads = threading.active_count()
    with ThreadPoolExecutor() as pool:
        with Sandbox.running(seconds=LONG) as sandbox:
            sandbox.script(
                Fault(kind="hang_before", on="cancel"),
                Fault(kind="silent", after=1),
                Fault(kind="delay", on="retrieve", seconds=LONG),
            )
            url = f"{sandbox.base_url}/responses"
            hanging = [
                pool.submit(httpx2.post, url, json=request(stream=True), timeout=5),
                pool.submit(httpx2.post, url, json=request(background=None), timeout=5),
                pool.submit(httpx2.post, f"{url}/x/cancel", timeout=5),
                pool.submit(httpx2.get, f"{url}/x", timeout=5),
            ]
            while len(sandbox.requests) < len(hanging):
                time.sleep(0.005)
            begun = time.monotonic()
        assert time.monotonic() - begun < 0.5
        assert all(isinstance(one.exception(), httpx2.TransportError) for one in hanging)
    assert threading.active_count() == threads


def test_a_taken_port_is_an_os_error() -> None:
    """Before anything was started."""
    with Sandbox.running() as first:
        port = int(first.base_url.split(":")[2].removesuffix("/v1"))
        with pytest.raises(OSError, match="in use"), Sandbox.running(port=port):
            pass


# --- the command ---------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_the_command_prints_two_lines_and_ends_on_a_signal(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """It accepts connections by then, logs a plain line a request, and leaves no traceback."""
    script = tmp_path / "faults.json"
    script.write_text('[{"kind": "hang_before", "on": "cancel"}]')
    with command("--seconds", "0", "--faults", str(script)) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        base_url = first.strip().removeprefix("export OPENAI_BASE_URL=")
        assert second == "export OPENAI_API_KEY=sandbox\n"
        job = httpx2.post(f"{base_url}/responses", json=request()).json()["id"]
        host, _, port = base_url.removeprefix("http://").removesuffix("/v1").partition(":")
        with socket.create_connection((host, int(port))) as hanging:
            hanging.sendall(b"POST /v1/responses/x/cancel HTTP/1.1\r\nhost: x\r\n\r\n")
            time.sleep(0.1)
            begun = time.monotonic()
            process.send_signal(number)
            out, err = process.communicate(timeout=5)
            assert time.monotonic() - begun < 1
    assert (process.returncode, out) == (code, "")
    assert err.splitlines() == [
        f"POST /v1/responses 200 {job}",
        "POST /v1/responses/x/cancel no reply x",
    ]


@pytest.mark.process
def test_the_command_takes_a_personality() -> None:
    """By its name."""
    with command("--personality", "minimal", "--quiet") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip().removeprefix("export OPENAI_BASE_URL=")
        answer = httpx2.post(f"{base_url}/responses", json=request(), trust_env=False)
        process.terminate()
        process.communicate(timeout=5)
    assert answer.json().keys() == {"id", "status", "output"}


@pytest.mark.process
def test_the_command_says_in_one_line_that_a_port_is_taken() -> None:
    """And exits 1."""
    with Sandbox.running() as sandbox:
        port = sandbox.base_url.split(":")[2].removesuffix("/v1")
        with command("--port", port) as process:
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert err == f"oaibg.sandbox: Can't listen on port {port}: Address already in use\n"


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--port", "x"],
        ["--seconds", "nan"],
        ["--faults", "/nowhere/f.json"],
        ["--personality", "nobody"],
    ],
)
def test_the_command_refuses_options_that_make_no_sense(arguments: list[str]) -> None:
    """Exit 2 and no traceback."""
    with command(*arguments) as process:
        _, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "Traceback" not in err


@pytest.mark.process
def test_the_command_says_which_extra_is_missing(tmp_path: Path) -> None:
    """One line and exit 2 where Starlette is not installed."""
    (tmp_path / "starlette.py").write_text('raise ModuleNotFoundError("no", name="starlette")')
    process = subprocess.run(
        [sys.executable, "-m", "oaibg.sandbox"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert "oaibg[sandbox]" in line
