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
        "Response not found.",
        "No such response with id resp_1",
        "Object with id resp_1 not found",
        "response 3f2a9c0e-1b2c-4d5e-8f90-123456789abc was not found",
        "Unknown response: resp_1",
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
        "Invalid response: 502",
        "Invalid response 'err_500'",
        "Unknown response 500 from worker",
        "Invalid response 504 from origin",
        "No such response from the pool",
        "Response 502 not found",
        "Response req_12 not found",
        "Response schema not found",
        "Response not found yet, worker still writing",
        "Response was not found by worker, retrying",
        "request id req_123 not found",
        "Request with id 55f not found",
        "Session ID 55 does not exist",
        "trace id: 4f3 could not be found",
        "Project id proj_1 not found",
        "unknown id req_1",
    ],
)
def test_words_for_something_else(text: str) -> None:
    """A message about another response, key or token does not say that the job is missing."""
    assert not wording.says_missing(f"HTTP 400: {text}")


@pytest.mark.parametrize(
    ("code", "missing"),
    [("response_not_found", True), ("not_found", False), ("server_error", False)],
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
        ("requested tokens: 12000, limit: 10000", True),
        ("Your request has 12000 tokens, but the limit is 10000", True),
        ("Limit (10000) exceeded: Requested (12000)", True),
        ("Limit is set to 10000, Requested 12000", True),
        ("Limit 1M, Requested 1.2M", True),
        ("A maximum of 10k tokens; requested 12k", True),
        ("Limit 10 000, Requested 12 000", True),
        ("Limit 10 000, Requested 12", False),
        ("Limit 1M, Requested 900k", False),
        ("Limit 10000.0, Requested 1200.5", False),
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


@pytest.mark.parametrize(
    ("text", "route", "retrieve"),
    [
        ("an HTML page (Cannot GET /v1/responses/resp_1)", True, False),
        ("Invalid URL (GET /v1/responses/resp_1)", True, False),
        ("no Route matched with those values", True, False),
        ("Retrieving responses is not supported by this server", False, True),
        ("This server does not support retrieving responses", False, True),
        ("Background mode is not implemented", False, True),
        ("Not Found", False, False),
        ("404 page not found", False, False),
        ("Response with id 'resp_1' not found.", False, False),
        ("Getting the response from upstream is not supported yet", False, False),
        ("the upstream route was not found", False, False),
    ],
)
def test_words_for_a_server_without_retrieve(text: str, route: bool, retrieve: bool) -> None:
    """A server without a retrieve says so by its route or in words; a bare 404 does not."""
    said = f"HTTP 404: {text}"
    assert (wording.says_no_route(said), wording.says_no_retrieve(said)) == (route, retrieve)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("OpenAI's services are not available in your country.", True),
        ("This model is not available in your region.", True),
        ("User location is not supported for the API use.", True),
        ("unsupported country", True),
        ("not supported in your region", True),
        ("We do not serve requests from your country", True),
        ("Access from your region is blocked", True),
        ("RegionNotAllowed", True),
        ("unsupported_country_region_territory", True),
        ("country_not_supported", True),
        ("Unsupported value: 'user_location.country' is not supported", False),
        ("unsupported country code 'XX'", False),
        ("The model is not available", False),
    ],
)
def test_words_for_a_place_that_is_not_served(text: str, refused: bool) -> None:
    """A refused country or region is recognized in messages and codes."""
    assert wording.refuses_region(f"HTTP 403: {text}") == refused


@pytest.mark.parametrize(
    "text",
    [
        "Upstream request timed out",
        "The model provider closed the connection",
        "unexpected EOF",
        "stream disconnected before completion",
        "The stream was closed by upstream",
        "read: connection reset by peer",
        "The inference server did not answer",
        "context deadline exceeded",
        "bad status: 502",
        "No response received from backend",
        "No reply was received in time",
        "Empty response received",
        "Response deadline expired",
        "Worker exited unexpectedly",
        "Unable to reach the model server",
        "Could not connect to the engine",
        "Failed to parse model output",
        "failed to read response",
        "The model crashed",
        "socket closed",
        "Request aborted",
    ],
)
def test_words_that_blame_a_server_behind(text: str) -> None:
    """A failure behind the server is recognized, and never blamed on the request."""
    assert wording.blames_upstream(f"HTTP 400: {text}")
    assert not wording.blames_request(f"HTTP 400: {text}")
    assert not wording.blames_upstream("HTTP 502: Unknown parameter: 'x'.")


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
        wording.blames_upstream,
        wording.refuses_region,
        wording.says_no_retrieve,
    ):
        reads(long)
    assert time.process_time() - began < 5
