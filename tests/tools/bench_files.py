"""Measure runs over a jobs file: the time of whole runs, and the CPU time for each job.

The wall time of jobs of two seconds, of which 50 are in flight, is compared with the ideal: the
number of rounds times the duration, plus half an interval if the jobs are polled. The CPU time is
that of the whole process without its start, divided by the number of jobs: the create, the polls
and the durable result. It is compared with a loop over `AsyncOpenAI` that also appends each result
to a file and syncs it. Its first polls are also spread over the interval, so that both sides send
as many polls. The start is that of a run over one job. The server is the sandbox.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench_job import serve
from bench_tools import BenchError, oaibg, show_progress, table, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

IN_FLIGHT, SECONDS = 50, 2.0

# Arguments: the jobs file, the results file, the interval and the number of jobs in flight.
SCRIPT = """
import asyncio
import json
import os
import random
import sys
from openai import AsyncOpenAI

jobs, results, interval, at_once = *sys.argv[1:3], float(sys.argv[3]), int(sys.argv[4])


async def run(client, turn, line, file):
    async with turn:
        create = client.responses.with_raw_response.create
        reply = await create(extra_body={**line["body"], "background": True})
        job = json.loads(reply.content)
        pause = interval * random.random()
        while job["status"] in ("queued", "in_progress"):
            await asyncio.sleep(pause)
            pause = interval
            reply = await client.responses.with_raw_response.retrieve(job["id"])
            job = json.loads(reply.content)
        file.write(json.dumps({"custom_id": line["custom_id"], "response": job}) + "\\n")
        file.flush()
        os.fsync(file.fileno())
        print(json.dumps({"event": "final", "response_id": job["id"]}), flush=True)


async def main():
    turn = asyncio.Semaphore(at_once)
    with open(jobs) as lines, open(results, "a") as file:
        async with AsyncOpenAI() as client:
            await asyncio.gather(*(run(client, turn, json.loads(line), file) for line in lines))


asyncio.run(main())
"""


class Measured(NamedTuple):
    """A run over a jobs file, in seconds."""

    wall: float
    cpu: float


def measure(*, quick: bool) -> str:
    """Measure the runs, and return their table."""
    count = 2 * IN_FLIGHT if quick else 12 * IN_FLIGHT
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serve(folder) as bench:
        runs = _Runs(bench.environment, Path(folder))
        ideal = count / IN_FLIGHT * SECONDS
        rows = []
        for name, options, pause, target in (
            ("polled every second", ("--poll-seconds", "1"), 0.5, 1.1),
            ("streamed", ("--stream",), 0.0, 1.1),
            ("`--poll-seconds auto`", ("--poll-seconds", "auto"), 0.0, 1.25),
        ):
            show_progress(f"{count} jobs of {SECONDS:g} s, {name}")
            best = ideal + count / IN_FLIGHT * pause
            row = f"wall time, {count} jobs of {SECONDS:g} s, {name} / ideal"
            rows.append(_row(row, runs.ours(count, *options).wall, best, "s", target))
        show_progress(f"CPU of {count} jobs")
        first = Measured(0, 0)
        sides = []
        for run in (runs.script, runs.ours):
            first = run(1, "--poll-seconds", "1")
            sides.append((run(count, "--poll-seconds", "1").cpu - first.cpu) * 1000 / (count - 1))
        name = "CPU per job: create, polls, durable result / script that syncs its results"
        rows.append(_row(name, sides[1], sides[0], "ms", 1.15))
    header = ["row", "oaibg", "baseline", "ratio", "target", "met"]
    return (
        f"{table(header, *rows)}\n\nEach figure is from one run, with {IN_FLIGHT} jobs in flight. "
        "The wall time includes the start\nof the process, and the sandbox shares the machine."
    )


def _row(name: str, ours: float, baseline: float, unit: str, target: float) -> list[str]:
    ratio = ours / baseline
    met = "yes" if round(ratio, 2) <= target else "no"
    figures = [f"{value:.3g} {unit}" for value in (ours, baseline)]
    return [name, *figures, f"{ratio:.2f}", f"<= {target}", met]


class _Runs:
    """Runs jobs files, each with its own results and state."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self._script = write_file(folder / "jobs.py", SCRIPT)

    def ours(self, count: int, *options: str) -> Measured:
        """Run jobs with oaibg."""
        own, jobs = self._jobs(count)
        paths = ["--jobs-file", jobs, "--results-file", str(own / "results.jsonl")]
        return self._run(own, [oaibg(), "submit", *paths, *options], count)

    def script(self, count: int, _: str, interval: str) -> Measured:
        """Run jobs with the script."""
        own, jobs = self._jobs(count)
        results = str(own / "results.jsonl")
        command = [sys.executable, self._script, jobs, results, interval, str(IN_FLIGHT)]
        return self._run(own, command, count)

    def _jobs(self, count: int) -> tuple[Path, str]:
        own = Path(tempfile.mkdtemp(prefix="run-", dir=self._folder))
        metadata = {"sandbox_seconds": str(SECONDS)}
        body = {"model": "gpt-5.2", "input": "hello", "metadata": metadata}
        request = {"method": "POST", "url": "/v1/responses", "body": body}
        lines = (json.dumps({"custom_id": f"job-{one}", **request}) for one in range(count))
        return own, write_file(own / "jobs.jsonl", "".join(f"{line}\n" for line in lines))

    def _run(self, own: Path, command: Sequence[str], count: int) -> Measured:
        environment = {**self._environment, "OAIBG_STATE_DIR": str(own / "state")}
        began = time.monotonic()
        with (own / "stdout").open("wb") as stdout:
            process = subprocess.Popen(command, stdout=stdout, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        found = len((own / "results.jsonl").read_bytes().splitlines())
        if process.returncode or found != count:
            raise BenchError(f"{command[0]} ended with {process.returncode}, {found} results")
        return Measured(wall, usage.ru_utime + usage.ru_stime)
