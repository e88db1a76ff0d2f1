"""What ends a run over many jobs: a blocked network, an exhausted quota, the wait limit."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from harness import failed
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Error, PollError
from virtual_time import Server, monitor, submit

if TYPE_CHECKING:
    from pathlib import Path


def test_a_blocked_network(tmp_path: Path) -> None:
    """If the network stays blocked, no further job is submitted, and the run ends with exit 7."""
    server = Server(lasting=1)

    def judge(server: Server, name: str) -> CallFailed | None:
        if name == "create" and len(server.bodies) >= 10:
            return CallFailed("connect_error", "no connection", sent=False)
        return None

    server.judge = judge
    events, summary = submit(server, tmp_path, 100, in_flight=5)
    assert summary.exit_code == 7
    created = len(server.bodies)
    assert created <= 10 + 5
    assert summary.counts == {"completed": created, "not_submitted": 100 - created}
    assert summary.elapsed_seconds < 90
    errors = [event for event in events if isinstance(event, Error)]
    assert len({event.of for event in errors}) == len(errors) <= 5
    assert {event.code for event in errors} == {"unavailable"}


@pytest.mark.parametrize("seconds", [20, 300])
def test_a_network_that_is_blocked_from_the_start(tmp_path: Path, seconds: float) -> None:
    """One error and the summary say why nothing was submitted, also if the wait limit is short."""
    server = Server(lasting=1)
    server.judge = lambda *_: CallFailed("connect_error", "no connection", sent=False)
    events, summary = submit(server, tmp_path, 20, in_flight=5, wait=seconds)
    assert (summary.exit_code, summary.counts) == (7, {"not_submitted": 20})
    assert len([event for event in events if isinstance(event, Error)]) == 1
    (reason,) = summary.unsuccessful
    assert "no connection" in str(reason.message)


def test_a_network_that_returns(tmp_path: Path) -> None:
    """If the network is blocked for less than a minute, all jobs complete."""
    server = Server(lasting=15)

    def judge(server: Server, name: str) -> CallFailed | None:
        if 20 < server.clock.monotonic() < 60:
            return CallFailed("connect_error", "no connection", sent=False)
        return None

    server.judge = judge
    events, summary = submit(server, tmp_path, 30, in_flight=4)
    assert (summary.exit_code, summary.counts) == (0, {"completed": 30})
    assert len(server.bodies) == 30
    assert any(isinstance(event, PollError) for event in events)


@pytest.mark.parametrize(
    ("failure", "code", "counted"),
    [
        (failed(401), 8, "not_submitted"),
        (failed(429, "insufficient_quota"), 1, "refused"),
        (failed(429, "project_spend_limit_exceeded"), 1, "refused"),
    ],
)
def test_errors_that_stop_a_run(
    tmp_path: Path, failure: CallFailed, code: int, counted: str
) -> None:
    """After a refused key or an exhausted quota no job is submitted; running jobs are followed."""
    server = Server(lasting=100)
    server.judge = lambda server, name: (
        failure if name == "create" and len(server.bodies) >= 9 else None
    )
    _, summary = submit(server, tmp_path, 60, in_flight=9)
    assert summary.exit_code == code
    assert summary.counts["completed"] == 9
    assert len(server.times("create")) < 9 + 9, "except those in flight"
    assert summary.counts[counted] >= len(server.times("create")) - 9
    assert sum(summary.counts.values()) == 60


def test_an_exhausted_quota_while_jobs_run(tmp_path: Path) -> None:
    """At the wait limit an exhausted quota gives exit 3 as long as a job is running, then 1."""
    server, creates = Server(), count()
    server.judge = lambda _server, name: (
        failed(429, "insufficient_quota") if name == "create" and next(creates) >= 2 else None
    )
    _, summary = submit(server, tmp_path, 9, in_flight=3, wait=60)
    counts = {"in_progress": 2, "refused": 1, "not_submitted": 6}
    assert (summary.exit_code, summary.counts) == (3, counts)
    server.lasting = -1e9
    _, summary = submit(server, tmp_path, 9, in_flight=3)
    assert (summary.exit_code, summary.counts["completed"]) == (1, 2)


def test_a_blocked_network_under_a_monitor() -> None:
    """A monitor on a blocked network ends after a minute with exit 7 and all IDs in `next`."""
    server = Server()
    server.judge = lambda _server, _name: CallFailed("connect_error", "none", sent=False)
    summary = monitor(server, 50, 10.0, None)
    assert summary.exit_code == 7
    assert summary.elapsed_seconds == pytest.approx(60, abs=2)
    assert summary.counts == {"unknown": 50}
    assert summary.next is not None
    assert len(summary.next[summary.next.index("changes") + 1 :]) == 50


def test_the_wait_limit(tmp_path: Path) -> None:
    """At the wait limit the run ends with exit 3 and counts unsent jobs; a rerun completes all."""
    server = Server()
    _, summary = submit(server, tmp_path, 12, in_flight=5, wait=60)
    assert (summary.exit_code, len(server.bodies)) == (3, 5)
    assert summary.elapsed_seconds == pytest.approx(60, abs=1.2)
    assert summary.counts == {"in_progress": 5, "not_submitted": 7}
    server.lasting = -1e9
    _, summary = submit(server, tmp_path, 12, in_flight=5)
    assert (summary.exit_code, summary.counts) == (0, {"completed": 12})
    assert len(server.bodies) == len(set(server.bodies)) == 12


def test_a_create_of_a_batch_that_hangs(tmp_path: Path) -> None:
    """The reply to the create of a batch is awaited until 5 s after the wait limit."""
    _, summary = submit(Server(latency=1e6), tmp_path, 2, wait=1, batch=True)
    assert (summary.exit_code, summary.counts) == (6, {"outcome_unknown": 2})
    assert summary.elapsed_seconds == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("latency", [0.05, 3.0, 1e6])
@pytest.mark.parametrize("wait", [2.0, 7.0, 31.0])
def test_the_wait_limit_is_exact(latency: float, wait: float) -> None:
    """A run of more jobs than connections ends about a second after the wait limit at most."""
    server = Server(latency=latency)
    summary = monitor(server, 300, max(1.0, wait / 4), wait)
    assert summary.exit_code == 3
    assert summary.elapsed_seconds == pytest.approx(wait, abs=1.3)
    assert summary.next is not None
    assert len(set(summary.next)) > 300
