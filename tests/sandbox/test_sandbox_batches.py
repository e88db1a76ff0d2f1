"""The sandbox's files and batches behave as the API's: over real HTTP, with the SDK."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    BadRequestError,
    ConflictError,
    NotFoundError,
    OpenAI,
)
from openai.types.responses import Response

from oaibg.sandbox import Fault, Personality, Sandbox
from oaibg.sandbox.batch.batch import new_batch
from oaibg.sandbox.batch.batch_object import batch_object
from oaibg.sandbox.personality import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai.types import Batch
    from openai.types.batch_create_params import OutputExpiresAfter

LONG = 60.0
"""Seconds of a batch that only ends where a test moves its create into the past."""
SLOW = {"sandbox_seconds": str(LONG)}
ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, **changes: Any) -> dict[str, Any]:
    """Return one request of a batch, with changes to its body; None leaves a key out."""
    body = {"model": "gpt-5.2", "input": f"Say {custom_id}.", **changes}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/responses",
        "body": {key: value for key, value in body.items() if value is not None},
    }


def lines(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return that many requests."""
    return [line(f"r{number}", **changes) for number in range(count)]


def jsonl(requests: list[dict[str, Any]]) -> bytes:
    """Write requests as an input file has them."""
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


def upload(sdk: OpenAI, content: bytes) -> str:
    """Upload an input file, and return its id."""
    return sdk.files.create(file=("in.jsonl", content), purpose="batch").id


def start(
    sdk: OpenAI,
    requests: list[dict[str, Any]] | bytes,
    metadata: dict[str, str] | None = None,
) -> Batch:
    """Upload requests, and begin a batch of them."""
    content = requests if isinstance(requests, bytes) else jsonl(requests)
    return sdk.batches.create(
        input_file_id=upload(sdk, content),
        endpoint="/v1/responses",
        completion_window="24h",
        metadata=metadata,
    )


def end(sdk: OpenAI, batch: Batch) -> Batch:
    """Poll until the batch has ended."""
    while batch.status not in ENDED:
        time.sleep(0.005)
        batch = sdk.batches.retrieve(batch.id)
    return batch


def look(sandbox: Sandbox, sdk: OpenAI, batch: Batch, age: float) -> Batch:
    """Return the batch as it is that many seconds after its create."""
    sandbox.batches[batch.id].created = time.time() - age
    return sdk.batches.retrieve(batch.id)


