"""What it costs to follow many jobs at once, and how soon their ends are told.

`oaibg monitor -` against a bare loop over the SDK's asyncio client with raw replies, which polls
all ids at the same interval, in two manners. The plain one begins with all jobs at once, as a
first version of such a script does: the SDK's pool looks at each connection for every request, and
opens a thousand of them for a burst (with 10,000 jobs it comes to nothing). The best one, against
which all else is compared, begins spread over the interval, with no more requests at a time than
are needed at the server's pace; where answers take their time, as over the internet, it needs one
for every request that is on its way, and becomes dearer, too, as a row tells.

A run goes like this. All jobs are running before the process starts, and nothing about them changes
while it is measured. The clock starts when each has been asked once, and the CPU time that the
process takes from then on, over whole intervals, is divided by the requests that the server counted
in the same time: start-up, the first burst and the ends are not in it, and neither are the files
in which oaibg keeps what a job brought, which the script has no match for. (The row of the whole
run has all of this in it.) Then the jobs end one by one, in random order, and both sides end by
themselves. Completion lag is the time from a job's end at the server to the line that tells it, as
it arrives here. Peak memory is the whole run's.

Loopback and plain HTTP: TLS would add the same to both sides. The server is `bench_server`.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from bench_tools import (
    PATIENCE,
    BenchError,
    ask,
    last_words,
    oaibg,
    peak_mb,
    print_table,
    surroundings,
    tell,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Arguments: seconds between polls, whether to begin spread over them, requests on their way.
POLL_SCRIPT = """
import asyncio
import json
import sys
from openai import AsyncOpenAI

interval, spread, limit = float(sys.argv[1]), sys.argv[2] == "spread", int(sys.argv[3])


async def follow(client, turn, response_id, delay):
    await asyncio.sleep(delay)
    while True:
        async with turn:
            reply = await client.responses.with_raw_response.retrieve(response_id)
        status = json.loads(reply.content)["status"]
        if status not in ("queued", "in_progress"):
            line = {"event": "final", "response_id": response_id, "status": status}
            print(json.dumps(line), flush=True)
            return
        await asyncio.sleep(interval)


async def main():
    ids = sys.stdin.read().split()
    delays = [interval * place / len(ids) if spread else 0 for place in range(len(ids))]
    turn = asyncio.Semaphore(limit)
    async with AsyncOpenAI() as client:
        await asyncio.gather(*(follow(client, turn, *job) for job in zip(ids, delays)))


asyncio.run(main())
"""

STREAM_SCRIPT = """
import asyncio
import json
import sys
from openai import AsyncOpenAI

ENDS = ("response.completed", "response.failed", "response.incomplete")


async def follow(client, response_id):
    async for event in await client.responses.retrieve(response_id, stream=True):
        if event.type in ENDS:
            line = {"event": "final", "response_id": response_id, "status": event.response.status}
            print(json.dumps(line), flush=True)


async def main():
    ids = sys.stdin.read().split()
    async with AsyncOpenAI() as client:
        await asyncio.gather(*(follow(client, response_id) for response_id in ids))


