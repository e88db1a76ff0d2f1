"""The sandbox refuses invalid creates of batches, and invalid input files fail a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from sandbox_batches import codes, counts, end, jsonl, line, lines, start, upload

if TYPE_CHECKING:
    from oaibg.sandbox import Sandbox

# --- input files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [("empty_file", None, None)]),
        (b" \n", [("empty_file", None, None)]),
        (b"{\n", [("invalid_json_line", 1, None)]),
        (jsonl(lines(1)) + b"\n" + jsonl([line("x")]), [("invalid_json_line", 2, None)]),
        (b"\xff\n", [("invalid_json_line", 1, None)]),
        (b"[" * 100_000, [("invalid_json_line", 1, None)]),
        (b'{"custom_id": NaN}', [("invalid_json_line", 1, None)]),
        (b"[]\n", [("invalid_json_line", 1, None)]),
        (jsonl(lines(2) + lines(1)), [("duplicate_custom_id", 3, "custom_id")]),
        (
            jsonl([{**line("a"), "custom_id": None}, {**line("b"), "custom_id": 7}]),
            [("missing_required_parameter", 1, "custom_id"), ("invalid_type", 2, "custom_id")],
        ),
        (
            jsonl([{**line("a"), "method": "GET"}, {**line("b"), "url": "/v1/chat/completions"}]),
            [("invalid_method", 1, "method"), ("invalid_url", 2, "url")],
        ),
        (
            jsonl([line("a"), {"custom_id": "b", "method": "POST", "url": "/v1/responses"}]),
            [("missing_required_parameter", 2, "body")],
        ),
        (
            jsonl([line("a"), line("b", model="gpt-5.1")]),
            [("mismatched_model", 2, "body.model")],
        ),
    ],
)
def test_an_invalid_input_file_fails_the_batch(
    sdk: OpenAI, content: bytes, expected: list[Any]
) -> None:
    """The batch lists the errors and their line numbers, and runs no line."""
    batch = end(sdk, start(sdk, content))
    assert codes(batch) == expected
    assert (batch.failed_at is not None, batch.in_progress_at) == (True, None)
    assert (counts(batch), batch.output_file_id, batch.error_file_id) == ((0, 0, 0), None, None)


def test_a_file_with_too_many_lines_fails_the_batch(sdk: OpenAI) -> None:
    """An input file with 50,001 lines fails the batch."""
    batch = end(sdk, start(sdk, b"{}\n" * 50_001))
    assert codes(batch) == [("too_many_requests", None, None)]


def test_a_batch_lists_its_first_hundred_errors(sdk: OpenAI) -> None:
    """A batch with 200 invalid lines lists the errors of lines 1 to 100."""
    batch = end(sdk, start(sdk, b"x\n" * 200))
    assert [number for _, number, _ in codes(batch)] == list(range(1, 101))


def test_the_last_line_break_is_optional(sdk: OpenAI) -> None:
    """Lines can end with CR LF, and the last one without a line break."""
    content = jsonl(lines(3)).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    assert counts(end(sdk, start(sdk, content))) == (3, 3, 0)


def test_metadata_makes_a_batch_fail_at_a_limit(sdk: OpenAI) -> None:
    """`sandbox_outcome=failed` fails a batch with the limit of enqueued tokens."""
    batch = end(sdk, start(sdk, lines(2), {"sandbox_outcome": "failed"}))
    assert codes(batch) == [("token_limit_exceeded", None, None)]


# --- creates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": 5}, "input_file_id"),
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"sandbox_outcome": "stuck"}}, "metadata"),
        ({"metadata": {"sandbox_seconds": "soon"}}, "metadata"),
        (
            {"output_expires_after": {"anchor": "now", "seconds": 3600}},
            "output_expires_after.anchor",
        ),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds",
        ),
        ({"color": "red"}, "color"),
    ],
)
def test_an_invalid_batch_is_refused_with_the_parameter(
    sandbox: Sandbox, sdk: OpenAI, changes: dict[str, Any], param: str
) -> None:
    """An invalid parameter gets 400 with the API's error body, and creates no batch."""
    usual = {
        "input_file_id": upload(sdk, jsonl(lines(1))),
        "endpoint": "/v1/responses",
        "completion_window": "24h",
    }
    with pytest.raises(BadRequestError) as caught:
        sdk.post("/batches", body={**usual, **changes}, cast_to=object)
    assert (caught.value.param, sandbox.batches) == (param, {})
    assert [post.status for post in sandbox.batch_posts] == [400]


def test_a_file_of_another_purpose_is_refused(sdk: OpenAI) -> None:
    """A batch of a file with the purpose `user_data` gets 400."""
    file = sdk.files.create(file=("in.jsonl", jsonl(lines(1))), purpose="user_data")
    with pytest.raises(BadRequestError, match="purpose"):
        sdk.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")


def test_an_unknown_batch_is_not_found(sdk: OpenAI) -> None:
    """A retrieve and a cancel of an unknown batch get 404."""
    for act in (sdk.batches.retrieve, sdk.batches.cancel):
        with pytest.raises(NotFoundError, match="No batch found with id 'batch_none'"):
            act("batch_none")
