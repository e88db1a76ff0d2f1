"""What a server's words mean."""

from __future__ import annotations

import time

import pytest

from oaibg.engine import wording

BLAMES_REQUEST = [
    "Invalid 'temperature': expected a value from 0 to 2.",
    "Unknown parameter: 'foo'.",
    "Invalid type for 'input': expected an array, but got an object instead.",
    "Invalid value: 'x'. Supported values are: 'low' and 'high'.",
    "Missing required parameter: 'text.format.name'.",
    "Completion window '2h' does not support streaming.",
    "Invalid 'input[0].image'. Expected a base64-encoded data URL.",
    "We could not parse the JSON body of your request.",
    "The body of the request must be a JSON object.",
    "Previous response with id 'resp_0' not found.",
    "model 'gpt-9' not found, try pulling it first",
    "The model `gpt-9` does not exist or you do not have access to it.",
    "gpt-9 is not a valid model ID",
    "The API deployment for this resource does not exist.",
    "temperature must be between 0 and 2",
    '[{"type":"missing","loc":["body","input"],"msg":"Field required"}]',
    '{"success":false,"field":"temperature","reason":"too high"}',
    "Unrecognized request argument supplied: reasoning",
    'Unknown name "reasoning": Cannot find field.',
    "Extra inputs are not permitted",
    "This model's maximum context length is 8192 tokens",
    "invalid JSON",
    "Streaming is not implemented",
    "Unsupported value (field: anything)",
]
BLAMES_NOBODY = [
    "",
    "Failed to get response from provider",
    "Provider returned error",
    "upstream error",
    "Bad Request",
    "Invalid request.",
    "Something went wrong",
    "Failed to parse JSON response",
    "Invalid JSON from upstream",
    "Unexpected token < in JSON at position 0",
    "Expecting value: line 1 column 1 (char 0)",
    "1 validation error for ModelResponse: field required",
    "missing field `id` at line 1 column 2",
    "The model is overloaded",
    "The model did not produce a valid response",
    "invalid model output",
    "Model call failed. Result not found",
    "stream disconnected before completion",
    "Failed to fetch metadata",
    "an HTML page (409 Conflict)",
    '{"success":false,"model":"gpt-5.2","temperature":1,"reason":"x"}',
    '[{"code":2005,"message":"Failed to get response from provider"}]',
]


@pytest.mark.parametrize("text", BLAMES_REQUEST)
def test_words_that_blame_the_request(text: str) -> None:
    """A message that names a field, the model or the body blames the request."""
    assert wording.blames_request(f"HTTP 400: {text}")


@pytest.mark.parametrize("text", BLAMES_NOBODY)
def test_words_that_do_not_blame_the_request(text: str) -> None:
    """A message that names nothing of the request may come from a server between."""
    assert not wording.blames_request(f"HTTP 400: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "Response with id 'resp_1' not found.",
        "The response with ID resp_1 was not found",
        "Response resp_1 does not exist",
        "response resp_1 no longer exists",
        "Response 'x' has expired",
        "Response not found",
        "No such response: 'resp_1'",
        "No response found with id resp_1",
        "No batch found with id 'batch_1'.",
        "unknown response id",
        "Invalid 'response_id': 'resp_1'.",
        "Invalid ID: 'resp_1'",
        "Could not find response resp_1",
        "response_id resp_1 not found",
    ],
)
def test_words_for_a_missing_response(text: str) -> None:
    """A message that says that this response does not exist is understood."""
    assert wording.says_missing(f"HTTP 400: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "An invalid response was received from the upstream server",
        "No response received from backend",
        "no response from upstream",
        "No response found from upstream",
        "No response within 30 s",
        "Response deadline expired",
        "Response body not found",
        "Invalid response",
        "Invalid ID token",
        "unknown response status",
        "Unknown response code 17",
        "Response format json_schema not found in registry",
        "The deployment was not found",
        "API key expired. Please renew the API key.",
    ],
)
def test_words_for_something_else(text: str) -> None:
    """A message about another response, key or token does not say that the job is missing."""
    assert not wording.says_missing(f"HTTP 400: {text}")


@pytest.mark.parametrize(
    ("code", "missing"),
    [("response_not_found", True), ("not_found_error", True), ("server_error", False)],
)
def test_codes_for_a_missing_response(code: str, missing: bool) -> None:
    """The code or the type alone may say that the response does not exist."""
    assert wording.says_missing("HTTP 400: Sorry.", code) == missing


@pytest.mark.parametrize(
    ("text", "exceeds"),
    [
        ("tokens per min (TPM): Limit 30000, Requested 342389.", True),
        ("for gpt-4o in organization org-a1: Limit 30,000, Used 1, Requested 42,389.", True),
        ("Limit: 30,000 / Requested: 342,389", True),
        ("Requested 50_000, limit 40_000", True),
        ("limit is 30000 tokens, but requested 342389", True),
        ("Request too large for gpt-5.2", True),
        ("Limit 30000, Used 29000, Requested 2000.", False),
        ("requests per min (RPM): Limit 3, Used 3, Requested 1", False),
        ("Request too large for now: Limit 30000, Requested 30000", False),
        ("Rate limit reached for gpt-4o", False),
    ],
)
def test_request_that_exceeds_a_limit_alone(text: str, exceeds: bool) -> None:
    """A rate limit's numbers say whether the request can ever fit."""
    assert wording.exceeds_limit(text) == exceeds


@pytest.mark.parametrize(
    ("text", "no_api"),
    [
        ("Not Found", True),
        ("404 page not found", True),
        ("Invalid URL (POST /v1/responses)", True),
        ("Cannot POST /responses", True),
        ("no Route matched with those values", True),
        ("Resource not found", True),
        ("Method Not Allowed", True),
        ("The requested model 'x' does not exist.", False),
        ("conversation not found", False),
    ],
)
def test_words_for_an_address_without_the_api(text: str, no_api: bool) -> None:
    """A 404 about the path is recognized in the wording of common servers."""
    assert wording.says_no_api(f"HTTP 404: {text}") == no_api


@pytest.mark.parametrize("text", ["response 1", "model ", "'input", "json ", "unknown id "])
def test_long_words_take_no_time(text: str) -> None:
    """The longest message that is kept is read without backtracking for long."""
    long = f"{text * (500 // len(text))}{'1' * 500}"
    began = time.process_time()
    for reads in (
        wording.says_missing,
        wording.blames_request,
        wording.says_no_api,
        wording.exceeds_limit,
    ):
        reads(long)
    assert time.process_time() - began < 5
