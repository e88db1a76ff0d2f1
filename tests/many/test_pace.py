"""The pace of requests: polls that are spread, few connections, and 429s."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest

from harness import failed
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import SubmitError
from oaibg.engine.patience import BLOCKED_AFTER
from oaibg.engine.verdicts import CreateVerdict, create_error, judge_create
from oaibg.many.pacing.pace import CONNECTIONS, Gate, Pace, Paced
from virtual_time import Clock, Server, limited, monitor, play, submit

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.api.calls import Calls


@pytest.mark.parametrize(("jobs", "poll"), [(200, 1.0), (400, 10.0), (37, 0.5)])
def test_polls_are_spread(jobs: int, poll: float) -> None:
    """Polls are spread evenly over the interval, and each job is polled once per interval.

    Few requests are in flight at once.
    """
    server = Server()
    monitor(server, jobs, poll, 4 * poll)
    width = max(poll / 10, 12 * poll / jobs)
    slices = Counter(int(at / width) for at in server.times() if 1.5 * poll < at < 3.5 * poll)
    assert max(slices.values()) < 3 * jobs * width / poll
    by_job: dict[str, list[float]] = {}
    for at, _, identifier, _ in server.calls:
        by_job.setdefault(identifier, []).append(at)
    for times in by_job.values():
        assert 4 <= len(times) <= 6
        regular = [other - one for one, other in pairwise(times[:-1])][2:]
        assert regular == pytest.approx([poll] * len(regular), rel=0.1)
    fewest, most = CONNECTIONS
    assert server.most_inside <= min(max(fewest, 2 * jobs / poll * server.latency + 1), most)


def test_polls_of_submitted_jobs_are_spread(tmp_path: Path) -> None:
    """Jobs that were created at the same moment are polled at different moments."""
    server = Server()
    submit(server, tmp_path, 50, wait=40)
    slices = Counter(int(at) for at in server.times() if at > 1)
    assert max(slices.values()) <= 3 * 5


@pytest.mark.parametrize(("hanging", "jobs"), [(8, 40), (20, 40), (60, 200)])
def test_requests_that_hang_hold_up_no_other_job(hanging: int, jobs: int) -> None:
    """Jobs whose polls hang don't delay the polls of the others."""
    server, poll = Server(), 2.0
    server.hanging = {f"resp_{number}" for number in range(0, jobs, jobs // hanging)}
    monitor(server, jobs, poll, 60)
    by_job: dict[str, list[float]] = {}
    for at, _, identifier, _ in server.calls:
        by_job.setdefault(identifier, []).append(at)
    others = [times for identifier, times in by_job.items() if identifier not in server.hanging]
    assert len(others) == jobs - len(server.hanging)
    longest = max(later - at for times in others for at, later in pairwise(times))
    assert longest <= 2 * poll + 1
    assert server.most_inside <= CONNECTIONS[1]


def test_slow_replies_do_not_stretch_the_interval() -> None:
    """The poll interval starts with the request; after a slower reply there is a pause."""
    server = Server(latency=0.4)
    monitor(server, 20, 1.0, 20)
    per_job = Counter(identifier for _, _, identifier, _ in server.calls)
    assert set(per_job.values()) <= {19, 20, 21}
    server = Server(latency=3.0)
    monitor(server, 2, 1.0, 30)
    assert len(server.times()) <= 2 * 30 / 3.5 + 2


def test_the_gate_grows_with_rate_and_time() -> None:
    """The gate admits twice the number by Little's law, within bounds."""
    fewest, most = CONNECTIONS
    gate = Gate(rate=100)
    assert gate.limit == fewest
    for _ in range(200):
        gate.took(0.2)
    assert gate.limit == 40
    for _ in range(200):
        gate.took(5)
    assert 4 * 100 * 0.2 <= gate.limit <= 4 * 100 * 0.21 + fewest
    gate = Gate(rate=100)
    for _ in range(200):
        gate.took(5)
    assert gate.limit == most


def test_the_gate_is_fair_and_leaks_no_place() -> None:
    """The gate admits in order, and a request that times out or is cancelled frees its place."""

    async def steps() -> None:
        gate = Gate(rate=1)
        order: list[int] = []

        async def enter(number: int, seconds: float) -> None:
            await gate.enter(seconds)
            order.append(number)
            await asyncio.sleep(1)
            gate.leave()

        tasks = [asyncio.create_task(enter(number, 100)) for number in range(8)]
        late = asyncio.create_task(enter(8, 0.5))
        cancelled = asyncio.create_task(enter(9, 100))
        tasks += [asyncio.create_task(enter(number, 100)) for number in range(10, 30)]
        await asyncio.sleep(0.7)
        cancelled.cancel()
        done = await asyncio.gather(late, cancelled, return_exceptions=True)
        assert [type(one) for one in done] == [CallFailed, asyncio.CancelledError]
        await asyncio.gather(*tasks)
        assert order == [*range(8), *range(10, 30)]
        at = asyncio.get_running_loop().time()
        assert at == pytest.approx(4)
        await asyncio.gather(*(gate.enter(1) for _ in range(8)))
        assert asyncio.get_running_loop().time() == at, "all places are free"

    play(steps)


def test_a_request_admitted_and_cancelled_at_once() -> None:
    """A request that is admitted and cancelled in one turn of the loop frees its place."""

    async def steps() -> None:
        gate = Gate(rate=1)
        for _ in range(8):
            await gate.enter(1)
        waiting = [asyncio.create_task(gate.enter(50)) for _ in range(2)]
        await asyncio.sleep(0)
        gate.leave()
        waiting[0].cancel()
        await asyncio.wait(waiting, timeout=1)
        assert waiting[0].cancelled()
        assert waiting[1].done()

    play(steps)


def test_waiting_counts_towards_the_timeout() -> None:
    """A call ends within its timeout and at most a second more, including the wait for its turn."""

    async def steps() -> float:
        server = Server(latency=1e6)
        paced = Paced(cast("Calls", server), server.clock, 1)
        calls = [paced.retrieve(f"resp_{number}", 4 + number / 100) for number in range(24)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in done} == {CallFailed}
        return server.clock.monotonic()

    assert play(steps) <= 5.3


@pytest.mark.parametrize("retry_after", [None, "5", "nonsense"])
def test_429s_slow_down_all_reads(retry_after: str | None) -> None:
    """At a quarter of the rate it needs, a run soon gets few 429s and uses the server's limit.

    Once the limit is lifted, the rate recovers.
    """
    server = Server(lasting=1e9)
    judge = limited(5, 5, retry_after=retry_after)
    server.judge = lambda server, name: (
        judge(server, name) if server.clock.monotonic() < 120 else None
    )
    monitor(server, 20, 1.0, 190)
    refused = [at for at in server.times(status=429) if at > 20]
    taken = [at for at in server.times(status=200) if 20 < at < 120]
    assert len(refused) < 0.3 * len(taken)
    assert len(taken) > 100 * 5 * 0.2
    later = [at for at in server.times() if 180 < at < 190]
    assert len(later) == pytest.approx(200, rel=0.1), "it has recovered"


@pytest.mark.parametrize("retry_after", [None, "7"])
def test_a_429_stops_all_reads(retry_after: str | None) -> None:
    """After a 429 nothing is sent for as long as the API asks, then less than before."""
    server = Server()
    refused: list[float] = []

    def judge(server: Server, _name: str) -> CallFailed | None:
        if server.clock.monotonic() > 10 and not refused:
            refused.append(server.clock.monotonic())
            return failed(429, retry_after=retry_after)
        return None

    server.judge = judge
    monitor(server, 100, 1.0, 40)
    (sent,) = refused
    replied = sent + server.latency
    pause = 7.0 if retry_after else 1.0
    times = server.times()
    assert not [at for at in times if replied < at < replied + pause - 0.01]
    before = sum(9 < at <= 10 for at in times)
    first = min(at for at in times if at > replied)
    assert first == pytest.approx(replied + pause, abs=0.1)
    assert sum(first <= at < first + 0.2 for at in times) <= 0.2 * before * 0.85
    assert sum(39 < at <= 40 for at in times) == pytest.approx(before, rel=0.1)


def test_the_gap_is_bounded() -> None:
    """The gap is bounded after many 429s, and shrinks to zero after many successes."""

    async def steps() -> None:
        clock = Clock()
        pace = Pace(clock)
        for _ in range(40):
            await pace.turn(1e6)
            await asyncio.sleep(0.01)
            with pytest.raises(CallFailed), pace.learning():
                raise failed(429)
        begun = clock.monotonic()
        await pace.turn(1e6)
        assert clock.monotonic() - begun <= 61
        begun = clock.monotonic()
        turns = 0
        while clock.monotonic() - begun < 1500:
            with pace.learning():
                pass
            at = clock.monotonic()
            await pace.turn(1e6)
            turns += 1
            if clock.monotonic() == at:
                break
        assert 50 < turns < 400

    play(steps)


@pytest.mark.parametrize("failure", [failed(500), failed(404), failed(429, "insufficient_quota")])
def test_other_failures_slow_nothing_down(failure: CallFailed) -> None:
    """Failures other than a busy API do not slow the run down."""

    async def steps() -> float:
        pace = Pace(Clock())
        for _ in range(50):
            await pace.turn(1)
            with pytest.raises(CallFailed), pace.learning():
                raise failure
        return asyncio.get_running_loop().time()

    assert play(steps) == 0


def test_an_overloaded_server_is_busy_too() -> None:
    """A 503 with `server_is_overloaded` slows the run down like a 429."""

    async def steps() -> float:
        pace = Pace(Clock())
        await pace.turn(1)
        with pytest.raises(CallFailed), pace.learning():
            raise failed(503, "server_is_overloaded")
        await pace.turn(9)
        return asyncio.get_running_loop().time()

    assert play(steps) == pytest.approx(1)


def test_a_turn_that_does_not_come() -> None:
    """A create whose turn does not come counts as busy, so its outcome is known."""

    async def steps() -> CallFailed:
        pace = Pace(Clock())
        await pace.turn(1)
        with pytest.raises(CallFailed), pace.learning():
            raise failed(429, retry_after="100")
        with pytest.raises(CallFailed) as caught:
            await pace.turn(30)
        assert asyncio.get_running_loop().time() == pytest.approx(30)
        return caught.value

    failure = play(steps)
    assert not failure.sent
    assert judge_create(failure) is CreateVerdict.BUSY
    assert create_error(failure).exit_code == 7


def test_429s_stop_all_creates(tmp_path: Path) -> None:
    """After a 429 no create is sent for a second; every job is created once and ends."""
    server = Server(lasting=5)
    judge = limited(0.5, 3)
    server.judge = lambda server, name: judge(server, name) if name == "create" else None
    events, summary = submit(server, tmp_path, 24, in_flight=12)
    assert (summary.exit_code, summary.counts) == (0, {"completed": 24})
    assert len(server.bodies) == len(set(server.bodies)) == 24
    assert len(server.times("create", 429)) < 60
    for sent in server.times("create", 429):
        replied = sent + server.latency
        assert not [at for at in server.times("create") if replied < at < replied + 0.99]
    assert {event.error.http_status for event in events if isinstance(event, SubmitError)} <= {
        429,
        None,
    }


def test_a_very_slow_server(tmp_path: Path) -> None:
    """A run does not give up if its creates wait longer than on a blocked network."""
    server = Server(lasting=5)
    judge = limited(0.125, 1)
    server.judge = lambda server, name: judge(server, name) if name == "create" else None
    _, summary = submit(server, tmp_path, 12, in_flight=12)
    assert (summary.exit_code, summary.counts) == (0, {"completed": 12})
    assert len(server.bodies) == len(set(server.bodies)) == 12
    assert summary.elapsed_seconds > BLOCKED_AFTER + 20


def test_the_wait_limit_while_creates_wait(tmp_path: Path) -> None:
    """No create is sent after the wait limit, and the run ends within about a second."""
    server = Server()
    judge = limited(0.2, 2)
    server.judge = lambda server, name: judge(server, name) if name == "create" else None
    _, summary = submit(server, tmp_path, 30, in_flight=12, wait=60)
    assert summary.elapsed_seconds == pytest.approx(60, abs=1.2)
    assert max(server.times("create")) <= 60
    assert sum(summary.counts.values()) == 30
    assert summary.counts["not_submitted"] == 30 - len(server.bodies)
    assert len(server.bodies) >= 3


def test_reads_and_creates_slow_down_apart(tmp_path: Path) -> None:
    """A busy API for creates does not slow down reads, which have their own limits."""
    server = Server()

    def judge(server: Server, name: str) -> CallFailed | None:
        busy = name == "create" and len(server.bodies) > 5
        return failed(429, retry_after="500") if busy else None

    server.judge = judge
    submit(server, tmp_path, 20, in_flight=3, wait=60)
    assert not [event for event in server.calls if event[3] == 429 and event[1] == "retrieve"]
    assert len(server.times("retrieve")) > 3 * 4
