"""A create that requests a stream, up to the event that has the ID."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness import await_line
from ledger import audit
from oaibg.api.client import Client
from oaibg.contract.errors import CallFailed
from oaibg.sandbox import Fault
from stream_runs import STREAM_TEXT, assert_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="create", kind="reset_after"),
        Fault(on="create", kind="cut"),
        Fault(on="create", kind="truncate", after=100),
        Fault(on="create", kind="error_event"),
        Fault(on="create", kind="html"),
        Fault(on="create", kind="raw", body="data: {}\n\n"),
        Fault(
            on="create",
            kind="raw",
            body='data: {"response":{"id":"a/b","status":"queued"}}\n\n',
            headers={"content-type": "text/event-stream"},
        ),
        Fault(on="create", kind="raw", body="{}"),
    ],
    ids=lambda fault: f"{fault.kind}-{str(fault.body)[:20]}",
)
def test_stream_that_ends_before_the_id(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, fault: Fault
) -> None:
    """If a stream ends before the ID, the outcome is unknown, and there is no second POST."""
    sandbox.script(fault)
    argv = (*STREAM_TEXT, "--job-key", "k")
    result = run(*argv)
    assert (result.code, result.last["outcome"], result.last["next"]) == (6, "unknown", None)
    assert run(*argv).code == 6
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


@pytest.mark.parametrize("kind", ["silent", "hang_after"])
def test_first_event_that_does_not_come(sandbox: Sandbox, kind: str) -> None:
    """The timeout of a create includes the wait for the first event."""
    sandbox.script(Fault(on="create", kind=kind))

    async def create() -> CallFailed:
        api = Client(sandbox.base_url, "key")
        body = {"model": "m", "input": "x", "background": True, "stream": True}
        with pytest.raises(CallFailed) as caught:
            await api.create_stream(body, _allow_sending, timeout=0.3)
        await api.close()
        return caught.value

    failure = asyncio.run(create())
    assert (failure.code, failure.sent) == ("timeout", True)


async def _allow_sending() -> None:
    """Allow the request to be sent."""


def test_events_before_the_one_with_the_id(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Events before the one with the ID are ignored."""
    sandbox.script(Fault(on="create", kind="keepalive"))
    assert run(*STREAM_TEXT).code == 0
    assert len(sandbox.posts) == 1


def test_killed_after_the_first_event(command: Command, sandbox: Sandbox) -> None:
    """The ID is stored before it is reported, so that a rerun with the key resumes the job."""
    argv = (*STREAM_TEXT, "--job-key", "k", "--metadata", "sandbox_seconds=1")
    process = command.start(*argv)
    submitted, _ = await_line(process, "submitted")
    process.kill()
    process.wait(10)
    again = command.run(*argv)
    assert (again.code, again.id) == (0, submitted["response_id"])
    assert_whole(sandbox, again)
    assert len(sandbox.posts) == 1
