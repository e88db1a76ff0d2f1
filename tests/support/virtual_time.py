"""An API and an event loop on virtual time: hours of a run over many jobs take no time.

`submit` and `monitor` are whole runs against `Server`. Time passes only when all tasks wait, so the
speed of the machine changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import selectors
from typing import TYPE_CHECKING, Any, cast

from harness import BASE_URL, OPENED, Steps, failed, response
from oaibg.api.payload import Payload
from oaibg.cli.next_command import NextCommand
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Summary
from oaibg.engine.context import Context, Shared
from oaibg.engine.find import Target
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output, Wait
from oaibg.many import several_ids
from oaibg.many.batch.run_as_batch import submit_batch
from oaibg.many.pacing.pace import Paced
from oaibg.many.plan import Plan
from oaibg.many.run_in_background import submit_file
from oaibg.request.body import Settings
from oaibg.request.jobs_file import JobsFile
from oaibg.state.store import Store
from runs import as_bytes, line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from pathlib import Path

    from oaibg.api.calls import Calls
    from oaibg.contract.events import Event
    from oaibg.engine.run_options import Events
    from oaibg.many.pacing.in_flight import InFlight


class Skipping(selectors.SelectSelector):
    """Does not wait: passes the loop's time instead."""

    time = 0.0
    threads = 0
    """Number of threads at work; while it is not zero, no time passes."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready; only a wait for a thread takes real time."""
        if ready := super().select(0 if timeout is None or timeout > 0 else timeout):
            return ready
        if timeout is None or (self.threads and timeout > 0):
            return super().select(None)
        self.time += max(timeout, 0)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when all its tasks wait."""

    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function in a thread, and count the thread."""
        self._skipping.threads += 1
        working = super().run_in_executor(executor, func, *args)
        working.add_done_callback(self._note_end)
        return working

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """Wait for the threads without the limit, which would be over at once."""
        await super().shutdown_default_executor()

    def _note_end(self, _: asyncio.Future[Any]) -> None:
        self._skipping.threads -= 1

    def time(self) -> float:
        """Return the seconds that tasks have waited."""
        return self._skipping.time


class Clock:
    """A clock with the time of the running loop."""

    def now(self) -> float:
        """Return the Unix time, from a fixed day on."""
        return 1_700_000_000 + self.monotonic()

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def random(self) -> float:
        """Return the middle: no jitter."""
        return 0.5

    async def sleep(self, seconds: float) -> None:
        """Wait for the loop's time to pass."""
        await asyncio.sleep(seconds)

    def block(self, seconds: float) -> None:
        """Fail: nothing may block the loop."""
        raise NotImplementedError


