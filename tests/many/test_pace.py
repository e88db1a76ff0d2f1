"""How fast a run over many jobs asks: on a clock of its own, on which hours take no time."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness import BASE_URL, OPENED, Steps, failed, response
from oaibg.api.payload import Payload
from oaibg.cli.next_command import NextCommand
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Error, PollError, SubmitError, Summary
from oaibg.engine.context import Context, Shared
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output, Wait
from oaibg.engine.verdicts import CreateVerdict, create_error, judge_create
from oaibg.many import several_ids
from oaibg.many.pace import CONNECTIONS, Gate, Pace, Paced
from oaibg.many.plan import Plan
from oaibg.many.run_in_background import submit_file
from oaibg.request.body import Settings
from oaibg.request.jobs_file import JobsFile
from oaibg.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from oaibg.api.calls import Calls
    from oaibg.contract.events import Event


class Skipping(selectors.SelectSelector):
    """Waits no time: the loop's time passes instead."""

    time = 0.0
    threads = 0
    """How many are at work; while any is, no time passes, however long it takes."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """As always; a wait for a thread is a real one."""
        if ready := super().select(0 if timeout is None or timeout > 0 else timeout):
            return ready
        if timeout is None or (self.threads and timeout > 0):
            return super().select(None)
        self.time += max(timeout, 0)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when all of its tasks wait."""

    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """As always, and count the thread."""
        self._skipping.threads += 1
        working = super().run_in_executor(executor, func, *args)
        working.add_done_callback(self._note_end)
        return working

    def _note_end(self, _: asyncio.Future[Any]) -> None:
        self._skipping.threads -= 1

    def time(self) -> float:
        """Seconds that were waited for."""
        return self._skipping.time


class Clock:
    """The time of the running loop."""

    def now(self) -> float:
        """Unix time, from some day on."""
        return 1_700_000_000 + self.monotonic()

    def monotonic(self) -> float:
        """As the loop has it."""
        return asyncio.get_running_loop().time()

    def random(self) -> float:
        """No jitter."""
        return 0.5

    async def sleep(self, seconds: float) -> None:
        """Let the loop's time pass."""
        await asyncio.sleep(seconds)

    def block(self, seconds: float) -> None:
        """Nothing blocks here."""
        raise NotImplementedError