asyncio.run(main())
"""

SPREAD = ("spread", "10")
SPREAD_WIDER = ("spread", "100")
AT_ONCE = ("at-once", "1000000")
SLOW_ANSWERS = 0.1
"""Seconds that answers take in one of the rows."""
SETTLING = 1.0
"""Seconds over the interval until every job was asked once."""


class Size(NamedTuple):
    """A run over that many jobs."""

    jobs: int
    interval: float
    """Seconds between the polls of a job."""
    window: float
    """Seconds over which CPU time is counted: whole intervals."""
    ending: float
    """Seconds over which the jobs end."""


class Plan(NamedTuple):
    """How much is measured."""

    few: Size
    sizes: tuple[Size, ...]
    """Between few and many: for what grows alone."""
    many: Size
    most: Size
    streams: int
    """Jobs that are streamed by one process."""
    singles: int
    """Jobs that are streamed by a process each."""
    streams_ending: float
    """Seconds over which those of the one process end."""
    singles_ending: float
    """Seconds over which those of the many processes end."""


FULL = Plan(
    few=Size(10, 0.025, 5, 2),
    sizes=(Size(100, 0.25, 5, 2), Size(1000, 2.5, 5, 2.5)),
    many=Size(2000, 5, 10, 10),
    most=Size(10000, 20, 20, 5),
    streams=200,
    singles=20,
    streams_ending=8,
    singles_ending=5,
)
QUICK = Plan(
    few=Size(10, 0.05, 1, 0.5),
    sizes=(Size(40, 0.2, 1, 0.5),),
    many=Size(100, 0.5, 1, 1),
    most=Size(200, 1, 1, 1),
    streams=20,
    singles=4,
    streams_ending=1,
    singles_ending=1,
)


def measure(*, quick: bool, plot: str | None) -> None:
    """Measure runs over many jobs, and print their tables; draw what grows with the jobs."""
    _allow_files(4096)
    plan = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _server() as address:
        bench = Bench(Server(address), folder)
        sizes = [plan.few, *plan.sizes, plan.many, plan.most]
        polled = {size: bench.polled_pair(size) for size in sizes}
        shortly = plan.many._replace(window=plan.many.interval)
        at_once, slow = bench.at_once(shortly), bench.slow_pair(shortly)
        rows = [
            *_cpu_rows(plan, polled, at_once, slow),
            *_memory_rows(plan, polled),
            *_lag_rows(plan, polled, bench.streamed_pair(plan), bench.singles_pair(plan)),
        ]
    print_table(["row", "oaibg", "baseline", "ratio", "target", "met"], *(map(Row.cells, rows)))
    busiest = max(side.server for pair in polled.values() for side in pair)
    print(
        f"\nEach figure is of one run. The server was busy for {busiest:.0%} of a core at most.\n"
    )
    _print_growth(polled)
    if plot is not None:
        draw(polled, Path(plot))


class Polled(NamedTuple):
    """What one run of polling came to."""

    cpu: float
    """Milliseconds of CPU time a request, while nothing changes."""
    rate: float
    """Requests a second in that time."""
    server: float
    """How much of a core the server took in that time."""
    whole: float
    """Milliseconds of CPU time a request from the first request to the end of the process."""
    peak: float
    """The most memory that was resident, in MB."""
    lags: list[float]
    """Seconds from the end of each job to its line."""

    @property
    def lag(self) -> float:
        """The 99th percentile of the lags."""
        return _percentile(self.lags, 99)


class Pair(NamedTuple):
    """The same of both sides."""

    ours: Polled
    baseline: Polled


class Row(NamedTuple):
    """A row of the table: both sides' figures, and what is asked of ours."""

    name: str
    ours: float
    baseline: float
    unit: str
    highest: float | None = None
    """The target of the figure itself."""
    highest_ratio: float | None = None
    """The target of the ratio to the baseline."""

    def cells(self) -> list[str]:
        """The row as it is printed."""
        ratio = self.ours / self.baseline if self.baseline > 0 else math.nan
        cells = [self.name, self._figure(self.ours), self._figure(self.baseline), f"{ratio:.2f}"]
        if self.highest is not None:
            met = self.ours <= self.highest
            return [*cells, f"<= {self.highest:g} {self.unit}", "yes" if met else "no"]
        if self.highest_ratio is not None:
            met = round(ratio, 2) <= self.highest_ratio
            return [*cells, f"<= {self.highest_ratio}", "yes" if met else "no"]
        return [*cells, "", "for information"]

    def _figure(self, value: float) -> str:
        return f"{value:.3g} {self.unit}" if value < 1000 else f"{value:.0f} {self.unit}"


class Server:
    """The server as it is steered from here."""

    def __init__(self, address: str) -> None:
        self.base_url = f"{address}/v1"
        self._address = f"{address}/bench"
        self._ids: list[str] = []

    def begin(self, jobs: int, *, stream: bool = False, delay: float = 0) -> list[str]:
        """Forget all jobs, and begin new ones; gives their ids."""
        asked = {"count": jobs, "stream": stream, "delay": delay}
        self._ids = ask("POST", f"{self._address}/jobs", asked)
        return self._ids

    def end_over(self, seconds: float) -> dict[str, float]:
        """Let the jobs end within so many seconds, in random order; gives when each does.

        It begins in a second: what streams have to say of the time until now comes before.
        """
        count = len(self._ids)
        places = random.Random(count).sample(range(count), count)
        first = time.time() + 1
        ends = [first + seconds * place / count for place in places]
        ask("POST", f"{self._address}/ends", {"ends": ends})
        return dict(zip(self._ids, ends, strict=True))

    def counts(self) -> dict[str, float]:
        """What was asked since the jobs began."""
        counts: dict[str, float] = ask("GET", f"{self._address}/counts")
        return counts


