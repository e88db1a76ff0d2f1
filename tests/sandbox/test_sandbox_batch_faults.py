"""Scripted faults apply to the Files API and the Batch API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI

from oaibg.sandbox import Fault, Sandbox
from sandbox_batches import SLOW, end, jsonl, lines, read, start, upload

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "operation",
    ["file_create", "file_content", "batch_create", "batch_retrieve", "batch_list", "batch_cancel"],
)
def test_a_fault_affects_only_its_operation(sandbox: Sandbox, sdk: OpenAI, operation: str) -> None:
    """The request that the fault affects has no effect; all others succeed."""
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


def test_a_fault_affects_only_its_id(sandbox: Sandbox, sdk: OpenAI) -> None:
    """`response_id` can be the ID of a file or a batch."""
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


def test_a_reply_can_be_lost_after_a_create(sandbox: Sandbox, sdk: OpenAI) -> None:
    """The batch or the upload exists, and is found in the list."""
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
    """A truncated download fails, and the next one is complete."""
    batch = end(sdk, start(sdk, lines(3)))
    sandbox.script(Fault(on="file_content", kind="truncate"))
    with pytest.raises(APIConnectionError):
        sdk.files.content(batch.output_file_id or "")
    assert len(read(sdk, batch.output_file_id)) == 3
