"""What oaibg costs: ratios, in one run on one machine, against bare scripts over the SDK.

`make bench`, or `python tests/tools/bench.py`, with `--only start` or `--only many` for a part of
it and `--quick` for small numbers, which prove that the bench works and little else. Prints
Markdown tables. The exit code is 0 if everything could be measured, whatever the figures, and 1
if something could not be. With BENCH_OAIBG naming another `oaibg`, that one is measured; with
BENCH_TYPER_PYTHON naming an interpreter that has oaibg and another Typer, a row more tells whether
that Typer is as fast.

What one job costs from start to end is measured here, runs over many jobs in `bench_many`. Each row
runs its baseline and oaibg in turns; its ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import bench_many
from bench_tools import (
    PATIENCE,
    BenchError,
    ask,
    last_words,
    machine,
    oaibg,
    peak_mb,
    print_table,
    surroundings,
    tell,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB_SECONDS, POLL_SECONDS = 0.05, 0.1  # the first poll always finds the job's end
LONG_JOB_SECONDS, LONG_POLL_SECONDS = 2.0, 0.2

SUBMIT_SCRIPT = f"""
import time
from openai import OpenAI

client = OpenAI()
r = client.responses.create(
    model="gpt-5.2",
    input=[{{"role": "user", "content": [{{"type": "input_text", "text": "hello"}}]}}],
    text={{"format": {{"type": "text"}}, "verbosity": "medium"}},
    reasoning={{"effort": "medium"}},
    background=True,
)
print(r.id, r.status, flush=True)
while r.status in ("queued", "in_progress"):
    time.sleep({POLL_SECONDS})
    r = client.responses.retrieve(r.id)
    print(r.id, r.status, flush=True)
print(r.output_text)
"""

MONITOR_SCRIPT = f"""
import sys
import time
from openai import OpenAI

client = OpenAI()
while True:
    r = client.responses.retrieve(sys.argv[1])
    print(r.id, r.status, flush=True)
    if r.status not in ("queued", "in_progress"):
        break
    time.sleep({LONG_POLL_SECONDS})
"""


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description="Measure oaibg against bare SDK scripts.")
    parser.add_argument("--only", choices=("start", "many"), help="one part alone")
    parser.add_argument("--quick", action="store_true", help="small numbers, to try the bench")
    parser.add_argument("--runs", type=int, default=15, help="pairs a row of start (default: 15)")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw what grows with the jobs, too")
    options = parser.parse_args()
    parts: list[Callable[[], None]] = []
    if options.only != "many":
        parts.append(partial(_start, 2 if options.quick else max(2, options.runs)))
    if options.only != "start":
        parts.append(partial(bench_many.measure, quick=options.quick, plot=options.plot))
    measured_on = machine()
    try:
        for part in parts:
            part()
            print(flush=True)
    except (BenchError, OSError) as error:
        print(f"bench: could not measure: {error}", file=sys.stderr)
        return 1
    print(measured_on)
    return 0


def _start(runs: int) -> None:
    """What one job costs: start-up, whole runs, memory."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _sandbox(folder) as bench:
        rows = [row.cells() for rows in _measures(bench, runs) for row in rows]
    print_table(["row", "oaibg", "baseline", "ratio", "quartiles", "target", "met"], *rows)
    print(f"\nMedians of {runs} pairs of runs in turns ({_long_runs(runs)} for memory); ", end="")
    print("ratios are medians of the pairs' ratios.")
    print("By the server's log every submit made one POST and one poll, on both sides.")


class Run(NamedTuple):
    """One process from start to end. Times are seconds from its start."""

    began: float
    """Unix seconds."""
    first_line: float
    whole: float
    peak: float
    """The most memory that was resident, in MB."""
    output: str


