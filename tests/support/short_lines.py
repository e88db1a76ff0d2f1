"""How much an agent reads: the size of stdout for a job of one hour, in three modes."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness import FakeClient, FakeClock, fake_context, monitor, response, submit, with_text
from oaibg.base.json_text import json_line
from oaibg.base.text import timestamp
from oaibg.engine.claim import Submission
from oaibg.engine.report import submit_start
from oaibg.engine.run_options import Output, Wait
from oaibg.request.body import Request
from oaibg.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.run_options import Events

_HOUR = 3600.0
_RESPONSE_ID = "resp_" + "0123456789" * 5
_USAGE = {
    "input_tokens": 12_345,
    "input_tokens_details": {"cached_tokens": 1024},
    "output_tokens": 45_678,
    "output_tokens_details": {"reasoning_tokens": 40_960},
    "total_tokens": 58_023,
}


class Row(NamedTuple):
    """The stdout of one mode; a KB has 1,000 bytes."""

    name: str
    lines: int
    kilobytes: float


def rows() -> list[Row]:
    """The rows of the table: all events, changes only, and changes in slices of 540 s."""
    return [
        _row("`--events all`", "all"),
        _row("`--events changes`", "changes"),
        _row("`--events changes`, in slices of 540 s", "changes", slice_seconds=540.0),
    ]


class _HourLong(FakeClient):
    """A job that is queued for a minute, and completes after an hour."""

    async def retrieve(
        self,
        response_id: str,
        timeout: float,
        include: Sequence[str] = (),
        *,
        is_batch: bool = False,
    ) -> Payload:
        assert not is_batch
        elapsed = self.clock.time - 1000.0
        status = "queued" if elapsed < 60 else "in_progress"
        done = with_text("The answer.", id=_RESPONSE_ID, usage=_USAGE)
        self.retrieves = [response(status, id=_RESPONSE_ID) if elapsed < _HOUR else done]
        return await super().retrieve(response_id, timeout, include)


def _row(name: str, events: Events, slice_seconds: float | None = None) -> Row:
    """Measure one run, or a submit and monitors that each wait for a slice."""
    clock = FakeClock()
    client = _HourLong(clock, creates=[response("queued", id=_RESPONSE_ID)])
    wait = Wait(events=events, max_wait_seconds=slice_seconds)
    request = Request(
        body={
            "model": "gpt-5.2",
            "reasoning": {"effort": "medium"},
            "text": {"verbosity": "medium"},
            "background": True,
        },
        sha256="0" * 64,
    )
    submission = Submission(request=request, model="gpt-5.2")
    emitted: list[Event] = [submit_start(request, "report-7", wait.poll_seconds)]
    with tempfile.TemporaryDirectory() as directory, closing(Store(None, now=clock.now)) as store:
        output = Output(output_text_file=str(Path(directory) / "report.md"))
        context = fake_context(client, store, wait=wait, output=output)
        emitted += submit(submission, context)
        while emitted[-1].event == "timeout":
            emitted += monitor(context.but(started=clock.monotonic()), _RESPONSE_ID)
    assert emitted[-1].event == "final", emitted[-1]
    lines = [json_line(event.to_dict(timestamp(clock.now()))) for event in emitted]
    # The size does not depend on this machine's temporary directory.
    sizes = [len(line.replace(directory.encode(), b"/home/me")) for line in lines]
    return Row(name, len(sizes), sum(sizes) / 1000)