class Server:
    """An API on the loop's time: jobs take `lasting` seconds, and replies take `latency`."""

    def __init__(self, *, lasting: float = 1e9, latency: float = 0.05) -> None:
        self.clock = Clock()
        self.lasting, self.latency = lasting, latency
        self.calls: list[tuple[float, str, str, int]] = []
        """Each call: its time, its name, the job, and the HTTP status of the reply."""
        self.hanging: set[str] = set()
        """The jobs about which requests never get a reply."""
        self.attempts = 0
        """The number of creates so far, successful or not."""
        self.bodies: list[str] = []
        self.created: dict[str, float] = {}
        self.inside = self.most_inside = 0
        self.judge: Callable[[Server, str], CallFailed | None] = lambda _server, _name: None
        """Returns the failure that a call ends with, if any."""

    async def create(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> Payload:
        """Create a job."""
        failure = self.judge(self, "create")
        if failure is None or failure.sent:
            await on_sending()
        self.attempts += 1
        identifier = f"resp_{self.attempts}"
        await self._answer("create", identifier, failure, timeout)
        self.bodies.append(json.dumps(body))
        self.created[identifier] = self.clock.monotonic()
        return self._payload(identifier)

    async def retrieve(
        self,
        response_id: str,
        timeout: float,
        _include: Sequence[str] = (),
        *,
        is_batch: bool = False,
    ) -> Payload:
        """Retrieve a job."""
        assert not is_batch
        failure = self.judge(self, "retrieve")
        await self._answer("retrieve", response_id, failure, timeout)
        return self._payload(response_id)

    async def cancel(self, response_id: str, timeout: float, *, is_batch: bool = False) -> Payload:
        """Fail: these tests do not use it."""
        raise NotImplementedError

    async def create_stream(self, *_: Any, timeout: float) -> Any:
        """Fail: these tests do not use it."""
        raise NotImplementedError

    async def upload(self, *_: object) -> str:
        """Take a batch's file at once."""
        return "file_1"

    async def create_batch(
        self,
        _file_id: str,
        _metadata: dict[str, str],
        on_sending: Callable[[], Awaitable[None]],
        *,
        timeout: float,
    ) -> Payload:
        """Create a batch."""
        await on_sending()
        await self._answer("create_batch", "batch_1", None, timeout)
        return self._payload("batch_1")

    async def list_batches(self, *_: object) -> list[dict[str, Any]]:
        """Return an empty list of batches."""
        return []

    def times(self, name: str = "retrieve", status: int | None = None) -> list[float]:
        """Return the times of the calls with a name, and with an HTTP status if it is given."""
        return [at for at, call, _, code in self.calls if call == name and status in (None, code)]

    async def _answer(
        self, name: str, identifier: str, failure: CallFailed | None, timeout: float
    ) -> None:
        status = 200 if failure is None else failure.http_status or 0
        self.calls.append((self.clock.monotonic(), name, identifier, status))
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        latency = 1e9 if identifier in self.hanging else self.latency
        try:
            await asyncio.sleep(min(latency, timeout))
        finally:
            self.inside -= 1
        if failure is not None:
            raise failure
        if latency > timeout:
            raise CallFailed("timeout", "the request timed out")

    def _payload(self, identifier: str) -> Payload:
        ended = self.clock.monotonic() >= self.created.get(identifier, 0) + self.lasting
        body = response("completed" if ended else "in_progress") | {"id": identifier}
        return Payload(json.dumps(body).encode(), "req_1")


def limited(per_second: float, burst: int, **failure: Any) -> Callable[[Server, str], Any]:
    """Return a `judge` that replies 429 to more than `per_second` requests, after a burst."""
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


def play(steps: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine on a loop that skips its waits; return its result."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(steps())


def monitor(server: Server, jobs: int, poll: float, wait: float | None) -> Summary:
    """Follow jobs that the server has; return the summary."""
    options = Wait(poll_seconds=poll, max_wait_seconds=wait, events="changes")
    targets = [Target(response_id=f"resp_{number}") for number in range(jobs)]
    several = several_ids.Several(targets=targets, runs=[])

    def steps(context: Context) -> Coroutine[Any, Any, Event]:
        return several_ids.monitor(Job(), several, context)

    return _summary(_run(server, jobs / poll, steps, options))


def run_one(server: Server, steps: Steps, wait: Wait) -> list[Event]:
    """Return all events of a command about one job."""
    return _run(server, 1e9, steps, wait)


def submit(
    server: Server,
    folder: Path,
    jobs: int,
    *,
    in_flight: int = 50,
    wait: float | None = None,
    batch: bool = False,
    events: Events = "changes",
    slots: InFlight | None = None,
) -> tuple[list[Event], Summary]:
    """Run a jobs file that polls every ten seconds; return its events and its summary."""
    path = folder / "jobs.jsonl"
    path.write_bytes(as_bytes(*(line(str(number)) for number in range(jobs))))
    settings = Settings(model="m", reasoning_effort="omit", verbosity="omit")
    file = JobsFile(str(path), settings, background=not batch)
    plan = Plan(
        file=file,
        key="k",
        results_path=str(folder / "results.jsonl"),
        max_in_flight=in_flight,
        slots=slots,
        completion_window="24h" if batch else None,
        resubmit_unknown=False,
    )
    own = Job(submitting=True, is_run=True)
    options = Wait(max_wait_seconds=wait, events=events)
    store = Store(str(folder / "state"))

    async def steps(context: Context) -> Event:
        if batch:
            return await submit_batch(plan, own, context, detach=False)
        return await submit_file(plan, own, context)

    try:
        found = _run(server, in_flight / 10, steps, options, store, slots)
        return found, _summary(found)
    finally:
        file.close()


def _run(
    server: Server,
    rate: float,
    steps: Steps,
    wait: Wait,
    store: Store | None = None,
    slots: InFlight | None = None,
) -> list[Event]:
    """Return the events of a run."""

    async def drain() -> list[Event]:
        paced = Paced(cast("Calls", server), server.clock, rate, slots)

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
    events: list[Event] = play(drain)
    return events


def _summary(events: list[Event]) -> Summary:
    summary = events[-1]
    assert isinstance(summary, Summary)
    return summary
