"""Ways to run the command: in this process, as a process, or on a fake clock."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from forkserver import Forked
from oaibg.api.calls import Calls
from oaibg.api.payload import Payload
from oaibg.cli.next_command import NextCommand
from oaibg.contract.errors import CallFailed, OaibgError
from oaibg.contract.events import Event
from oaibg.engine import commands, report_end
from oaibg.engine.context import Context, Shared
from oaibg.engine.find import Target
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output, Wait
from oaibg.engine.show_local import show_local
from oaibg.process.early_signals import SIGNALS
from oaibg.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from forkserver import ForkServer, IoFault
    from oaibg.api.calls import Stream
    from oaibg.engine.claim import Submission
    from oaibg.state.database import StateError

BASE_URL = "http://api.test/v1"

Running = subprocess.Popen[bytes] | Forked
"""A process that a test started."""

OPENED: list[Store] = []
"""Stores that a test opened; a fixture closes them after the test."""


@dataclass
class Result:
    """The exit code and the output of one run of the command."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The parsed lines of stdout. Checks that only the last has an exit code: the process's."""
        lines = parsed(self.out)
        ends = [line for line in lines if line.get("exit_code") is not None]
        assert ends == lines[-1:], "exactly one line has an exit code, and it is the last"
        assert ends[0]["exit_code"] == self.code, "it is the process's exit code"
        return lines

    @property
    def events(self) -> list[str]:
        """The event names of the lines, in order."""
        return [line["event"] for line in self.lines]

    @property
    def last(self) -> dict[str, Any]:
        """The last line, which has the exit code."""
        return self.lines[-1]

    @property
    def id(self) -> str:
        """The response ID of the last line."""
        return str(self.last["response_id"])

    @property
    def story(self) -> list[dict[str, Any]]:
        """The lines without the values that differ from run to run."""
        return [stable(line) for line in self.lines]