def read(sdk: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """Return the lines of a batch's file by their custom ids; none of no file."""
    if file_id is None:
        return {}
    listed = [json.loads(one) for one in sdk.files.content(file_id).text.splitlines()]
    for one in listed:
        assert list(one) == ["id", "custom_id", "response", "error"]
        assert one["id"].startswith("batch_req_")
    assert len({one["id"] for one in listed}) == len(listed)
    return {one["custom_id"]: one for one in listed}


def counts(batch: Batch) -> tuple[int, int, int]:
    """Return how many lines there are, are completed, and have failed."""
    assert batch.request_counts is not None
    told = batch.request_counts
    return told.total, told.completed, told.failed


def codes(batch: Batch) -> list[tuple[str | None, int | None, str | None]]:
    """Return what a failed batch says is wrong: codes, lines and parameters."""
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.object == "list"
    return [(one.code, one.line, one.param) for one in batch.errors.data or []]


# --- files ---------------------------------------------------------------------------------


def test_an_upload_is_kept_as_it_was_sent(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Bytes of any kind, with its name and purpose; the log has these, and not the content."""
    content = bytes(range(256)) * 300 + b"\r\n--boundary--\r\n"
    file = sdk.files.create(file=("a b.bin", io.BytesIO(content)), purpose="user_data")
    assert re.fullmatch("file-[0-9A-Za-z]{22}", file.id)
    assert (file.filename, file.bytes, file.expires_at) == ("a b.bin", len(content), None)
    assert sdk.files.content(file.id).content == content
    assert sdk.files.retrieve(file.id) == file
    (post,) = sandbox.file_posts
    assert post.body == {"purpose": "user_data", "filename": "a b.bin", "bytes": len(content)}
    assert (post.status, post.response_id) == (200, file.id)
    assert list(sandbox.files) == [file.id]


def test_files_of_batches_expire(sdk: OpenAI) -> None:
    """After 30 days, unless the upload says otherwise."""
    usual = sdk.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    sooner = sdk.files.create(
        file=("in.jsonl", b"{}"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert usual.expires_at == usual.created_at + 30 * 86400
    assert sooner.expires_at == sooner.created_at + 3600
    with pytest.raises(BadRequestError, match="3600 to 2592000"):
        sdk.files.create(
            file=("in.jsonl", b"{}"),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 5},
        )


def test_files_are_listed_in_pages(sdk: OpenAI) -> None:
    """Newest first or last, and of one purpose alone."""
    ids = [upload(sdk, b"{}") for _ in range(3)]
    other = sdk.files.create(file=("x.txt", b"x"), purpose="user_data").id
    assert [file.id for file in sdk.files.list(order="asc")] == [*ids, other]
    assert [file.id for file in sdk.files.list(purpose="batch", limit=2)] == ids[::-1]
    first = sdk.files.list(order="asc", limit=1)
    assert (first.has_more, [file.id for file in first.data]) == (True, ids[:1])
    with pytest.raises(BadRequestError, match="not found"):
        sdk.files.list(after="file-none")


def test_a_deleted_file_is_gone(sandbox: Sandbox, sdk: OpenAI) -> None:
    """404 from then on; a batch that reads it goes on."""
    batch = start(sdk, lines(2))
    assert sdk.files.delete(batch.input_file_id).deleted
    for again in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(NotFoundError, match="No such File object"):
            again(batch.input_file_id)
    assert len(read(sdk, end(sdk, batch).output_file_id)) == 2


@pytest.mark.parametrize(
    ("name", "purpose", "message"),
    [
        ("in.txt", "batch", "Must be .jsonl"),
        ("in.jsonl", "batch_output", "is not one of"),
        ("in.jsonl", None, "Missing required parameter: 'purpose'"),
        (None, "batch", "Missing required parameter: 'file'"),
    ],
)
def test_bad_uploads_are_refused(
    sandbox: Sandbox, name: str | None, purpose: str | None, message: str
) -> None:
    """400, and nothing is kept."""
    parts = {"file": name and (name, b"{}"), "purpose": purpose and (None, purpose)}
    answer = httpx2.post(
        f"{sandbox.base_url}/files",
        files={key: value for key, value in parts.items() if value},
        trust_env=False,
    )
    assert (answer.status_code, sandbox.files) == (400, {})
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"no form"),
        ("multipart/form-data; boundary=x", b""),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
        ),
    ],
)
def test_what_is_no_form_is_refused(sandbox: Sandbox, kind: str, body: bytes) -> None:
    """400: no form, no boundary, broken, or cut short."""
    answer = httpx2.post(
        f"{sandbox.base_url}/files", content=body, headers={"content-type": kind}, trust_env=False
    )
    assert (answer.status_code, sandbox.files) == (400, {})


# --- the life of a batch -------------------------------------------------------------------


def test_a_batch_goes_through_its_statuses(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Each sets its time; the counts rise, and the files are named at the end alone."""
    batch = start(sdk, lines(4), {**SLOW, "a": "b"})
    assert re.fullmatch("batch_[0-9a-f]{32}", batch.id)
    assert (batch.status, counts(batch), batch.metadata) == (
        "validating",
        (0, 0, 0),
        {**SLOW, "a": "b"},
    )
    seen = [look(sandbox, sdk, batch, age) for age in (9, 11, 31, 51, 61)]
    assert [one.status for one in seen] == [
        "validating",
        "in_progress",
        "in_progress",
        "finalizing",
        "completed",
    ]
    assert [counts(one) for one in seen] == [(0, 0, 0), (4, 0, 0), (4, 2, 0), (4, 4, 0), (4, 4, 0)]
    assert [one.output_file_id is not None for one in seen] == [False] * 4 + [True]
    names = ("in_progress_at", "finalizing_at", "completed_at")
    assert [[getattr(one, name) is not None for name in names] for one in seen] == [
        [False, False, False],
        [True, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    last = seen[-1]
    assert (last.model, last.errors, last.error_file_id) == ("gpt-5.2", None, None)
    assert last.expires_at == last.created_at + 86400


def test_a_batch_takes_the_time_of_the_server(sandbox: Sandbox, sdk: OpenAI) -> None:
    """60 ms, whatever the number of its lines."""
    begun = time.monotonic()
    batch = end(sdk, start(sdk, lines(50)))
    assert 0.06 <= time.monotonic() - begun < 2
    assert (batch.status, counts(batch)) == ("completed", (50, 50, 0))


def test_every_line_has_a_response_that_parses_strictly(sdk: OpenAI) -> None:
    """Of its own request, synchronous, completed within the batch; the usage is their sum."""
    batch = end(sdk, start(sdk, lines(5, metadata={"k": "v"})))
    output = read(sdk, batch.output_file_id)
    assert set(output) == {f"r{number}" for number in range(5)}
    used = 0
    for custom_id, one in output.items():
        assert one["error"] is None
        assert one["response"]["status_code"] == 200
        assert re.fullmatch("[0-9a-f]{32}", one["response"]["request_id"])
        response = Response.model_validate(one["response"]["body"], strict=True)
        assert (response.status, response.background) == ("completed", False)
        assert custom_id in response.output_text
        assert response.metadata == {"k": "v"}
        assert response.completed_at is not None
        assert response.usage is not None
        used += response.usage.total_tokens
    assert batch.usage is not None
    assert batch.usage.total_tokens == used
    assert sdk.files.retrieve(batch.output_file_id or "").purpose == "batch_output"


def test_the_output_is_not_in_the_order_of_the_input(sdk: OpenAI) -> None:
    """Even of two lines, nor among errors; and it reads the same each time."""
    for count in (2, 3, 20):
        bad = [line(f"b{number}", temperature=9) for number in range(count)]
        batch = end(sdk, start(sdk, lines(count) + bad))
        for file_id in (batch.output_file_id, batch.error_file_id):
            ids = list(read(sdk, file_id))
            assert ids != sorted(ids, key=lambda custom_id: int(custom_id[1:]))
        once, again = (sdk.files.content(batch.output_file_id or "").content for _ in range(2))
        assert once == again


def test_metadata_chooses_how_a_line_ends(sdk: OpenAI) -> None:
    """As for jobs; a failed response is an output, and the line completed."""
    batch = end(
        sdk,
        start(
            sdk,
            [
                line("text", metadata={"sandbox_text": "Hi ❤"}),
                line("bytes", metadata={"sandbox_bytes": "1000"}),
                line("failed", metadata={"sandbox_outcome": "failed"}),
                line("half", metadata={"sandbox_outcome": "incomplete", "sandbox_text": "abcd"}),
                line("empty", metadata={"sandbox_empty": "true"}),
            ],
        ),
    )
    assert (batch.status, counts(batch), batch.error_file_id) == ("completed", (5, 5, 0), None)
    told = {
        custom_id: Response.model_validate(one["response"]["body"])
        for custom_id, one in read(sdk, batch.output_file_id).items()
    }
    assert told["text"].output_text == "Hi ❤"
    assert len(told["bytes"].output_text) == 1000
    assert (told["failed"].status, told["failed"].error is not None) == ("failed", True)
    assert (told["half"].status, told["half"].output_text) == ("incomplete", "ab")
    assert (told["empty"].status, told["empty"].output_text) == ("completed", "")


def test_the_last_line_holds_up_the_batch(sandbox: Sandbox, sdk: OpenAI) -> None:
    """A line's own time counts from the create of the batch."""
    slow = line("slow", metadata={"sandbox_seconds": "3600"})
    fast = line("fast", metadata={"sandbox_seconds": "0"})
    batch = start(sdk, [slow, *lines(2), fast], SLOW)
    seen = [look(sandbox, sdk, batch, age) for age in (10.5, 59, 3599, 3601, 3611)]
    assert [(one.status, counts(one)[1]) for one in seen] == [
        ("in_progress", 1),
        ("in_progress", 3),
        ("in_progress", 3),
        ("finalizing", 4),
        ("completed", 4),
    ]


def test_a_batch_without_time_ends_at_once(sdk: OpenAI) -> None:
    """Its create still says that it is validated."""
    batch = start(sdk, lines(2), {"sandbox_seconds": "0"})
    assert (batch.status, counts(batch), batch.in_progress_at) == ("validating", (0, 0, 0), None)
    batch = sdk.batches.retrieve(batch.id)
    assert (batch.status, counts(batch)) == ("completed", (2, 2, 0))


def test_hostile_ids_and_names_come_back_exactly(sdk: OpenAI) -> None:
    """Custom ids of any characters, and names of files."""
    ids = ["", " ", "é❤\u0000\n", "\ud800", "x" * 5000, 'a"b']
    batch = end(sdk, start(sdk, [line(custom_id, input="Hi") for custom_id in ids]))
    assert set(read(sdk, batch.output_file_id)) == set(ids)
    file = sdk.files.create(file=("é❤.jsonl", b"{}"), purpose="batch")
    assert file.filename == "é❤.jsonl"


def test_batches_are_listed_newest_first(sdk: OpenAI) -> None:
    """In pages of 20, or as many as was asked."""
    file_id = upload(sdk, jsonl(lines(1)))
    ids = [
        sdk.batches.create(
            input_file_id=file_id, endpoint="/v1/responses", completion_window="24h"
        ).id
        for _ in range(22)
    ][::-1]
    first = sdk.batches.list()
    assert ([one.id for one in first.data], first.has_more) == (ids[:20], True)
    assert [one.id for one in sdk.batches.list(limit=7)] == ids
    raw = sdk.batches.with_raw_response.list(after=ids[19]).http_response.json()
    assert (raw["first_id"], raw["last_id"], raw["has_more"]) == (ids[20], ids[21], False)


def test_an_async_client_goes_all_the_way(sandbox: Sandbox) -> None:
    """From the upload to the output, twenty batches at once."""

    async def run(sdk: AsyncOpenAI, number: int) -> list[str]:
        content = jsonl([line(f"{number}-{place}") for place in range(3)])
        file = await sdk.files.create(file=("in.jsonl", content), purpose="batch")
        batch = await sdk.batches.create(
            input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
        )
        while batch.status != "completed":
            await asyncio.sleep(0.01)
            batch = await sdk.batches.retrieve(batch.id)
        output = await sdk.files.content(batch.output_file_id or "")
        return sorted(json.loads(one)["custom_id"] for one in output.text.splitlines())

    async def run_all() -> list[list[str]]:
        async with AsyncOpenAI(base_url=sandbox.base_url, api_key="x", max_retries=0) as sdk:
            return await asyncio.gather(*(run(sdk, number) for number in range(20)))

    assert asyncio.run(run_all()) == [
        [f"{number}-{place}" for place in range(3)] for number in range(20)
    ]
    assert len(sandbox.batches) == len(sandbox.batch_posts) == 20


# --- lines that fail -----------------------------------------------------------------------


def test_refused_lines_are_in_the_error_file(sdk: OpenAI) -> None:
    """With the answer of a create; the others are not affected."""
    batch = end(
        sdk,
        start(
            sdk,
            [
                line("good"),
                line("hot", temperature=9),
                line("missing", model="missing-model"),
                line("background", background=True),
                line("stream", stream=True),
                line("odd", metadata={"sandbox_outcome": "odd"}),
                line("numbers", metadata={"sandbox_seconds": 5}),
                line("busy", metadata={"sandbox_status": "503"}),
                line("limited", metadata={"sandbox_status": "200"}),
            ],
        ),
    )
    assert (batch.status, counts(batch)) == ("completed", (9, 1, 8))
    assert list(read(sdk, batch.output_file_id)) == ["good"]
    told = {}
    for custom_id, one in read(sdk, batch.error_file_id).items():
        assert one["error"] is None
        error = one["response"]["body"]["error"]
        assert set(error) == {"message", "type", "param", "code"}
        told[custom_id] = (one["response"]["status_code"], error["param"])
    assert told == {
        "hot": (400, "temperature"),
        "missing": (404, "model"),
        "background": (400, "background"),
        "stream": (400, "stream"),
        "odd": (400, "metadata"),
        "numbers": (400, "metadata.sandbox_seconds"),
        "busy": (503, None),
        "limited": (400, "metadata"),
    }


def test_a_batch_of_refused_lines_has_no_output(sdk: OpenAI) -> None:
    """It completes all the same."""
    batch = end(sdk, start(sdk, lines(2, temperature=9)))
    assert (batch.status, counts(batch), batch.output_file_id) == ("completed", (2, 0, 2), None)
    assert len(read(sdk, batch.error_file_id)) == 2


def test_a_line_can_continue_a_response(sdk: OpenAI) -> None:
    """One that the server has; another is refused."""
    known = sdk.responses.create(model="gpt-5.2", input="Hi", background=True).id
    batch = end(
        sdk,
        start(
            sdk,
            [line("yes", previous_response_id=known), line("no", previous_response_id="resp_x")],
        ),
    )
    assert list(read(sdk, batch.output_file_id)) == ["yes"]
    assert list(read(sdk, batch.error_file_id)) == ["no"]


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
def test_a_file_that_does_not_validate_fails_the_batch(
    sdk: OpenAI, content: bytes, expected: list[Any]
) -> None:
    """It says what is wrong on which lines; nothing was run."""
    batch = end(sdk, start(sdk, content))
    assert codes(batch) == expected
    assert (batch.failed_at is not None, batch.in_progress_at) == (True, None)
    assert (counts(batch), batch.output_file_id, batch.error_file_id) == ((0, 0, 0), None, None)


def test_a_file_with_too_many_lines_fails_the_batch(sdk: OpenAI) -> None:
    """50,000 and one."""
    batch = end(sdk, start(sdk, b"{}\n" * 50_001))
    assert codes(batch) == [("too_many_requests", None, None)]


def test_errors_of_a_file_are_listed_up_to_a_hundred(sdk: OpenAI) -> None:
    """The first ones."""
    batch = end(sdk, start(sdk, b"x\n" * 200))
    assert [number for _, number, _ in codes(batch)] == list(range(1, 101))


def test_the_end_of_the_last_line_is_optional(sdk: OpenAI) -> None:
    """And lines may end as on Windows."""
    content = jsonl(lines(3)).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    assert counts(end(sdk, start(sdk, content))) == (3, 3, 0)


def test_metadata_makes_a_batch_fail_at_a_limit(sdk: OpenAI) -> None:
    """As where too many tokens are enqueued."""
    batch = end(sdk, start(sdk, lines(2), {"sandbox_outcome": "failed"}))
    assert codes(batch) == [("token_limit_exceeded", None, None)]


# --- refused creates -----------------------------------------------------------------------


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
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_create_is_refused_by_the_parameter(
    sandbox: Sandbox, sdk: OpenAI, changes: dict[str, Any], param: str
) -> None:
    """400 with the envelope, and there is no batch."""
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
    """400."""
    file = sdk.files.create(file=("in.jsonl", jsonl(lines(1))), purpose="user_data")
    with pytest.raises(BadRequestError, match="purpose"):
        sdk.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")


def test_an_unknown_batch_is_not_found(sdk: OpenAI) -> None:
    """404."""
    for act in (sdk.batches.retrieve, sdk.batches.cancel):
        with pytest.raises(NotFoundError, match="No batch found with id 'batch_none'"):
            act("batch_none")


def test_the_files_of_a_batch_expire_when_it_says(sdk: OpenAI) -> None:
    """From when they were made."""
    expires: OutputExpiresAfter = {"anchor": "created_at", "seconds": 7200}
    batch = end(
        sdk,
        sdk.batches.create(
            input_file_id=upload(sdk, jsonl(lines(1))),
            endpoint="/v1/responses",
            completion_window="24h",
            output_expires_after=expires,
        ),
    )
    file = sdk.files.retrieve(batch.output_file_id or "")
    assert file.expires_at == file.created_at + 7200


# --- cancelled and expired -----------------------------------------------------------------


def test_a_cancelled_batch_keeps_what_was_done(sandbox: Sandbox, sdk: OpenAI) -> None:
    """It takes a second of being cancelled; the rest is in the error file."""
    batch = start(sdk, [*lines(8), line("hot", temperature=9)], SLOW)
    look(sandbox, sdk, batch, 31)
    cancelling = sdk.batches.cancel(batch.id)
    assert (cancelling.status, cancelling.cancelling_at is not None) == ("cancelling", True)
    assert (cancelling.output_file_id, cancelling.cancelled_at) == (None, None)
    assert sdk.batches.cancel(batch.id).status == "cancelling"
    cancelled = look(sandbox, sdk, batch, 33)
    assert (cancelled.status, cancelled.cancelled_at is not None) == ("cancelled", True)
    assert (cancelled.finalizing_at, cancelled.completed_at) == (None, None)
    output = read(sdk, cancelled.output_file_id)
    errors = read(sdk, cancelled.error_file_id)
    rest = {key for key, one in errors.items() if one["response"] is None}
    total, completed, failed = counts(cancelled)
    assert (total, completed, failed) == (9, len(output), len(errors) - len(rest))
    assert completed + failed == 4
    assert {errors[key]["error"]["code"] for key in rest} == {"batch_cancelled"}
    assert set(output) | set(errors) == {*(f"r{number}" for number in range(8)), "hot"}
    assert not set(output) & set(errors)


def test_a_batch_can_be_cancelled_before_it_runs(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Then none of its lines was."""
    batch = start(sdk, lines(3), SLOW)
    sdk.batches.cancel(batch.id)
    cancelled = look(sandbox, sdk, batch, 3)
    assert (cancelled.status, cancelled.in_progress_at) == ("cancelled", None)
    assert (counts(cancelled), cancelled.output_file_id) == ((3, 0, 0), None)
    assert len(read(sdk, cancelled.error_file_id)) == 3


def test_a_batch_that_would_fail_can_be_cancelled(sandbox: Sandbox, sdk: OpenAI) -> None:
    """It leaves nothing."""
    batch = start(sdk, b"{", SLOW)
    sdk.batches.cancel(batch.id)
    cancelled = look(sandbox, sdk, batch, 3)
    assert (cancelled.status, cancelled.errors) == ("cancelled", None)
    assert (cancelled.output_file_id, cancelled.error_file_id) == (None, None)


def test_a_cancel_takes_a_third_of_a_short_batch(sdk: OpenAI) -> None:
    """20 ms here."""
    batch = start(sdk, lines(3))
    begun = time.monotonic()
    assert sdk.batches.cancel(batch.id).status == "cancelling"
    assert end(sdk, batch).status == "cancelled"
    assert 0.015 < time.monotonic() - begun < 2


@pytest.mark.parametrize("content", [jsonl(lines(1)), b"{"])
def test_a_batch_that_has_ended_cannot_be_cancelled(sdk: OpenAI, content: bytes) -> None:
    """409, and it stays as it is."""
    batch = end(sdk, start(sdk, content))
    with pytest.raises(ConflictError, match=f"with status '{batch.status}'"):
        sdk.batches.cancel(batch.id)
    assert sdk.batches.retrieve(batch.id) == batch


def test_a_stuck_line_makes_the_batch_expire(sandbox: Sandbox, sdk: OpenAI) -> None:
    """After a day; what was done is kept, and is not counted as failed otherwise."""
    stuck = line("stuck", metadata={"sandbox_outcome": "stuck"})
    batch = start(sdk, [stuck, *lines(3)])
    day = 86400
    assert look(sandbox, sdk, batch, day - 1).status == "in_progress"
    expired = look(sandbox, sdk, batch, day + 1)
    assert (expired.status, counts(expired)) == ("expired", (4, 3, 0))
    assert (expired.expired_at, expired.completed_at) == (expired.expires_at, None)
    assert set(read(sdk, expired.output_file_id)) == {"r0", "r1", "r2"}
    (one,) = read(sdk, expired.error_file_id).values()
    assert (one["custom_id"], one["response"]) == ("stuck", None)
    assert one["error"] == {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }


def test_the_window_can_be_shortened(sandbox: Sandbox, sdk: OpenAI) -> None:
    """For the batches that are made from then on."""
    sandbox.batch_window = 0.1
    batch = start(sdk, lines(10), SLOW)
    assert batch.expires_at in (batch.created_at, batch.created_at + 1)
    expired = end(sdk, batch)
    assert (expired.status, counts(expired)) == ("expired", (10, 0, 0))
    assert len(read(sdk, expired.error_file_id)) == 10
    sandbox.clear()
    assert sandbox.batch_window == 86400


def test_a_sandbox_can_begin_with_a_window() -> None:
    """It goes back to it."""
    with Sandbox.running(batch_window=5) as sandbox:
        sandbox.batch_window = 1
        sandbox.clear()
        assert sandbox.batch_window == 5


# --- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    ["file_create", "file_content", "batch_create", "batch_retrieve", "batch_list", "batch_cancel"],
)
def test_faults_hit_one_operation_alone(sandbox: Sandbox, sdk: OpenAI, operation: str) -> None:
    """And nothing takes effect."""
    batch = start(sdk, lines(1), SLOW)
    before = (dict(sandbox.files), dict(sandbox.batches))
    calls: dict[str, Callable[[], object]] = {
        "file_create": lambda: upload(sdk, b"{}"),
        "file_content": lambda: sdk.files.content(batch.input_file_id),
        "batch_create": lambda: sdk.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/responses", completion_window="24h"
        ),
        "batch_retrieve": lambda: sdk.batches.retrieve(batch.id),
        "batch_list": sdk.batches.list,
        "batch_cancel": lambda: sdk.batches.cancel(batch.id),
    }
    sandbox.script(Fault(on=operation, kind="status", status=503))
    hit = calls.pop(operation)
    sdk.files.retrieve(batch.input_file_id)
    with pytest.raises(APIStatusError) as caught:
        hit()
    assert caught.value.status_code == 503
    assert (dict(sandbox.files), dict(sandbox.batches)) == before
    assert sdk.batches.retrieve(batch.id).status == "validating"
    hit()


def test_faults_hit_one_id_alone(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Of a file or of a batch."""
    batch = end(sdk, start(sdk, lines(1)))
    output = batch.output_file_id or ""
    sandbox.script(
        Fault(kind="status", status=500, response_id=output),
        Fault(kind="status", status=502, response_id=batch.id),
    )
    sdk.files.content(batch.input_file_id)
    with pytest.raises(APIStatusError):
        sdk.files.content(output)
    with pytest.raises(APIStatusError):
        sdk.batches.retrieve(batch.id)
    assert [one.response_id for one in sandbox.requests if one.fault] == [output, batch.id]


def test_an_answer_can_be_lost_after_a_create(sandbox: Sandbox, sdk: OpenAI) -> None:
    """The batch is there, and found in the list; likewise an upload."""
    file_id = upload(sdk, jsonl(lines(1)))
    sandbox.script(
        Fault(on="batch_create", kind="reset_after"), Fault(on="file_create", kind="hang_after")
    )
    with pytest.raises(APIConnectionError):
        sdk.batches.create(input_file_id=file_id, endpoint="/v1/responses", completion_window="24h")
    with pytest.raises(APITimeoutError):
        sdk.files.create(file=("b.jsonl", b"{}"), purpose="batch", timeout=0.1)
    (batch,) = sdk.batches.list()
    assert batch.input_file_id == file_id
    assert {file.filename for file in sdk.files.list(purpose="batch")} == {"in.jsonl", "b.jsonl"}


def test_a_download_can_break_off(sandbox: Sandbox, sdk: OpenAI) -> None:
    """In the middle of a line; the next one is whole."""
    batch = end(sdk, start(sdk, lines(3)))
    sandbox.script(Fault(on="file_content", kind="truncate"))
    with pytest.raises(APIConnectionError):
        sdk.files.content(batch.output_file_id or "")
    assert len(read(sdk, batch.output_file_id)) == 3


# --- the server ----------------------------------------------------------------------------


def test_a_server_may_have_no_batches(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Its paths are unknown; responses are there."""
    sandbox.become(Personality(batches=False))
    calls: list[Callable[[], object]] = [
        sdk.batches.list,
        sdk.files.list,
        lambda: upload(sdk, b"{}"),
        lambda: sdk.batches.retrieve("x"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match="Invalid URL"):
            call()
    assert (sandbox.files, sandbox.batches) == ({}, {})
    sdk.responses.create(model="gpt-5.2", input="Hi", background=True)


def test_responses_have_the_servers_personality(sandbox: Sandbox, sdk: OpenAI) -> None:
    """And errors its shape."""
    sandbox.become(Personality(ids="uuid", sparse=True, errors="text"))
    batch = end(sdk, start(sdk, [line("good"), line("hot", temperature=9)]))
    good = read(sdk, batch.output_file_id)["good"]["response"]["body"]
    hot = read(sdk, batch.error_file_id)["hot"]["response"]["body"]
    assert list(good) == ["id", "status", "output"]
    assert len(good["id"]) == 36
    assert isinstance(hot["error"], str)


def test_clear_forgets_files_and_batches(sandbox: Sandbox, sdk: OpenAI) -> None:
    """All of them, and their requests."""
    end(sdk, start(sdk, lines(1)))
    assert len(sandbox.files) == 2
    sandbox.clear()
    assert (sandbox.files, sandbox.batches) == ({}, {})
    assert (sandbox.file_posts, sandbox.batch_posts) == ([], [])
    assert sdk.batches.list().data == []


@pytest.mark.slow
def test_the_largest_batch_is_planned_once_and_polled_cheaply() -> None:
    """50,000 lines: a thousand looks take less than the one at the input."""
    content = jsonl(lines(50_000))
    request = {"input_file_id": "file-x", "completion_window": "24h"}
    begun = time.monotonic()
    batch = new_batch(request, content, 0.0, 1000.0, 86400.0, lambda _: None, DEFAULT)
    planned = time.monotonic() - begun
    begun = time.monotonic()
    seen = [batch_object(batch, float(now)) for now in range(1001)]
    assert time.monotonic() - begun < planned
    done = [one["request_counts"]["completed"] for one in seen]
    assert all(before <= after for before, after in pairwise(done))
    assert (done[0], done[500], done[-1]) == (0, 25_000, 50_000)
