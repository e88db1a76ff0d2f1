"""A day of polling with random faults, on a fake clock."""

from __future__ import annotations

import json
import random
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from harness import FakeClock, fake_context, submit, with_text
from ledger import count
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Final, Poll, PollError, SubmitError
from oaibg.engine.claim import Submission
from oaibg.engine.run_options import Wait
from oaibg.request.body import Request
from oaibg.state.store import Store
from promises import TOLERANCE, check_line
from scripted_server import FOREVER, Answer, Clock, Server, asked_for, payload_answer
from strategies import imf_fixdate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


DAY = 86_400.0


class Day:
    """One job's day at a server that often fails, but never long enough to end the run."""

    def __init__(self, clock: FakeClock, seed: int) -> None:
        self._clock, self._random = clock, random.Random(seed)
        self._end = clock.time + DAY

    def creates(self) -> Iterator[Answer]:
        """Yield some failures that certainly create nothing, then the job."""
        for _ in range(self._random.randrange(4)):
            yield self._random.choice([self._unconnected, self._busy])()
        yield payload_answer("queued")

    def retrieves(self) -> Iterator[Answer]:
        """Yield statuses and failures for a day, then the completed job."""
        faults = [self._error, self._busy, self._lost, self._hang, self._page, self._proxy]
        while self._clock.time < self._end:
            for _ in range(self._random.randrange(1, 40)):
                yield payload_answer("in_progress")
            for _ in range(self._random.randrange(1, 5)):
                yield from (self._missing() for _ in range(self._random.randrange(3)))
                yield self._failed(401) if self._random.random() < 0.2 else self._error()
                fault = self._random.choice([*faults, self._unconnected])
                yield from (fault() for _ in range(self._random.randrange(12)))
                yield self._random.choice(faults)()
        yield Answer(json.dumps(with_text("The end.", id="resp_day")).encode())

    def _failed(self, status: int | None, code: str | None = None, **more: Any) -> Answer:
        code = code or f"http_{status}"
        more = {"sent": True, "envelope": True, **more}
        return Answer(partial(CallFailed, code, "no", http_status=status, **more))

    def _error(self) -> Answer:
        return self._failed(self._random.choice([500, 502, 503, 504, 520]), envelope=False)

    def _busy(self) -> Answer:
        seconds = self._random.randrange(90)
        header = self._random.choice(
            [None, "soon", str(seconds), imf_fixdate(self._clock.time - 1000 + seconds)]
        )
        return self._failed(429, "rate_limit_exceeded", retry_after=header)

    def _lost(self) -> Answer:
        return self._failed(None, "connection_error")

    def _unconnected(self) -> Answer:
        return self._failed(None, "connect_error", sent=False)

    def _hang(self) -> Answer:
        return Answer(b"", answering=FOREVER)

    def _page(self) -> Answer:
        return Answer(b"<html>A proxy's page</html>")

    def _proxy(self) -> Answer:
        return self._failed(403, envelope=False)

    def _missing(self) -> Answer:
        return self._failed(404)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_day_of_faults(tmp_path: Path, seed: int) -> None:
    """One job is followed for a day; every fault is reported, and none ends the run."""
    count("fuzzed")
    clock = Clock()
    day = Day(clock, seed)
    server = Server(clock, create=day.creates(), retrieve=day.retrieves())
    with closing(Store(str(tmp_path / "state"), now=clock.now)) as store:
        request = Request(body={"background": True}, sha256="0" * 64)
        submission = Submission(request=request, model="m", job_key="k")
        events = submit(submission, fake_context(server, store, wait=Wait(poll_seconds=10.0)))
    final, polls = events[-1], [event for event in events if isinstance(event, Poll | PollError)]
    assert isinstance(final, Final)
    assert (final.status, final.exit_code) == ("completed", 0)
    assert final.elapsed_seconds >= DAY
    creates = [call for call in server.log if call.name == "create"]
    assert [call.payload is not None for call in creates] == [False] * (len(creates) - 1) + [True]
    assert sum(isinstance(event, SubmitError) for event in events) == len(creates) - 1
    row = 0
    for attempt, (call, poll) in enumerate(zip(server.log[len(creates) :], polls, strict=True), 1):
        check_line(poll)
        assert poll.attempt == attempt
        row = row + 1 if call.failure else 0
        if isinstance(poll, PollError):
            assert call.failure is not None
            assert (poll.consecutive, poll.error.code) == (row, call.failure.code)
            delay = asked_for(call.failure.retry_after, 1_700_000_000 + call.end)
            assert poll.retry_in_seconds >= max(delay, 5) - TOLERANCE
        else:
            assert call.payload is not None
            assert poll.status == call.payload.status
