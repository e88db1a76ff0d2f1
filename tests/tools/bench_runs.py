"""One run of each kind over many jobs: polled or streamed, by oaibg or by a bare script."""

from __future__ import annotations

import math
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench_clients import Client
from bench_tools import (
    PATIENCE,
    BenchError,
    clean_environment,
    oaibg,
    peak_mb,
    show_progress,
    write_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench_clients import Server

# Arguments: poll interval in seconds, "spread" to spread the first polls over it, and the limit
# of concurrent requests.
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
SLOW_REPLY = 0.1
"""Seconds after which the slow server replies."""
SETTLING = 1.0
"""Seconds after the first interval until every job has been polled once."""


class Size(NamedTuple):
    """The size of a run."""

    jobs: int
    interval: float
    """Seconds between the polls of a job."""
    window: float
    """Seconds over which CPU time is counted: a multiple of the interval."""
    ending: float
    """Seconds over which the jobs end."""


class Plan(NamedTuple):
    """How much is measured."""

    few: Size
    sizes: tuple[Size, ...]
    """Sizes between few and many, only for the table of growth."""
    many: Size
    most: Size
    streams: int
    """Jobs that are streamed by one process."""
    singles: int
    """Jobs that are each streamed by their own process."""
    streams_ending: float
    """Seconds over which the jobs of the one process end."""
    singles_ending: float
    """Seconds over which the jobs of the many processes end."""


class Polled(NamedTuple):
    """The measurements of one run that polls."""

    cpu: float
    """Milliseconds of CPU time per request while no job changes."""
    rate: float
    """Requests per second in that time."""
    server: float
    """Share of a core that the server used in that time."""
    whole: float
    """Milliseconds of CPU time per request, from the first request to the end of the process."""
    peak: float
    """Peak of resident memory, in MB."""
    lags: list[float]
    """Seconds from the end of each job to the line that reports it."""

    @property
    def lag(self) -> float:
        """The 99th percentile of the lags, in seconds."""
        return percentile(self.lags, 99)


class Pair(NamedTuple):
    """The same run of oaibg and of the script."""

    ours: Polled
    baseline: Polled


class Bench:
    """Runs oaibg and the scripts against the server."""

    def __init__(self, server: Server, folder: str) -> None:
        self._server = server
        self._folder = folder
        self._environment = {
            **clean_environment(),
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "bench",
        }
        self._ours = [oaibg(), "monitor", "--events", "changes"]
        self._poll_script = write_file(Path(folder, "poll.py"), POLL_SCRIPT)
        self._stream_script = write_file(Path(folder, "stream.py"), STREAM_SCRIPT)

    def polled_pair(self, size: Size) -> Pair:
        """Poll with both sides, one after the other."""
        show_progress(f"{size.jobs:,} jobs, polled every {size.interval:g} s")
        baseline = self._polled(self._script(size, SPREAD), size)
        return Pair(self._polled(self._monitor(size), size), baseline)

    def at_once(self, size: Size) -> Polled:
        """Poll with the script that starts all jobs at once."""
        show_progress(f"{size.jobs:,} jobs, all at once")
        return self._polled(self._script(size, AT_ONCE), size, to_end=False)

    def slow_pair(self, size: Size) -> Pair:
        """Poll a slow server with both sides."""
        show_progress(f"{size.jobs:,} jobs, replies after {SLOW_REPLY:g} s")
        script = self._script(size, SPREAD_WIDER)
        baseline = self._polled(script, size, delay=SLOW_REPLY, to_end=False)
        ours = self._polled(self._monitor(size), size, delay=SLOW_REPLY, to_end=False)
        return Pair(ours, baseline)

    def _script(self, size: Size, settings: tuple[str, str]) -> list[str]:
        return [sys.executable, self._poll_script, str(size.interval), *settings]

    def _monitor(self, size: Size) -> list[str]:
        return [*self._ours, "-", "--poll-seconds", str(size.interval)]

    def _polled(
        self, command: list[str], size: Size, *, delay: float = 0, to_end: bool = True
    ) -> Polled:
        """Poll until all jobs have ended, or until the process is killed."""
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
                raise BenchError(f"no requests in {size.window:g} s at {size.jobs:,} jobs")
            whole, peak, lags = math.nan, math.nan, [math.nan]
            if to_end:
                ends = server.end_over(size.ending)
                usage = client.finish(size.ending + 3 * size.interval + PATIENCE)
                lags = client.lags(ends)
                peak = peak_mb(usage.ru_maxrss)
                sent = server.counts()["retrieves"] - first.requests
                whole = (usage.ru_utime + usage.ru_stime - first.cpu) * 1000 / sent
        return Polled(
            cpu=(after.cpu - before.cpu) * 1000 / requests,
            rate=requests / (after.at - before.at),
            server=(after.server - before.server) / (after.at - before.at),
            whole=whole,
            peak=peak,
            lags=lags,
        )

    def streamed_pair(self, plan: Plan) -> tuple[list[float], list[float]]:
        """Return the lags of jobs that one process streams, for both sides."""
        show_progress(f"{plan.streams} streamed jobs")
        script = [sys.executable, self._stream_script]
        baseline = self._streamed([script], plan.streams, plan.streams_ending)
        ours = self._streamed([[*self._ours, "-", "--stream"]], plan.streams, plan.streams_ending)
        return ours, baseline

    def singles_pair(self, plan: Plan) -> tuple[list[float], list[float]]:
        """Return the lags of jobs that are each streamed by their own process, for both sides."""
        show_progress(f"{plan.singles} processes, each with one streamed job")
        scripts = [[sys.executable, self._stream_script]] * plan.singles
        baseline = self._streamed(scripts, plan.singles, plan.singles_ending)
        ours = [[*self._ours, "-", "--stream"]] * plan.singles
        return self._streamed(ours, plan.singles, plan.singles_ending), baseline

    def _streamed(self, commands: list[list[str]], jobs: int, seconds: float) -> list[float]:
        """Stream jobs, divided equally among the commands; return all lags."""
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
    """The counters at one moment of a run."""

    at: float
    cpu: float
    requests: float
    server: float


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the median, or the smallest value that is not below this percentage of values."""
    if percent == 50:
        return statistics.median(values)
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
