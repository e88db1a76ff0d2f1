"""Batches of the sandbox, as the SDK's client creates and reads them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sandbox_client import LONG

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

    from oaibg.sandbox import Sandbox

SLOW = {"sandbox_seconds": str(LONG)}
"""Metadata of a batch that only ends when a test moves its create into the past."""

_ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, **changes: Any) -> dict[str, Any]:
    """Return one request of a batch, with changes to its body; None removes a key."""
    body = {"model": "gpt-5.2", "input": f"Say {custom_id}.", **changes}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/responses",
        "body": {key: value for key, value in body.items() if value is not None},
    }


def lines(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return `count` requests with the custom IDs r0, r1, and so on."""
    return [line(f"r{number}", **changes) for number in range(count)]


def jsonl(requests: list[dict[str, Any]]) -> bytes:
    """Return the input file of the requests."""
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


def upload(sdk: OpenAI, content: bytes) -> str:
    """Upload an input file and return its ID."""
    return sdk.files.create(file=("in.jsonl", content), purpose="batch").id


def start(
    sdk: OpenAI,
    requests: list[dict[str, Any]] | bytes,
    metadata: dict[str, str] | None = None,
) -> Batch:
    """Upload requests and create a batch of them."""
    content = requests if isinstance(requests, bytes) else jsonl(requests)
    return sdk.batches.create(
        input_file_id=upload(sdk, content),
        endpoint="/v1/responses",
        completion_window="24h",
        metadata=metadata,
    )


def end(sdk: OpenAI, batch: Batch) -> Batch:
    """Poll until the batch has ended and return it."""
    while batch.status not in _ENDED:
        time.sleep(0.005)
        batch = sdk.batches.retrieve(batch.id)
    return batch


def at_age(sandbox: Sandbox, sdk: OpenAI, batch: Batch, age: float) -> Batch:
    """Return the batch as it is `age` seconds after its create."""
    sandbox.batches[batch.id].created = time.time() - age
    return sdk.batches.retrieve(batch.id)


def read(sdk: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """Return the lines of a result file by their custom IDs; nothing without a file."""
    if file_id is None:
        return {}
    listed = [json.loads(one) for one in sdk.files.content(file_id).text.splitlines()]
    for one in listed:
        assert list(one) == ["id", "custom_id", "response", "error"]
        assert one["id"].startswith("batch_req_")
    assert len({one["id"] for one in listed}) == len(listed)
    return {one["custom_id"]: one for one in listed}


def counts(batch: Batch) -> tuple[int, int, int]:
    """Return the numbers of all, completed and failed lines."""
    assert batch.request_counts is not None
    found = batch.request_counts
    return found.total, found.completed, found.failed


def codes(batch: Batch) -> list[tuple[str | None, int | None, str | None]]:
    """Return the errors of a failed batch: codes, line numbers and parameters."""
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.object == "list"
    return [(one.code, one.line, one.param) for one in batch.errors.data or []]
