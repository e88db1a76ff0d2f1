"""The life of a sandbox batch: its statuses, its lines, its result files, cancel and expiry."""

from __future__ import annotations

import asyncio
import json
import re
import time
from itertools import pairwise

import pytest
from openai import AsyncOpenAI, ConflictError, OpenAI
from openai.types.responses import Response

from oaibg.sandbox import Sandbox
from oaibg.sandbox.batch.batch import new_batch
from oaibg.sandbox.batch.batch_object import batch_object
from oaibg.sandbox.personality import DEFAULT
from sandbox_batches import SLOW, at_age, counts, end, jsonl, line, lines, read, start, upload

# --- statuses ------------------------------------------------------------------------------


def test_a_batch_goes_through_its_statuses(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Each status sets its time, the counts rise, and only a completed batch has files."""
    batch = start(sdk, lines(4), {**SLOW, "a": "b"})
    assert re.fullmatch("batch_[0-9a-f]{32}", batch.id)
    assert (batch.status, counts(batch), batch.metadata) == (
        "validating",
        (0, 0, 0),
        {**SLOW, "a": "b"},
    )
    seen = [at_age(sandbox, sdk, batch, age) for age in (9, 11, 31, 51, 61)]
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


def test_a_batch_takes_the_default_duration(sandbox: Sandbox, sdk: OpenAI) -> None:
    """A batch takes 60 ms, whatever the number of its lines."""
    begun = time.monotonic()
    batch = end(sdk, start(sdk, lines(50)))
    assert 0.06 <= time.monotonic() - begun < 2
    assert (batch.status, counts(batch)) == ("completed", (50, 50, 0))


def test_a_batch_runs_until_its_last_line_ends(sandbox: Sandbox, sdk: OpenAI) -> None:
    """The duration of a line counts from the create of the batch."""
    slow = line("slow", metadata={"sandbox_seconds": "3600"})
    fast = line("fast", metadata={"sandbox_seconds": "0"})
    batch = start(sdk, [slow, *lines(2), fast], SLOW)
    seen = [at_age(sandbox, sdk, batch, age) for age in (10.5, 59, 3599, 3601, 3611)]
    assert [(one.status, counts(one)[1]) for one in seen] == [
        ("in_progress", 1),
        ("in_progress", 3),
        ("in_progress", 3),
        ("finalizing", 4),
        ("completed", 4),
    ]


def test_a_batch_with_duration_0_ends_at_once(sdk: OpenAI) -> None:
    """The reply to its create still has the status `validating`."""
    batch = start(sdk, lines(2), {"sandbox_seconds": "0"})
    assert (batch.status, counts(batch), batch.in_progress_at) == ("validating", (0, 0, 0), None)
    batch = sdk.batches.retrieve(batch.id)
    assert (batch.status, counts(batch)) == ("completed", (2, 2, 0))


def test_batches_are_listed_newest_first(sdk: OpenAI) -> None:
    """A page has 20 batches, or as many as `limit`."""
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


def test_an_async_client_runs_many_batches(sandbox: Sandbox) -> None:
    """Twenty concurrent batches run from the upload to the output."""

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


def test_clear_removes_files_and_batches(sandbox: Sandbox, sdk: OpenAI) -> None:
    """`clear` removes all files and batches, and the log of their requests."""
    end(sdk, start(sdk, lines(1)))
    assert len(sandbox.files) == 2
    sandbox.clear()
    assert (sandbox.files, sandbox.batches) == ({}, {})
    assert (sandbox.file_posts, sandbox.batch_posts) == ([], [])
    assert sdk.batches.list().data == []


@pytest.mark.slow
def test_the_largest_batch_is_planned_once_and_polled_cheaply() -> None:
    """For 50,000 lines, a thousand batch objects take less time than one reading of the input."""
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


# --- lines ---------------------------------------------------------------------------------


def test_every_line_has_a_response_that_parses_strictly(sdk: OpenAI) -> None:
    """Each line has its own synchronous response; the usage of the batch is their sum."""
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
    """Outputs and errors are not in input order, but every read returns the same order."""
    for count in (2, 3, 20):
        bad = [line(f"b{number}", temperature=9) for number in range(count)]
        batch = end(sdk, start(sdk, lines(count) + bad))
        for file_id in (batch.output_file_id, batch.error_file_id):
            ids = list(read(sdk, file_id))
            assert ids != sorted(ids, key=lambda custom_id: int(custom_id[1:]))
        once, again = (sdk.files.content(batch.output_file_id or "").content for _ in range(2))
        assert once == again


def test_metadata_chooses_how_a_line_ends(sdk: OpenAI) -> None:
    """Metadata works as for jobs; a line with a failed response counts as completed."""
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
    ended = {
        custom_id: Response.model_validate(one["response"]["body"])
        for custom_id, one in read(sdk, batch.output_file_id).items()
    }
    assert ended["text"].output_text == "Hi ❤"
    assert len(ended["bytes"].output_text) == 1000
    assert (ended["failed"].status, ended["failed"].error is not None) == ("failed", True)
    assert (ended["half"].status, ended["half"].output_text) == ("incomplete", "ab")
    assert (ended["empty"].status, ended["empty"].output_text) == ("completed", "")


def test_hostile_ids_and_names_return_unchanged(sdk: OpenAI) -> None:
    """Custom IDs and file names with any characters survive."""
    ids = ["", " ", "é❤\u0000\n", "\ud800", "x" * 5000, 'a"b']
    batch = end(sdk, start(sdk, [line(custom_id, input="Hi") for custom_id in ids]))
    assert set(read(sdk, batch.output_file_id)) == set(ids)
    file = sdk.files.create(file=("é❤.jsonl", b"{}"), purpose="batch")
    assert file.filename == "é❤.jsonl"


def test_refused_lines_are_in_the_error_file(sdk: OpenAI) -> None:
    """A refused line has the error of a create, and doesn't affect other lines."""
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
    refused = {}
    for custom_id, one in read(sdk, batch.error_file_id).items():
        assert one["error"] is None
        error = one["response"]["body"]["error"]
        assert set(error) == {"message", "type", "param", "code"}
        refused[custom_id] = (one["response"]["status_code"], error["param"])
    assert refused == {
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
    """The batch completes with an error file but no output file."""
    batch = end(sdk, start(sdk, lines(2, temperature=9)))
    assert (batch.status, counts(batch), batch.output_file_id) == ("completed", (2, 0, 2), None)
    assert len(read(sdk, batch.error_file_id)) == 2


def test_a_line_can_continue_a_response(sdk: OpenAI) -> None:
    """A line can name a known previous response; an unknown one is refused."""
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


# --- cancel and expiry ---------------------------------------------------------------------


def test_a_cancelled_batch_keeps_its_finished_lines(sandbox: Sandbox, sdk: OpenAI) -> None:
    """A cancel takes a second, and unfinished lines are in the error file."""
    batch = start(sdk, [*lines(8), line("hot", temperature=9)], SLOW)
    at_age(sandbox, sdk, batch, 31)
    cancelling = sdk.batches.cancel(batch.id)
    assert (cancelling.status, cancelling.cancelling_at is not None) == ("cancelling", True)
    assert (cancelling.output_file_id, cancelling.cancelled_at) == (None, None)
    assert sdk.batches.cancel(batch.id).status == "cancelling"
    cancelled = at_age(sandbox, sdk, batch, 33)
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
    """All lines of the batch are unfinished, and in the error file."""
    batch = start(sdk, lines(3), SLOW)
    sdk.batches.cancel(batch.id)
    cancelled = at_age(sandbox, sdk, batch, 3)
    assert (cancelled.status, cancelled.in_progress_at) == ("cancelled", None)
    assert (counts(cancelled), cancelled.output_file_id) == ((3, 0, 0), None)
    assert len(read(sdk, cancelled.error_file_id)) == 3


def test_a_batch_that_would_fail_can_be_cancelled(sandbox: Sandbox, sdk: OpenAI) -> None:
    """The cancelled batch has no errors and no result files."""
    batch = start(sdk, b"{", SLOW)
    sdk.batches.cancel(batch.id)
    cancelled = at_age(sandbox, sdk, batch, 3)
    assert (cancelled.status, cancelled.errors) == ("cancelled", None)
    assert (cancelled.output_file_id, cancelled.error_file_id) == (None, None)


def test_a_cancel_takes_a_third_of_a_short_batch(sdk: OpenAI) -> None:
    """A cancel of a batch of 60 ms takes 20 ms."""
    batch = start(sdk, lines(3))
    begun = time.monotonic()
    assert sdk.batches.cancel(batch.id).status == "cancelling"
    assert end(sdk, batch).status == "cancelled"
    assert 0.015 < time.monotonic() - begun < 2


@pytest.mark.parametrize("content", [jsonl(lines(1)), b"{"])
def test_a_batch_that_has_ended_cannot_be_cancelled(sdk: OpenAI, content: bytes) -> None:
    """A cancel gets 409, and the batch doesn't change."""
    batch = end(sdk, start(sdk, content))
    with pytest.raises(ConflictError, match=f"with status '{batch.status}'"):
        sdk.batches.cancel(batch.id)
    assert sdk.batches.retrieve(batch.id) == batch


def test_a_stuck_line_makes_the_batch_expire(sandbox: Sandbox, sdk: OpenAI) -> None:
    """After a day the batch keeps its finished lines, and the stuck line is in the error file."""
    stuck = line("stuck", metadata={"sandbox_outcome": "stuck"})
    batch = start(sdk, [stuck, *lines(3)])
    day = 86400
    assert at_age(sandbox, sdk, batch, day - 1).status == "in_progress"
    expired = at_age(sandbox, sdk, batch, day + 1)
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
    """A new batch window applies to later batches, until `clear`."""
    sandbox.batch_window = 0.1
    batch = start(sdk, lines(10), SLOW)
    assert batch.expires_at in (batch.created_at, batch.created_at + 1)
    expired = end(sdk, batch)
    assert (expired.status, counts(expired)) == ("expired", (10, 0, 0))
    assert len(read(sdk, expired.error_file_id)) == 10
    sandbox.clear()
    assert sandbox.batch_window == 86400


def test_clear_restores_the_first_window() -> None:
    """`clear` restores the batch window with which the sandbox started."""
    with Sandbox.running(batch_window=5) as sandbox:
        sandbox.batch_window = 1
        sandbox.clear()
        assert sandbox.batch_window == 5