class Server:
    """An API on the loop's time: its jobs, and whatever limits it has."""

    def __init__(self, *, lasting: float = 1e9, latency: float = 0.05) -> None:
        self.clock = Clock()
        self.lasting, self.latency = lasting, latency
        self.calls: list[tuple[float, str, str, int]] = []
        """When, what, of which job, and the status that was answered."""
        self.bodies: list[str] = []
        self.made: dict[str, float] = {}
        self.inside = self.most_inside = 0
        self.judge: Callable[[Server, str], CallFailed | None] = lambda _server, _name: None
        """What is answered to a call, where that is a failure."""

    async def create(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> Payload:
        """POST."""
        failure = self.judge(self, "create")
        if failure is None or failure.sent:
            await on_sending()
        identifier = f"resp_{len(self.bodies) + 1}"
        await self._answer("create", identifier, failure, timeout)
        self.bodies.append(json.dumps(body))
        self.made[identifier] = self.clock.monotonic()
        return self._payload(identifier)

    async def retrieve(self, response_id: str, timeout: float) -> Payload:
        """GET."""
        failure = self.judge(self, "retrieve")
        await self._answer("retrieve", response_id, failure, timeout)
        return self._payload(response_id)

    async def cancel(self, response_id: str, timeout: float) -> Payload:
        """Not asked for here."""
        raise NotImplementedError

    async def create_stream(self, *_: Any, timeout: float) -> Any:
        """Not asked for here."""
        raise NotImplementedError

    def times(self, name: str = "retrieve", status: int | None = None) -> list[float]:
        """When calls of a name were made, all or those that were answered with a status."""
        return [at for at, call, _, code in self.calls if call == name and status in (None, code)]

    async def _answer(
        self, name: str, identifier: str, failure: CallFailed | None, timeout: float
    ) -> None:
        status = 200 if failure is None else failure.http_status or 0
        self.calls.append((self.clock.monotonic(), name, identifier, status))
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await asyncio.sleep(min(self.latency, timeout))
        finally:
            self.inside -= 1
        if failure is not None:
            raise failure
        if self.latency > timeout:
            raise CallFailed("timeout", "the request timed out")

    def _payload(self, identifier: str) -> Payload:
        ended = self.clock.monotonic() >= self.made.get(identifier, 0) + self.lasting
        body = response("completed" if ended else "in_progress") | {"id": identifier}
        return Payload(json.dumps(body).encode(), "req_1")


def played(steps: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What a coroutine gives on a loop that skips its waits."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(steps())


def run_of(
    server: Server,
    rate: float,
    steps: Steps,
    wait: Wait,
    store: Store | None = None,
) -> tuple[list[Event], Summary]:
    """The events of a run over many jobs, and its summary."""

    async def drain() -> list[Event]:
        paced = Paced(cast("Calls", server), server.clock, rate)

        async def connect() -> Paced:
            return paced

        found: list[Event] = []

        async def emit(event: Event) -> None:
            found.append(event)

        context = Context(
            emit=emit,
            connect=connect,
            store=known,
            state_problem=None,
            base_url=BASE_URL,
            clock=server.clock,
            started=server.clock.monotonic(),
            signum=lambda: 15,
            next_command=NextCommand(wait),
            wait=wait,
            output=Output(),
            shared=Shared(),
        )
        last = await steps(context)
        return [*found, last]

    known = store or Store(None)
    OPENED.append(known)
    events: list[Event] = played(drain)
    summary = events[-1]
    assert isinstance(summary, Summary)
    return events, summary


def monitored(server: Server, jobs: int, poll: float, wait: float | None) -> Summary:
    """A monitor of so many jobs."""
    options = Wait(poll_seconds=poll, max_wait_seconds=wait, events="changes")
    ids = [f"resp_{number}" for number in range(jobs)]
    return run_of(
        server, jobs / poll, lambda context: several_ids.monitor(Job(), ids, context), options
    )[1]


def submitted(
    server: Server, folder: Path, jobs: int, *, in_flight: int = 50, wait: float | None = None
) -> tuple[list[Event], Summary]:
    """A jobs file's run of so many jobs, which polls every ten seconds."""
    path = folder / "jobs.jsonl"
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/responses",
            "body": {"input": str(number)},
        }
        for number in range(jobs)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = Settings(model="m", reasoning_effort="omit", verbosity="omit")
    file = JobsFile(str(path), settings)
    plan = Plan(
        file=file,
        key="k",
        results_path=str(folder / "results.jsonl"),
        max_in_flight=in_flight,
        completion_window=None,
        resubmit_unknown=False,
    )
    own = Job(submitting=True, is_run=True)
    options = Wait(max_wait_seconds=wait, events="changes")
    store = Store(str(folder / "state"))
    try:
        return run_of(
            server, in_flight / 10, lambda context: submit_file(plan, own, context), options, store
        )
    finally:
        file.close()


# Spread


@pytest.mark.parametrize(("jobs", "poll"), [(200, 1.0), (400, 10.0), (37, 0.5)])
def test_polls_are_spread(jobs: int, poll: float) -> None:
    """After the first interval no slice has three times its share, and each job has its period.

    One process has few requests under way at a time.
    """
    server = Server()
    monitored(server, jobs, poll, 4 * poll)
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


def test_submitted_jobs_are_spread_too(tmp_path: Path) -> None:
    """Jobs that were created at one moment are not polled at one moment."""
    server = Server()
    submitted(server, tmp_path, 50, wait=40)
    slices = Counter(int(at) for at in server.times() if at > 1)
    assert max(slices.values()) <= 3 * 5


def test_slow_answers_do_not_stretch_the_period() -> None:
    """It counts from a poll's beginning; after an answer that took longer there is a pause."""
    server = Server(latency=0.4)
    monitored(server, 20, 1.0, 20)
    per_job = Counter(identifier for _, _, identifier, _ in server.calls)
    assert set(per_job.values()) <= {19, 20, 21}
    server = Server(latency=3.0)
    monitored(server, 2, 1.0, 30)
    assert len(server.times()) <= 2 * 30 / 3.5 + 2


# The gate


def test_the_gate_grows_with_rate_and_time() -> None:
    """Twice as many as by Little's law, within the bounds, and those that the fastest sets."""
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


def test_the_gate_is_fair_and_leaks_nothing() -> None:
    """First come, first served; who gives up, or is cancelled, takes no place with him."""

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

    played(steps)


def test_who_is_let_in_and_cancelled_at_once_leaves_his_place() -> None:
    """Both happen in one turn of the loop."""

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

    played(steps)


def test_waiting_for_a_turn_takes_of_the_time() -> None:
    """A call is over in its time, and a second at most, however long it waited for its turn."""

    async def steps() -> float:
        server = Server(latency=1e6)
        paced = Paced(cast("Calls", server), server.clock, 1)
        calls = [paced.retrieve(f"resp_{number}", 4 + number / 100) for number in range(24)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in done} == {CallFailed}
        return server.clock.monotonic()

    assert played(steps) <= 5.3


# 429


def limited(per_second: float, burst: int, **failure: Any) -> Callable[[Server, str], Any]:
    """A server that takes so many requests a second, and answers 429 to what is more."""
    tokens, filled = float(burst), 0.0

    def judge(server: Server, _name: str) -> CallFailed | None:
        nonlocal tokens, filled
        now = server.clock.monotonic()
        tokens, filled = min(tokens + (now - filled) * per_second, burst), now
        if tokens < 1:
            return failed(429, **failure)
        tokens -= 1
        return None

    return judge


@pytest.mark.parametrize("retry_after", [None, "5", "nonsense"])
def test_429s_slow_the_whole_run(retry_after: str | None) -> None:
    """Four times too fast for the server: soon few requests are refused, and what it takes is used.

    Then the limit is gone, and the rate comes back.
    """
    server = Server(lasting=1e9)
    judge = limited(5, 5, retry_after=retry_after)
    server.judge = lambda server, name: (
        judge(server, name) if server.clock.monotonic() < 120 else None
    )
    monitored(server, 20, 1.0, 190)
    refused = [at for at in server.times(status=429) if at > 20]
    taken = [at for at in server.times(status=200) if 20 < at < 120]
    assert len(refused) < 0.3 * len(taken)
    assert len(taken) > 100 * 5 * 0.2
    later = [at for at in server.times() if 180 < at < 190]
    assert len(later) == pytest.approx(200, rel=0.1), "it has recovered"


@pytest.mark.parametrize("retry_after", [None, "7"])
def test_a_429_holds_all_back(retry_after: str | None) -> None:
    """For as long as it asks, a second otherwise; then less goes out than before."""
    server = Server()
    struck: list[float] = []

    def judge(server: Server, _name: str) -> CallFailed | None:
        if server.clock.monotonic() > 10 and not struck:
            struck.append(server.clock.monotonic())
            return failed(429, retry_after=retry_after)
        return None

    server.judge = judge
    monitored(server, 100, 1.0, 40)
    (busy,) = struck
    told = busy + server.latency
    pause = 7.0 if retry_after else 1.0
    times = server.times()
    assert not [at for at in times if told < at < told + pause - 0.01]
    before = sum(9 < at <= 10 for at in times)
    first = min(at for at in times if at > told)
    assert first == pytest.approx(told + pause, abs=0.1)
    assert sum(first <= at < first + 0.2 for at in times) <= 0.2 * before * 0.85
    assert sum(39 < at <= 40 for at in times) == pytest.approx(before, rel=0.1)


def test_the_gap_is_bounded() -> None:
    """However often the API is busy; and it takes a moment until there is none any more."""

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

    played(steps)


@pytest.mark.parametrize("failure", [failed(500), failed(404), failed(429, "insufficient_quota")])
def test_what_is_no_sign_of_haste(failure: CallFailed) -> None:
    """Other failures slow nothing down."""

    async def steps() -> float:
        pace = Pace(Clock())
        for _ in range(50):
            await pace.turn(1)
            with pytest.raises(CallFailed), pace.learning():
                raise failure
        return asyncio.get_running_loop().time()

    assert played(steps) == 0


def test_an_overloaded_server_is_busy_too() -> None:
    """The documented 503."""

    async def steps() -> float:
        pace = Pace(Clock())
        await pace.turn(1)
        with pytest.raises(CallFailed), pace.learning():
            raise failed(503, "server_is_overloaded")
        await pace.turn(9)
        return asyncio.get_running_loop().time()

    assert played(steps) == pytest.approx(1)


def test_a_turn_that_does_not_come() -> None:
    """It is no word of the network, but of a busy API: a create is tried again, and not judged."""

    async def steps() -> CallFailed:
        pace = Pace(Clock())
        await pace.turn(1)
        with pytest.raises(CallFailed), pace.learning():
            raise failed(429, retry_after="100")
        with pytest.raises(CallFailed) as caught:
            await pace.turn(30)
        assert asyncio.get_running_loop().time() == pytest.approx(30)
        return caught.value

    failure = played(steps)
    assert not failure.sent
    assert judge_create(failure) is CreateVerdict.BUSY
    assert create_error(failure).exit_code == 7


def test_429s_on_creates(tmp_path: Path) -> None:
    """A server that takes one create in two seconds: all jobs end, each was created once."""
    server = Server(lasting=5)
    judge = limited(0.5, 3)
    server.judge = lambda server, name: judge(server, name) if name == "create" else None
    events, summary = submitted(server, tmp_path, 24, in_flight=12)
    assert (summary.exit_code, summary.counts) == (0, {"completed": 24})
    assert len(server.bodies) == len(set(server.bodies)) == 24
    assert len(server.times("create", 429)) < 60
    assert {event.error.http_status for event in events if isinstance(event, SubmitError)} <= {
        429,
        None,
    }


def test_a_very_slow_server(tmp_path: Path) -> None:
    """A create in eight seconds is less than all wait for together, and no reason to give up."""
    server = Server(lasting=5)
    judge = limited(0.125, 1)
    server.judge = lambda server, name: judge(server, name) if name == "create" else None
    _, summary = submitted(server, tmp_path, 24, in_flight=24)
    assert (summary.exit_code, summary.counts) == (0, {"completed": 24})
    assert len(server.bodies) == len(set(server.bodies)) == 24


def test_the_deadline_while_creates_wait(tmp_path: Path) -> None:
    """No create goes out after it, and the run is over in a second."""
    server = Server()
    judge = limited(0.2, 2)
    server.judge = lambda server, name: judge(server, name) if name == "create" else None
    _, summary = submitted(server, tmp_path, 50, in_flight=20, wait=60)
    assert summary.elapsed_seconds == pytest.approx(60, abs=1.2)
    assert max(server.times("create")) <= 60
    assert sum(summary.counts.values()) == 50
    assert summary.counts["not_submitted"] == 50 - len(server.bodies)
    assert len(server.bodies) >= 3


def test_reads_and_creates_slow_down_apart(tmp_path: Path) -> None:
    """The API has limits of its own for each."""
    server = Server()

    def judge(server: Server, name: str) -> CallFailed | None:
        busy = name == "create" and len(server.bodies) > 5
        return failed(429, retry_after="500") if busy else None

    server.judge = judge
    submitted(server, tmp_path, 20, in_flight=3, wait=60)
    assert not [event for event in server.calls if event[3] == 429 and event[1] == "retrieve"]
    assert len(server.times("retrieve")) > 3 * 4


# What stops a run


def test_network_that_is_gone(tmp_path: Path) -> None:
    """After the patience for it no further job is tried: 7, and the same command goes on."""
    server = Server(lasting=1)

    def judge(server: Server, name: str) -> CallFailed | None:
        if name == "create" and len(server.bodies) >= 10:
            return CallFailed("connect_error", "no connection", sent=False)
        return None

    server.judge = judge
    events, summary = submitted(server, tmp_path, 100, in_flight=5)
    assert summary.exit_code == 7
    made = len(server.bodies)
    assert made <= 10 + 5
    assert summary.counts == {"completed": made, "not_submitted": 100 - made}
    assert summary.elapsed_seconds < 90
    errors = [event for event in events if isinstance(event, Error)]
    assert len({event.of for event in errors}) == len(errors) <= 5
    assert {event.code for event in errors} == {"unavailable"}


def test_network_that_is_gone_for_a_while(tmp_path: Path) -> None:
    """Within the patience nothing is lost: polls and creates go on."""
    server = Server(lasting=15)

    def judge(server: Server, name: str) -> CallFailed | None:
        if 20 < server.clock.monotonic() < 60:
            return CallFailed("connect_error", "no connection", sent=False)
        return None

    server.judge = judge
    events, summary = submitted(server, tmp_path, 30, in_flight=4)
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
def test_no_further_post(tmp_path: Path, failure: CallFailed, code: int, counted: str) -> None:
    """After a refused key or a spent quota; what was created is followed to its end."""
    server = Server(lasting=100)
    server.judge = lambda server, name: (
        failure if name == "create" and len(server.bodies) >= 9 else None
    )
    _, summary = submitted(server, tmp_path, 60, in_flight=9)
    assert summary.exit_code == code
    assert summary.counts["completed"] == 9
    assert len(server.times("create")) < 9 + 9, "but those that were under way"
    assert summary.counts[counted] >= len(server.times("create")) - 9


def test_a_blocked_network_under_a_monitor() -> None:
    """7 after a minute, with all ids in `next`."""
    server = Server()
    server.judge = lambda _server, _name: CallFailed("connect_error", "none", sent=False)
    summary = monitored(server, 50, 10.0, None)
    assert summary.exit_code == 7
    assert summary.elapsed_seconds == pytest.approx(60, abs=2)
    assert summary.counts == {"unknown": 50}
    assert summary.next is not None
    assert len(summary.next[summary.next.index("changes") + 1 :]) == 50


@pytest.mark.parametrize("latency", [0.05, 3.0, 1e6])
@pytest.mark.parametrize("wait", [2.0, 7.0, 31.0])
def test_the_deadline_is_exact(latency: float, wait: float) -> None:
    """To a second, with more jobs than connections, also on a server that hangs."""
    server = Server(latency=latency)
    summary = monitored(server, 300, 1.0, wait)
    assert summary.exit_code == 3
    assert summary.elapsed_seconds == pytest.approx(wait, abs=1.3)
    assert summary.next is not None
    assert len(set(summary.next)) > 300
