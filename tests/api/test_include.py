"""The `include` values of a job are sent with every retrieve of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from harness import FakeClient, FakeClock, collect, fake_context, job_of, response, with_text
from oaibg.api.client import Client
from oaibg.base.clock import RealClock
from oaibg.contract.errors import CallFailed
from oaibg.engine import commands
from oaibg.engine.find import Target
from oaibg.engine.run_options import Wait
from oaibg.many.pacing.pace import Paced
from raw_server import KEY, Answer, RawServer, reply

if TYPE_CHECKING:
    from oaibg.api.calls import Calls

INCLUDE = ("web_search_call.action.sources", "message.output_text.logprobs")


def targets(raw: RawServer) -> list[str]:
    """Return the paths and queries of all requests."""
    return [request.split(b" ", 2)[1].decode() for request in raw.requests]


@pytest.mark.parametrize("paced", [False, True], ids=["one job", "a run"])
def test_sent_as_query_parameters(raw: RawServer, paced: bool) -> None:
    """`retrieve` and `stream` send each value; a batch's retrieve sends none."""
    raw.answer = Answer(reply(json.dumps(with_text("ok")), "200 OK", "Connection: close"))

    async def calls() -> None:
        client = Client(raw.base_url, KEY)
        api: Calls = Paced(client, RealClock(), 1.0) if paced else client
        await api.retrieve("resp_1", 30.0, INCLUDE)
        await api.stream("resp_1", None, 30.0, INCLUDE)
        await api.retrieve("batch_1", 30.0, INCLUDE, is_batch=True)
        await api.retrieve("resp_1", 30.0)
        await client.close()

    asyncio.run(calls())
    retrieved, streamed, *bare = targets(raw)
    for value in INCLUDE:
        assert f"include%5B%5D={value}" in retrieved
        assert f"include%5B%5D={value}" in streamed
    assert bare == ["/v1/batches/batch_1", "/v1/responses/resp_1"]


@pytest.mark.parametrize("stream", [False, True], ids=["polled", "streamed"])
@pytest.mark.parametrize("command", ["monitor", "show", "cancel"])
def test_every_command_sends_them(command: str, stream: bool) -> None:
    """Each command that retrieves a job sends the job's values every time."""
    client = FakeClient(
        FakeClock(),
        retrieves=[response("in_progress"), CallFailed("timeout", "timed out"), with_text("ok")],
        cancels=[response("in_progress")],
    )
    context = fake_context(client, wait=Wait(stream=stream))
    job = job_of(context, "resp_1")
    job.note_include(INCLUDE)
    target = Target(response_id="resp_1")
    steps = {
        "monitor": lambda context: commands.monitor(target, job, context),
        "show": lambda context: commands.show(job, context),
        "cancel": lambda context: commands.cancel(target, job, context),
    }
    collect(steps[command], context)
    assert client.includes
    assert set(client.includes) == {INCLUDE}
