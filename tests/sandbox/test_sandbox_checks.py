"""The sandbox refuses invalid creates of responses with the API's errors."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from openai import APIStatusError, OpenAI
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from oaibg.sandbox.checks.create import KNOWN_PARAMETERS
from sandbox_client import refused, request

if typing.TYPE_CHECKING:
    import httpx2

    from oaibg.sandbox import Sandbox

LONG_KEY = "k" * 65
SCHEMA_TEXT = {"format": {"type": "json_schema", "name": "n"}}
ODD_SCHEMA_TEXT = {"format": {"type": "json_schema", "name": "n", "schema": {"enum": 5}}}
PDF_URL = "data:application/pdf;base64,JVBERi0="
PART = "input[0].content[0]"


def with_part(part: Any) -> dict[str, Any]:
    """Return the change to a request that gives its input one content part."""
    return {"input": [{"role": "user", "content": [part]}]}


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
def test_an_invalid_part_is_refused_with_its_path(
    sandbox: Sandbox, http: httpx2.Client, part: Any, key: str, code: str
) -> None:
    """An invalid content part gets 400 with the path of the field, and creates no job."""
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
def test_valid_parts_are_accepted(http: httpx2.Client, part: Any) -> None:
    """Texts, and images and files by URL, content or ID, are valid parts."""
    assert http.post("/responses", json=request(**with_part(part))).status_code == 200


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"color": "red"}, "color", "unknown_parameter"),
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
def test_an_invalid_create_is_refused_with_the_parameter(
    sandbox: Sandbox, http: httpx2.Client, changes: dict[str, Any], param: str, code: str | None
) -> None:
    """An invalid parameter gets 400 with the API's error body, and creates no job."""
    answer = http.post("/responses", json=request(**changes))
    error = refused(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"
    assert sandbox.jobs == {}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"model": NaN}', b"\xff", b"[" * 9999]
)
def test_a_body_that_is_not_a_json_object_is_refused(http: httpx2.Client, body: bytes) -> None:
    """A body that is not a JSON object gets 400; it never crashes the server."""
    answer = http.post("/responses", content=body)
    assert answer.status_code == 400
    assert refused(answer)["type"] == "invalid_request_error"


def test_the_known_parameters_are_those_of_the_sdk() -> None:
    """The sandbox knows exactly the SDK's parameters, so a new one fails this test."""
    known = {
        *typing.get_type_hints(ResponseCreateParamsNonStreaming),
        *typing.get_type_hints(ResponseCreateParamsStreaming),
    }
    assert known == KNOWN_PARAMETERS


def test_an_unknown_model_is_not_found(sdk: OpenAI) -> None:
    """A create with an unknown model gets 404 with the code `model_not_found`."""
    with pytest.raises(APIStatusError) as caught:
        sdk.responses.create(model="missing-model", input="Hi", background=True)
    assert (caught.value.status_code, caught.value.code) == (404, "model_not_found")
