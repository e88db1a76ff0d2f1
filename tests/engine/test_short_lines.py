"""How much an agent has to read: the bytes on stdout of a job of an hour, as in the README."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import pytest

from harness import (
    FakeClient,
    FakeClock,
    fake_context,
    monitor,
    response,
    submit,
    with_text,
)
from oaibg.base.json_text import json_line
from oaibg.base.text import timestamp
from oaibg.engine.claim import Submission
from oaibg.engine.report import submit_start
from oaibg.engine.run_options import Output, Wait
from oaibg.request.body import Request
from places import README

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event

HOUR = 3600.0
RESPONSE_ID = "resp_" + "0123456789" * 5
USAGE = {
    "input_tokens": 12_345,
    "input_tokens_details": {"cached_tokens": 1024},
    "output_tokens": 45_678,
    "output_tokens_details": {"reasoning_tokens": 40_960},
    "total_tokens": 58_023,
}


class HourLong(FakeClient):
    """A job that is queued for a minute, and has ended after an hour."""

    async def retrieve(self, response_id: str, timeout: float) -> Payload:
        """GET."""
        spent = self.clock.time - 1000.0
        status = "queued" if spent < 60 else "in_progress"
        done = with_text("The answer.", id=RESPONSE_ID, usage=USAGE)
        self.retrieves = [response(status, id=RESPONSE_ID) if spent < HOUR else done]
        return await super().retrieve(response_id, timeout)


def lines_of_an_hour(
    events: Literal["all", "changes"], slice_seconds: float | None, folder: Path
) -> list[bytes]:
    """What stdout gets: of one run, or of a submit and monitors that each wait for a slice."""
    clock = FakeClock()
    client = HourLong(clock, creates=[response("queued", id=RESPONSE_ID)])
    wait = Wait(events=events, max_wait_seconds=slice_seconds)
    output = Output(output_text_file=str(folder / "report.md"))
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
    told: list[Event] = [submit_start(request, "report-7", wait.poll_seconds)]
    told += submit(submission, fake_context(client, wait=wait, output=output))
    while told[-1].event == "timeout":
        told += monitor(fake_context(client, wait=wait, output=output), RESPONSE_ID)
    assert told[-1].event == "final", told[-1]
    return [json_line(event.to_dict(timestamp(clock.now()))) for event in told]


@pytest.mark.parametrize(
    ("name", "events", "slice_seconds"),
    [
        ("`--events all`", "all", None),
        ("`--events changes`", "changes", None),
        ("`--events changes`, in slices of 540 s", "changes", 540.0),
    ],
)
def test_figures_of_the_readme(
    name: str, events: Literal["all", "changes"], slice_seconds: float | None, tmp_path: Path
) -> None:
    """The README's lines and bytes are those that an hour-long job has."""
    lines = lines_of_an_hour(events, slice_seconds, tmp_path)
    bytes_ = sum(map(len, lines))
    row = re.search(
        rf"^\| {re.escape(name)} \| ([\d,]+) \| ([\d.]+) KB \|", README.read_text(), re.MULTILINE
    )
    assert row is not None, f"| {name} | {len(lines)} | {bytes_ / 1000:.1f} KB |"
    assert int(row[1].replace(",", "")) == len(lines), len(lines)
    assert float(row[2]) == pytest.approx(bytes_ / 1000, rel=0.03)