class Row(NamedTuple):
    """What was measured of oaibg and of its baseline, pair by pair."""

    name: str
    ours: list[float]
    baseline: list[float]
    target: float | None
    unit: str = "ms"

    def cells(self) -> list[str]:
        """The row of the table."""
        ratios = [ours / base for ours, base in zip(self.ours, self.baseline, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
        scale = 1000 if self.unit == "ms" else 1
        medians = [statistics.median(values) * scale for values in (self.ours, self.baseline)]
        figures = [f"{value:.{0 if value >= 100 else 1}f} {self.unit}" for value in medians]
        judged = ["", "for information"]
        if self.target is not None:
            judged = [f"<= {self.target}", "yes" if round(ratio, 2) <= self.target else "no"]
        return [self.name, *figures, f"{ratio:.2f}", f"{low:.2f} to {high:.2f}", *judged]


class Bench:
    """The sandbox, and processes that run against it in an environment of their own."""

    def __init__(self, base_url: str, folder: str, environment: dict[str, str]) -> None:
        self._base_url = base_url
        self._environment = environment
        self._errors = Path(folder, "stderr")
        self.submit_script = written(Path(folder, "submit.py"), SUBMIT_SCRIPT)
        self.monitor_script = written(Path(folder, "monitor.py"), MONITOR_SCRIPT)

    def run(self, *command: str) -> Run:
        """Run a command that has to succeed, and measure it."""
        with self._errors.open("w+b") as errors:
            began, start = time.time(), time.perf_counter()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
            )
            watchdog = threading.Timer(PATIENCE, process.kill)
            watchdog.start()
            assert process.stdout is not None
            first_line, output = None, b""
            with process.stdout as stdout:
                while chunk := os.read(stdout.fileno(), 65536):
                    output += chunk
                    if first_line is None and b"\n" in chunk:
                        first_line = time.perf_counter() - start
            # A child's peak begins at that of the process that forked it: this one is far smaller.
            _, status, usage = os.wait4(process.pid, 0)
            whole = time.perf_counter() - start
            watchdog.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            said = errors.read() or output
        if process.returncode:
            name = " ".join([Path(command[0]).name, *command[1:]])
            raise BenchError(f"`{name}` ended with {process.returncode}: {last_words(said)}")
        peak = peak_mb(usage.ru_maxrss)
        return Run(began, first_line or whole, whole, peak, output.decode())

    def submit_job(self, seconds: float) -> str:
        """Submit a job from here; gives its id."""
        body = {
            "model": "gpt-5.2",
            "input": "hello",
            "background": True,
            "metadata": {"sandbox_seconds": str(seconds)},
        }
        reply = ask("POST", f"{self._base_url}/responses", body)
        return str(reply["id"])

    def requests(self) -> list[dict[str, Any]]:
        """The requests since the last call, which the server forgets with its jobs."""
        address = self._base_url.removesuffix("/v1")
        requests: list[dict[str, Any]] = ask("GET", f"{address}/sandbox/requests")
        ask("DELETE", f"{address}/sandbox")
        return requests


def _measures(bench: Bench, runs: int) -> Iterator[list[Row]]:
    """All rows, in the order of the table."""
    python, ours = sys.executable, oaibg()
    yield _submits(bench, runs, [python], [ours])
    if other := os.environ.get("BENCH_TYPER_PYTHON"):
        typer = bench.run(other, "-c", "import typer; print(typer.__version__)").output.strip()
        first_line = _submits(bench, runs, [other], [other, "-m", "oaibg"])[0]
        yield [first_line._replace(name=f"first line with Typer {typer}", target=None)]

    kept = json.loads(bench.run(ours, "submit", *_SUBMIT).output.splitlines()[-1])["response_id"]
    bench.requests()  # from here on only the local copy is left
    if '"source":"local"' not in bench.run(ours, "show", kept).output:
        raise BenchError("the result of a job that ended was not kept")
    import_typer = partial(bench.run, python, "-c", "import typer")
    for name, command, target in (
        ("`--version`", ["--version"], 1.3),
        ("`submit --dry-run`", ["submit", "--prompt", "hello", "--dry-run"], 1.3),
        ("`show` of a local copy", ["show", kept], 1.3),
        ("`--help`", ["--help"], 2.0),
        ("`submit --help`", ["submit", "--help"], 2.0),
    ):
        pairs = _pairs(name, runs, import_typer, partial(bench.run, ours, *command))
        yield [_row(f"{name} / `import typer`", pairs, lambda run: run.whole, target)]
    if bench.requests():
        raise BenchError("a command that needs no network sent a request")
    yield _monitors(bench, _long_runs(runs), python, ours)


_SUBMIT = ["--prompt", "hello", "--poll-seconds", str(POLL_SECONDS), "--show-output-text"]


def _submits(bench: Bench, runs: int, python: list[str], ours: list[str]) -> list[Row]:
    """A submit that is followed to its end: first line, POST and whole run."""
    posts: dict[Run, float] = {}

    def submit(*command: str) -> Run:
        run = bench.run(*command)
        post, *retrieves = bench.requests()
        if post["method"] != "POST" or [one["method"] for one in retrieves] != ["GET"]:
            raise BenchError(f"{command[-1]}: expected one POST and one GET in the server's log")
        posts[run] = post["at"] - run.began
        return run

    pairs = _pairs(
        "submit",
        runs,
        partial(submit, *python, bench.submit_script),
        partial(submit, *ours, "submit", *_SUBMIT),
    )
    return [
        _row("first line", pairs, lambda run: run.first_line, 0.15),
        _row("POST on the wire", pairs, posts.__getitem__, 1.0),
        _row("whole run", pairs, lambda run: run.whole, 0.8),
    ]


def _monitors(bench: Bench, runs: int, python: str, ours: str) -> list[Row]:
    """Peak memory of a process that follows a job."""
    polls: list[int] = []

    def monitor(*command: str) -> Run:
        run = bench.run(*command, bench.submit_job(LONG_JOB_SECONDS))
        polls.append(len(bench.requests()) - 1)  # without the POST from here
        return run

    interval = str(LONG_POLL_SECONDS)
    pairs = _pairs(
        "monitor",
        runs,
        partial(monitor, python, bench.monitor_script),
        partial(monitor, ours, "monitor", "--poll-seconds", interval),
    )
    # The jobs begin before the processes, so that a poll more or less is the start-up's.
    if max(polls) - min(polls) > 3:
        raise BenchError(f"the monitors polled {min(polls)} to {max(polls)} times")
    return [_row("peak memory of `monitor`", pairs, lambda run: run.peak, 1.1, "MB")]


def _long_runs(runs: int) -> int:
    return max(3, runs // 3)


def _pairs(
    name: str, runs: int, baseline: Callable[[], Run], ours: Callable[[], Run]
) -> list[tuple[Run, Run]]:
    """Baseline and ours in turns, after one round that is not counted."""
    tell(name)
    return [(baseline(), ours()) for _ in range(runs + 1)][1:]


def _row(
    name: str,
    pairs: list[tuple[Run, Run]],
    value: Callable[[Run], float],
    target: float | None,
    unit: str = "ms",
) -> Row:
    ours = [value(ours) for _, ours in pairs]
    return Row(name, ours, [value(baseline) for baseline, _ in pairs], target, unit)


@contextmanager
def _sandbox(folder: str) -> Iterator[Bench]:
    """A sandbox in a process of its own."""
    inherited = surroundings()
    command = [sys.executable, "-m", "oaibg.sandbox", "--quiet", "--seconds", str(JOB_SECONDS)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=inherited
    ) as server:
        try:
            lines = [server.stdout.readline() for _ in range(2)] if server.stdout else []
            exports = dict(
                line.removeprefix("export ").strip().split("=", 1) for line in lines if line
            )
            if len(exports) < 2:
                said = server.stderr.read().strip().splitlines() if server.stderr else []
                raise BenchError(f"the sandbox did not start: {' '.join(said[-1:])}")
            environment = {**inherited, **exports, "OAIBG_STATE_DIR": str(Path(folder, "state"))}
            yield Bench(exports["OPENAI_BASE_URL"], folder, environment)
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
