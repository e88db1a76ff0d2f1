"""Servers without background mode, servers that restart, and batches in other formats."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from oaibg.sandbox import Fault, Personality
from sandbox_batches import end as end_batch
from sandbox_batches import line, start
from sandbox_client import LONG, create, end

if TYPE_CHECKING:
    from openai import OpenAI

    from oaibg.sandbox import Sandbox

SLOW = {"metadata": {"sandbox_seconds": str(LONG)}}


def test_a_server_without_background_mode(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A create replies when the job has ended, with a `background` that is not true."""
    sandbox.become("synchronous")
    job = create(http)
    assert (job["status"], job["background"]) == ("completed", False)


@pytest.mark.parametrize(
    ("restart", "after"), [("keeps", [200, 200]), ("forgets", [404, 200]), ("orphans", [200, 200])]
)
def test_a_restart(sandbox: Sandbox, http: httpx2.Client, restart: str, after: list[int]) -> None:
    """A restart resets the connection, and does to running jobs what the personality says."""
    sandbox.become(Personality(restart=restart))
    running, ended = create(http, **SLOW)["id"], create(http)["id"]
    end(http, ended)
    sandbox.script(Fault(on="retrieve", kind="restart"))
    with pytest.raises(httpx2.TransportError):
        http.get(f"/responses/{running}")
    replies = [http.get(f"/responses/{one}") for one in (running, ended)]
    assert [one.status_code for one in replies] == after
    assert replies[1].json()["status"] == "completed"
    if restart != "forgets":
        sandbox.jobs[running].seconds = 0
        running_status = http.get(f"/responses/{running}").json()["status"]
        assert running_status == {"keeps": "completed", "orphans": "in_progress"}[restart]


@pytest.mark.parametrize(
    ("ids", "shape"),
    [
        ("openai", r"batch_[0-9a-f]{32}"),
        ("dash", r"batch-[0-9a-f-]{36}"),
        ("uuid", "[0-9a-f-]{36}"),
    ],
)
def test_ids_of_batches(sandbox: Sandbox, sdk: OpenAI, ids: str, shape: str) -> None:
    """The IDs of batches have the personality's format."""
    sandbox.become(Personality(batch_ids=ids))
    assert re.fullmatch(shape, start(sdk, [line("a")]).id)


def test_sparse_lines_of_results(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Sparse lines lack the keys that are null, and their body is a string of JSON."""
    sandbox.become("batcher")
    batch = end_batch(sdk, start(sdk, [line("good"), line("hot", temperature=9)]))
    found: list[dict[str, Any]] = []
    for file_id in (batch.output_file_id, batch.error_file_id):
        assert file_id is not None
        found += map(json.loads, sdk.files.content(file_id).text.splitlines())
    assert [list(one) for one in found] == [["id", "custom_id", "response"]] * 2
    assert json.loads(found[0]["response"]["body"])["status"] == "completed"
    assert "error" in json.loads(found[1]["response"]["body"])
