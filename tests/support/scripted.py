"""Runs of the engine against scripted replies, on a clock that needs no time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import FakeClient, FakeClock, fake_context, monitor, response, submit, with_text
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Error
from oaibg.engine.claim import Submission
from oaibg.request.body import Request

if TYPE_CHECKING:
    from harness import Step
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.run_options import Wait

RUNNING = response("in_progress")
DONE = with_text("ok")
RESET = CallFailed("connection_error", "reset")


def submission(job_key: str | None = None, *, detach: bool = False) -> Submission:
    """A job to submit."""
    request = Request(body={"background": True}, sha256="0" * 64)
    return Submission(request=request, model="m", job_key=job_key, detach=detach)


def monitored(steps: list[Step], *, wait: Wait | None = None) -> tuple[list[Event], FakeClient]:
    """The events of a monitor whose retrieves get these replies."""
    client = FakeClient(FakeClock(), retrieves=steps)
    return monitor(fake_context(client, wait=wait)), client


def submitted(
    creates: list[Step], *, wait: Wait | None = None, job_key: str | None = None
) -> tuple[list[Event], FakeClient, Context]:
    """The events of a submit whose creates get these replies; the first retrieve ends the job."""
    client = FakeClient(FakeClock(), creates=creates, retrieves=[DONE])
    context = fake_context(client, wait=wait)
    return submit(submission(job_key), context), client, context


def last_error(events: list[Event]) -> Error:
    """The error that ended the run."""
    assert isinstance(events[-1], Error)
    return events[-1]