def parsed(out: bytes) -> list[dict[str, Any]]:
    """Parse stdout. Checks that each line is compact ASCII JSON with the common keys."""
    assert out.endswith(b"\n")
    assert out.isascii()
    lines = [json.loads(line) for line in out.splitlines()]
    for line, text in zip(lines, out.splitlines(), strict=True):
        assert list(line)[:4] == ["ts", "v", "event", "response_id"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
        assert line["v"] == 1
        assert text.decode() == json.dumps(line, separators=(",", ":"))
    return lines


def stable(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line with its times, request IDs and hashes replaced by `…`."""
    kinds: dict[str, object] = {
        "elapsed_seconds": float,
        "request_id": "req_",
        "request_sha256": 64,
        "sha256": 64,
    }
    result = {}
    for key, value in line.items():
        if key in ("ts", "v"):
            continue
        kind = kinds.get(key)
        if value is None or kind is None:
            result[key] = value
        elif kind is float:
            assert value >= 0
            result[key] = "…"
        else:
            assert str(value).startswith(str(kind)) or len(str(value)) == kind
            result[key] = "…"
    return result


class Command:
    """Runs the command in processes of its own."""

    def __init__(self, environment: dict[str, str], forks: ForkServer) -> None:
        self.environment = environment
        self.forks = forks
        self._started: list[Running] = []

    def start(self, *argv: str, fault: IoFault | None = None, **options: Any) -> Running:
        """Start `oaibg ARGV`; stdout and stderr are pipes unless `options` change them.

        The fork server starts the process, unless `fresh` or an option requires a new Python.
        """
        environment = self.environment | options.pop("env", {})
        process: Running
        if options.pop("fresh", False) or options.keys() - {"stdout", "stderr"}:
            streams = {
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "stdin": subprocess.DEVNULL,
            }
            process = subprocess.Popen(
                [sys.executable, "-m", "oaibg", *argv],
                env=environment,
                **{"preexec_fn": default_signals, **streams, **options},
            )
        else:
            process = self.forks.start(argv, environment, fault=fault, **options)
        self._started.append(process)
        return process

    def run(self, *argv: str, **options: Any) -> Result:
        """Run `oaibg ARGV` and wait for its end."""
        return self.end(self.start(*argv, **options))

    @staticmethod
    def end(process: Running, seconds: float = 60) -> Result:
        """Wait for the end of a process; return its exit code and output."""
        out, err = process.communicate(timeout=seconds)
        assert process.returncode is not None
        return Result(process.returncode, out or b"", (err or b"").decode())

    def slack(self) -> float:
        """Return seconds to add to a time limit: 20 times the shortest run, so load counts."""
        began = time.monotonic()
        self.run("--version")
        return 20 * (time.monotonic() - began)

    def stop(self) -> None:
        """Kill the processes that still run."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)


def some_of_each_kind(steps: list[str], nth: int) -> list[int]:
    """Return the numbers, from 1, of every nth step of each kind in a log of `iofault.c`.

    Steps are of one kind if they do the same to a file with the same suffix.
    """
    kinds: dict[tuple[str, str], list[int]] = {}
    for number, step in enumerate(steps, 1):
        action, name = step.split(" ", 1)
        kinds.setdefault((action, Path(name).suffix), []).append(number)
    return sorted(number for numbers in kinds.values() for number in numbers[::nth])


def full_pipe() -> tuple[int, int]:
    """Return the ends of a pipe that is full and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    return reader, writer


def default_signals() -> None:
    """Reset the signals: under nohup or in the background, the tests start with some ignored."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def check_dry_run(result: Result) -> None:
    """Check that the API would not refuse the requests of a dry run, as far as the sandbox knows.

    What they continue is unknown, and so are the types of content that may be added to the API;
    calls without outputs are left to the API.
    """
    from oaibg.sandbox.checks.create import check_create
    from oaibg.sandbox.errors import FieldError

    for line in result.lines:
        body = dict(line.get("body") or {"input": "x", "model": "m"})
        if body.pop("previous_response_id", None) is not None:
            body["conversation"] = "conv_1"
        try:
            check_create(body, lambda _: None)
        except FieldError as error:
            if not re.fullmatch(r"input|input\[\d+\].*\.(type|call_id)", error.param or ""):
                raise AssertionError(error.message) from error


def await_line(process: Running, event: str) -> tuple[dict[str, Any], bytes]:
    """Read stdout up to the first line of an event; return the line, and all bytes read."""
    assert process.stdout is not None
    read = b""
    for line in process.stdout:
        read += line
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found, read
    raise AssertionError(f"no {event} in {read!r}")


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition holds that another thread or process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still not true after {seconds} s"
        time.sleep(0.005)


class FakeClock:
    """A clock whose time passes only in its `sleep`, and `pace` times as fast."""

    def __init__(self, pace: float = 1) -> None:
        self.time = 1000.0
        self.pace = pace

    def now(self) -> float:
        """Return the Unix time."""
        return 1_700_000_000 + self.time

    def monotonic(self) -> float:
        """Return 1000, plus the seconds slept so far."""
        return self.time

    def random(self) -> float:
        """Return the middle, which means no jitter."""
        return 0.5

    async def sleep(self, seconds: float) -> None:
        """Advance the time without waiting."""
        self.block(seconds)
        await asyncio.sleep(0)

    def block(self, seconds: float) -> None:
        """Advance the time without waiting and without an event loop."""
        assert seconds >= 0
        self.time += seconds * self.pace


Step = dict[str, Any] | CallFailed | float
"""The result of a call: a payload, a failure, or seconds that it hangs (until its timeout)."""


@dataclass
class FakeClient(Calls):
    """Calls that follow a script on a fake clock; the last step of each list is repeated."""

    clock: FakeClock
    creates: list[Step] = field(default_factory=list)
    retrieves: list[Step] = field(default_factory=list)
    cancels: list[Step] = field(default_factory=list)
    artifacts: list[bytes | CallFailed | float] = field(default_factory=list)
    calls: list[tuple[str, float]] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    includes: list[tuple[str, ...]] = field(default_factory=list)

    async def create(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> Payload:
        """POST."""
        assert body["background"] is True
        step = self._next("create", self.creates)
        if not isinstance(step, CallFailed) or step.sent:
            await on_sending()
        return await self._answer(step, timeout)

    async def create_stream(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> tuple[Payload, Stream | None]:
        """POST; the reply is not a stream."""
        assert body["stream"] is True
        return await self.create(body, on_sending, timeout=timeout), None

    async def stream(
        self,
        response_id: str,
        starting_after: int | None,
        timeout: float,
        include: Sequence[str] = (),
    ) -> Stream | Payload:
        """GET; the reply is not a stream."""
        assert starting_after is None or starting_after >= 0
        return await self.retrieve(response_id, timeout, include)

    async def retrieve(
        self,
        response_id: str,
        timeout: float,
        include: Sequence[str] = (),
        *,
        is_batch: bool = False,
    ) -> Payload:
        """GET."""
        assert not is_batch
        assert response_id
        self.includes.append(tuple(include))
        return await self._answer(self._next("retrieve", self.retrieves), timeout)

    async def cancel(self, response_id: str, timeout: float, *, is_batch: bool = False) -> Payload:
        """Cancel."""
        assert response_id
        assert not is_batch
        return await self._answer(self._next("cancel", self.cancels), timeout)

    async def upload(self, name: str, file: IO[bytes], timeout: float) -> str:
        """No batches here."""
        raise NotImplementedError

    async def create_batch(
        self,
        file_id: str,
        metadata: dict[str, str],
        on_sending: Callable[[], Awaitable[None]],
        *,
        timeout: float,
    ) -> Payload:
        """No batches here."""
        raise NotImplementedError

    async def list_batches(self, after: str | None, timeout: float) -> list[dict[str, Any]]:
        """No batches here."""
        raise NotImplementedError

    async def download(self, file_id: str, into: IO[bytes], timeout: float) -> None:
        """No batches here."""
        raise NotImplementedError

    async def download_artifact(
        self,
        container_id: str,
        file_id: str,
        into: IO[bytes],
        timeout: float,
        *,
        may_be_html: bool = False,
    ) -> None:
        """GET; the steps of `artifacts` are bytes, failures or seconds that it hangs."""
        assert container_id
        assert file_id
        assert may_be_html in (True, False)
        self.calls.append(("download_artifact", self.clock.time - 1000.0))
        steps = self.artifacts
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, bytes):
            self.timeouts.append(timeout)
            into.write(step)
        else:
            await self._answer(step, timeout)

    def times(self, name: str) -> list[float]:
        """Return when the calls of a name began, in seconds from the start."""
        return [round(at, 3) for call, at in self.calls if call == name]

    def _next(self, name: str, steps: list[Step]) -> Step:
        self.calls.append((name, self.clock.time - 1000.0))
        return steps.pop(0) if len(steps) > 1 else steps[0]

    async def _answer(self, step: Step, timeout: float) -> Payload:
        self.timeouts.append(timeout)
        if isinstance(step, float):
            await self.clock.sleep(min(step, timeout))
            raise CallFailed("timeout", "the request timed out")
        if isinstance(step, CallFailed):
            raise step
        return Payload(json.dumps(step).encode(), "req_1")


def fake_context(
    client: FakeClient,
    store: Store | None = None,
    problem: StateError | None = None,
    *,
    wait: Wait | None = None,
    output: Output | None = None,
) -> Context:
    """Return a context on the client's clock; by default its store is in memory."""

    async def connect() -> FakeClient:
        return client

    if store is None:
        store = Store(None, now=client.clock.now)
        OPENED.append(store)
    wait, output = wait or Wait(), output or Output()
    return Context(
        emit=_nowhere,
        connect=connect,
        store=store,
        state_problem=problem,
        base_url=BASE_URL,
        clock=client.clock,
        started=client.clock.monotonic(),
        signum=lambda: 15,
        next_command=NextCommand(wait, output),
        wait=wait,
        output=output,
        shared=Shared(),
    )


def keep(store: Store, base_url: str, response_id: str, raw: bytes) -> None:
    """Store a local copy: its row, then its file."""
    store.note_result(base_url, response_id)
    store.save_result(base_url, response_id, raw)


async def _nowhere(event: Event) -> None:
    raise AssertionError(f"not expected: {event}")


Steps = Callable[[Context], Coroutine[Any, Any, Event]]
"""A command of the engine that returns the event that ends it."""


def collect(steps: Steps, context: Context) -> list[Event]:
    """Return all events of a command, including the last."""

    async def drain() -> list[Event]:
        events: list[Event] = []

        async def emit(event: Event) -> None:
            events.append(event)

        last = await steps(context.but(emit=emit))
        return [*events, last]

    return asyncio.run(drain())


def job_of(context: Context, response_id: str | None = None, *, submitting: bool = False) -> Job:
    """Return a job as the command line creates it."""
    wait = context.wait
    return Job(
        response_id,
        submitting=submitting,
        streams=wait.stream,
        last_number=wait.starting_after,
    )


def submit(submission: Submission, context: Context, job: Job | None = None) -> list[Event]:
    """Return the events of a submit."""
    own = job or job_of(context, submitting=True)
    return collect(lambda context: commands.submit(submission, own, context), context)


def monitor(context: Context, response_id: str = "resp_1") -> list[Event]:
    """Return the events of a monitor."""
    target = Target(response_id=response_id)
    return collect(lambda context: follow_steps(target, context), context)


async def follow_steps(target: Target, context: Context) -> Event:
    """Run the engine's monitor."""
    return await commands.monitor(target, job_of(context, target.response_id), context)


async def cancel_steps(target: Target, context: Context) -> Event:
    """Run the engine's cancel."""
    return await commands.cancel(target, job_of(context, target.response_id), context)


async def show_steps(target: Target, context: Context) -> Event:
    """Run a show like the command line does: from the local state if it can, else from the API."""
    job = job_of(context, target.response_id)
    try:
        events, is_whole = show_local(target, job, context)
    except OaibgError as error:
        return report_end.error(job, error, context.next_command)
    *before, last = [*events, None] if not is_whole else events
    for event in before:
        assert event is not None
        await context.emit(event)
    return last or await commands.show(job, context)


def names(events: Iterable[Event]) -> list[str]:
    """Return the names of the events."""
    return [event.event for event in events]


def response(status: str, **more: Any) -> dict[str, Any]:
    """Return a response object as a server might send it."""
    return {"id": "resp_1", "status": status, "model": "gpt-5.2", "usage": None, **more}


def with_text(text: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    """Return a response object with one output text."""
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "role": "assistant", "content": [part]}
    return response(status, output=[message], **more)


def failed(status: int, code: str | None = None, **more: Any) -> CallFailed:
    """Return a failed call: the API replied with an error in its envelope."""
    more = {"envelope": True, "request_id": "req_e", **more}
    return CallFailed(code or f"http_{status}", f"HTTP {status}", http_status=status, **more)


def environment(base_url: str, state: Path) -> dict[str, str]:
    """Return the environment of a run against a local server, without this user's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "OAIBG_")) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "sk-test-0123456789",
        "OAIBG_STATE_DIR": str(state),
        "NO_PROXY": "127.0.0.1",
        **_few_certificates(),
    }


@cache
def _few_certificates() -> dict[str, str]:
    """Point to a file with one certificate: reading all of the system's is slower than a run."""
    system = ssl.get_default_verify_paths().cafile
    if system is None:
        return {}
    first, end, _ = Path(system).read_text().partition("-----END CERTIFICATE-----\n")
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(first + end)
    atexit.register(os.unlink, file.name)
    Path(file.name).chmod(0o644)  # an unprivileged user reads it, too
    return {"SSL_CERT_FILE": file.name} if end else {}
