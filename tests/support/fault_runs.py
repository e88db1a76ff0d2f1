"""What the tests of the fault table share: arguments, and runs over scripted replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import FakeClient, FakeClock, fake_context, monitor, submit, with_text
from oaibg.contract.events import Error
from oaibg.engine.claim import Submission
from oaibg.request.body import Request

if TYPE_CHECKING:
    from harness import Step
    from oaibg.contract.events import Event
    from oaibg.engine.run_options import Wait

FAST = ("--poll-seconds", "0.05")
LONG = ("--metadata", "sandbox_seconds=600")
KEYED = ("submit", "--prompt", "x", "--job-key", "k")


def monitored(steps: list[Step], *, wait: Wait | None = None) -> tuple[list[Event], FakeClient]:
    """Return the events of a monitor over scripted retrieves, on a fake clock."""
    client = FakeClient(FakeClock(), retrieves=steps)
    return monitor(fake_context(client, wait=wait)), client


def submitted(creates: list[Step]) -> tuple[list[Event], FakeClient]:
    """Return the events of a submit over scripted creates, on a fake clock."""
    client = FakeClient(FakeClock(), creates=creates, retrieves=[with_text("ok")])
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m")
    return submit(submission, fake_context(client)), client


def last_error(events: list[Event]) -> Error:
    """Return the error that ended the run."""
    assert isinstance(events[-1], Error)
    return events[-1]