class Client:
    """A process that follows jobs, and when it wrote what."""

    def __init__(
        self, command: Sequence[str], ids: Sequence[str], folder: str, environment: dict[str, str]
    ) -> None:
        own = Path(tempfile.mkdtemp(prefix="client-", dir=folder))
        self._name = " ".join([Path(command[0]).name, *map(_shortened, command[1:])])
        self._errors = own / "stderr"
        names = written(own / "ids", "".join(f"{response_id}\n" for response_id in ids))
        with Path(names).open("rb") as stdin, self._errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**environment, "OAIBG_STATE_DIR": str(own / "state")},
            )
        self._usage = psutil.Process(self._process.pid)
        self._pieces: list[tuple[float, bytes]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def cpu(self) -> float:
        """Seconds of CPU time so far."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something that the process has to bring about."""
        give_up = time.monotonic() + PATIENCE
        while not is_so():
            if not self._reader.is_alive():
                self._fail("ended early")
            if time.monotonic() >= give_up:
                self._fail("did not come so far")
            time.sleep(0.02)

    def finish(self, seconds: float) -> resource.struct_rusage:
        """Wait for the end of the process, which must be a good one; gives what it took."""
        self._reader.join(seconds)
        if self._reader.is_alive():
            self._fail(f"did not end within {seconds:.0f} s")
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            self._fail(f"ended with {self._process.returncode}")
        return usage

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def lags(self, ends: dict[str, float]) -> list[float]:
        """Seconds from the end of each job to the line that told it."""
        told = dict(self._finals())
        if told.keys() != ends.keys():
            self._fail(f"told {len(told.keys() & ends.keys())} of {len(ends)} ends")
        return [told[response_id] - end for response_id, end in ends.items()]

    def _finals(self) -> Iterator[tuple[str, float]]:
        rest = b""
        for at, piece in self._pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if b'"final"' in line:
                    yield json.loads(line)["response_id"], at

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            while piece := os.read(stdout.fileno(), 65536):
                self._pieces.append((time.time(), piece))

    def _fail(self, what: str) -> None:
        output = b"".join(piece for _, piece in self._pieces[-2:])
        said = [last_words(one)[:300] for one in (output, self._errors.read_bytes())]
        raise BenchError(f"`{self._name}` {what}: it wrote {said[0]}, and as an error {said[1]}")


class Bench:
    """Both sides, and the server that they run against."""

    def __init__(self, server: Server, folder: str) -> None:
        self._server = server
        self._folder = folder
        self._environment = {
            **surroundings(),
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "bench",
        }
        self._ours = [oaibg(), "monitor", "--events", "changes"]
        self._poll_script = written(Path(folder, "poll.py"), POLL_SCRIPT)
        self._stream_script = written(Path(folder, "stream.py"), STREAM_SCRIPT)

    def polled_pair(self, size: Size) -> Pair:
        """Poll so many jobs, both sides in turn."""
        tell(f"{size.jobs:,} jobs, polled every {size.interval:g} s")
        baseline = self._polled(self._script(size, SPREAD), size)
        return Pair(self._polled(self._monitor(size), size), baseline)

    def at_once(self, size: Size) -> Polled:
        """Poll so many jobs with a script that begins with all of them at once."""
        tell(f"{size.jobs:,} jobs, all at once")
        return self._polled(self._script(size, AT_ONCE), size, to_end=False)

    def slow_pair(self, size: Size) -> Pair:
        """Poll so many jobs of a server that takes its time."""
        tell(f"{size.jobs:,} jobs, answers after {SLOW_ANSWERS:g} s")
        script = self._script(size, SPREAD_WIDER)
        baseline = self._polled(script, size, delay=SLOW_ANSWERS, to_end=False)
        ours = self._polled(self._monitor(size), size, delay=SLOW_ANSWERS, to_end=False)
        return Pair(ours, baseline)

    def _script(self, size: Size, manner: tuple[str, str]) -> list[str]:
        return [sys.executable, self._poll_script, str(size.interval), *manner]

    def _monitor(self, size: Size) -> list[str]:
        return [*self._ours, "-", "--poll-seconds", str(size.interval)]

    def _polled(
        self, command: list[str], size: Size, *, delay: float = 0, to_end: bool = True
    ) -> Polled:
        """Poll so many jobs, to their ends or until the process is killed."""
        server = self._server
        with self._client(command, server.begin(size.jobs, delay=delay)) as client:
            client.until(lambda: server.counts()["retrieves"] > 0)
            first = self._sample(client)
            time.sleep(size.interval + SETTLING)
            before = self._sample(client)
            time.sleep(size.window)
            after = self._sample(client)
            requests = after.requests - before.requests
            if not requests:
                raise BenchError(f"no request in {size.window:g} s at {size.jobs:,} jobs")
            whole, peak, lags = math.nan, math.nan, [math.nan]
            if to_end:
                ends = server.end_over(size.ending)
                usage = client.finish(size.ending + 3 * size.interval + PATIENCE)
                lags = client.lags(ends)
                peak = peak_mb(usage.ru_maxrss)
                asked = server.counts()["retrieves"] - first.requests
                whole = (usage.ru_utime + usage.ru_stime - first.cpu) * 1000 / asked
        return Polled(
            cpu=(after.cpu - before.cpu) * 1000 / requests,
            rate=requests / (after.at - before.at),
            server=(after.server - before.server) / (after.at - before.at),
            whole=whole,
            peak=peak,
            lags=lags,
        )

    def streamed_pair(self, plan: Plan) -> tuple[list[float], list[float]]:
        """The lags of jobs that one process streams."""
        tell(f"{plan.streams} streamed jobs")
        script = [sys.executable, self._stream_script]
        baseline = self._streamed([script], plan.streams, plan.streams_ending)
        ours = self._streamed([[*self._ours, "-", "--stream"]], plan.streams, plan.streams_ending)
        return ours, baseline

    def singles_pair(self, plan: Plan) -> tuple[list[float], list[float]]:
        """The lags of jobs that are streamed by a process each, which end one after another."""
        tell(f"{plan.singles} processes with a streamed job each")
        scripts = [[sys.executable, self._stream_script]] * plan.singles
        baseline = self._streamed(scripts, plan.singles, plan.singles_ending)
        ours = [[*self._ours, "-", "--stream"]] * plan.singles
        return self._streamed(ours, plan.singles, plan.singles_ending), baseline

    def _streamed(self, commands: list[list[str]], jobs: int, seconds: float) -> list[float]:
        """Stream jobs, as many by each command; gives the lags of all."""
        server = self._server
        ids = server.begin(jobs, stream=True)
        share = jobs // len(commands)
        clients: list[Client] = []
        try:
            for place, command in enumerate(commands):
                part = ids[place * share : (place + 1) * share]
                clients.append(Client(command, part, self._folder, self._environment))
            for client in clients:
                client.until(lambda: server.counts()["streams"] >= jobs)
            time.sleep(SETTLING)
            ends = server.end_over(seconds)
            for client in clients:
                client.finish(seconds + PATIENCE)
            return [
                lag
                for place, client in enumerate(clients)
                for lag in client.lags(
                    {one: ends[one] for one in ids[place * share : (place + 1) * share]}
                )
            ]
        finally:
            for client in clients:
                client.stop()

    @contextmanager
    def _client(self, command: list[str], ids: list[str]) -> Iterator[Client]:
        client = Client(command, ids, self._folder, self._environment)
        try:
            yield client
        finally:
            client.stop()

    def _sample(self, client: Client) -> _Sample:
        counts = self._server.counts()
        return _Sample(time.monotonic(), client.cpu(), counts["retrieves"], counts["cpu"])


class _Sample(NamedTuple):
    """One moment of a run."""

    at: float
    cpu: float
    requests: float
    server: float


def _cpu_rows(plan: Plan, polled: dict[Size, Pair], at_once: Polled, slow: Pair) -> Iterator[Row]:
    many, most = polled[plan.many], polled[plan.most]
    name = f"CPU a request, {plan.many.jobs:,} jobs ({_rates(many.ours, at_once)})"
    yield Row(name, many.ours.cpu, at_once.cpu, "ms", highest_ratio=0.8)
    name = f"CPU a request, {plan.many.jobs:,} jobs, the best script ({_rates(*many)})"
    yield Row(name, many.ours.cpu, many.baseline.cpu, "ms")
    name = f"CPU a request, {plan.most.jobs:,} jobs, the best script ({_rates(*most)})"
    yield Row(name, most.ours.cpu, most.baseline.cpu, "ms", highest_ratio=0.9)
    slow_name = f"the same at {plan.many.jobs:,}, answers after {SLOW_ANSWERS:g} s"
    yield Row(f"{slow_name} ({_rates(*slow)})", slow.ours.cpu, slow.baseline.cpu, "ms")
    name = f"the same at {plan.many.jobs:,}, from the first request to the last line"
    yield Row(name, many.ours.whole, many.baseline.whole, "ms")


def _rates(ours: Polled, base: Polled) -> str:
    return f"{ours.rate:.0f} and {base.rate:.0f} requests/s"


def _memory_rows(plan: Plan, polled: dict[Size, Pair]) -> Iterator[Row]:
    many, few = polled[plan.many], polled[plan.few]
    yield Row(
        f"peak memory, {plan.many.jobs:,} jobs",
        many.ours.peak,
        many.baseline.peak,
        "MB",
        highest_ratio=1.1,
    )
    more = plan.many.jobs - plan.few.jobs
    sides = [(one.peak - other.peak) * 1000 / more for one, other in zip(many, few, strict=True)]
    yield Row("memory a job beyond the base", sides[0], sides[1], "KB", highest=20)


def _lag_rows(
    plan: Plan,
    polled: dict[Size, Pair],
    streamed: tuple[list[float], list[float]],
    singles: tuple[list[float], list[float]],
) -> Iterator[Row]:
    for name, lags in (
        (f"{plan.streams} jobs streamed by one process", streamed),
        (f"{plan.singles} jobs streamed by a process each", singles),
    ):
        for percent, target in ((50, 50), (99, 200)):
            ours, base = (_percentile(one, percent) * 1000 for one in lags)
            yield Row(f"completion lag, {name}: p{percent}", ours, base, "ms", highest=target)
    size = plan.many
    yield Row(
        f"completion lag, {size.jobs:,} jobs polled every {size.interval:g} s: p99",
        polled[size].ours.lag,
        polled[size].baseline.lag,
        "s",
        highest=size.interval + 0.1,
    )


def _print_growth(polled: dict[Size, Pair]) -> None:
    """Print what grows with the jobs, oaibg's figure before the script's."""
    rows = []
    for size, pair in sorted(polled.items()):
        cells = [
            " / ".join(form.format(value(side)) for side in pair)
            for form, value in _GROWING.values()
        ]
        rows.append([f"{size.jobs:,}", f"{size.interval:g} s", *cells])
    print_table(["jobs", "polled every", *_GROWING], *rows)


_GROWING: dict[str, tuple[str, Callable[[Polled], float]]] = {
    "requests/s": ("{:.0f}", lambda side: side.rate),
    "CPU a request, ms": ("{:.2f}", lambda side: side.cpu),
    "peak memory, MB": ("{:.0f}", lambda side: side.peak),
    "lag p99, s": ("{:.2f}", lambda side: side.lag),
}


def draw(polled: dict[Size, Pair], path: Path) -> None:
    """Draw what grows with the jobs; the same figures give the same file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sizes = sorted(polled)
    jobs = [size.jobs for size in sizes]
    panels: dict[str, Callable[[Size, Polled], float]] = {
        "CPU a request, ms": lambda _, side: side.cpu,
        "peak memory, MB": lambda _, side: side.peak,
        "completion lag p99, in poll intervals": lambda size, side: side.lag / size.interval,
    }
    with mpl.rc_context({"svg.hashsalt": "oaibg", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 3), layout="constrained")
        axes = figure.subplots(1, len(panels))
        for axis, (title, value) in zip(axes, panels.items(), strict=True):
            for place, (label, style) in enumerate((("oaibg", "o-"), ("bare script", "s--"))):
                figures = [value(size, polled[size][place]) for size in sizes]
                axis.plot(jobs, figures, style, label=label, markersize=4)
            axis.set(title=title, xlabel="jobs", xscale="log", ylim=(0, None))
            axis.set_xticks(jobs, [f"{count:,}" for count in jobs], rotation=30)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        axes[0].legend()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _percentile(values: Sequence[float], percent: int) -> float:
    if percent == 50:
        return statistics.median(values)
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def _shortened(argument: str) -> str:
    return Path(argument).name if argument.startswith("/") else argument


def _allow_files(count: int) -> None:
    """Let the processes here open so many files: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def _server() -> Iterator[str]:
    """The server in a process of its own; gives its address."""
    path = Path(__file__).with_name("bench_server.py")
    command = [sys.executable, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=surroundings()) as server:
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            if not address:
                raise BenchError("the server did not start")
            yield address
        finally:
            server.kill()
