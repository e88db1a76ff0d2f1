"""Compare the cost of oaibg with that of bare SDK scripts, on one machine in one run.

`make bench` measures everything; `python tests/tools/bench.py --help` lists the options. The bench
prints Markdown tables and writes them to a page with `--write`. The exit code is 0 if everything
was measured, whatever the figures, and 1 if something could not be measured. BENCH_OAIBG selects
another `oaibg` to measure. BENCH_TYPER_PYTHON selects an interpreter that has oaibg with another
version of Typer; one more row then compares it.

This module measures one job from start to end, `bench_files` runs over a jobs file, and
`bench_many` many jobs that already run. Each row here runs its baseline and oaibg alternately; its
ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import bench_files
import bench_many
from bench_job import LONG_JOB_SECONDS, LONG_POLL_SECONDS, POLL_SECONDS, Bench, Run, serve
from bench_tools import BenchError, machine, oaibg, show_progress, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def main() -> int:
    """Measure, print the tables, and write them to a page."""
    parser = argparse.ArgumentParser(description="Measure oaibg against bare SDK scripts.")
    parser.add_argument("--only", choices=("start", "files", "many"), help="measure one part")
    parser.add_argument("--quick", action="store_true", help="small numbers, to check the bench")
    parser.add_argument("--runs", type=int, default=15, help="pairs per row of start (default: 15)")
    parser.add_argument("--plot", metavar="FILE.svg", help="plot what grows with the jobs")
    parser.add_argument("--write", metavar="PAGE.md", help="replace the tables of this page")
    options = parser.parse_args()
    parts: dict[str, Callable[[], str]] = {
        "start": partial(_start, 2 if options.quick else max(2, options.runs)),
        "files": partial(bench_files.measure, quick=options.quick),
        "many": partial(bench_many.measure, quick=options.quick, plot=options.plot),
    }
    names = [options.only] if options.only else list(parts)
    measured_on = machine()
    try:
        for name in names if options.write else ():
            _write(options.write, name, None)
        for name in names:
            text = parts[name]()
            print(f"{text}\n", flush=True)
            if options.write:
                _write(options.write, name, f"{measured_on}\n\n{text}")
    except (BenchError, OSError) as error:
        print(f"bench: could not measure: {error}", file=sys.stderr)
        return 1
    print(measured_on)
    return 0


def _write(path: str, part: str, text: str | None) -> None:
    """Replace the block of a part in a page; without a text, only check that it has the block."""
    sys.path.append(str(Path(__file__).parents[1] / "support"))
    from blocks import replace_block

    page = Path(path)
    try:
        changed = replace_block(page.read_text(encoding="utf-8"), f"performance {part}", text or "")
    except ValueError as error:
        raise BenchError(f"{path}: {error}") from error
    if text is not None:
        page.write_text(changed, encoding="utf-8")


def _start(runs: int) -> str:
    """Measure one job: start-up, whole runs, memory."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serve(folder) as bench:
        rows = [row.cells() for rows in _measures(bench, runs) for row in rows]
    figures = table(["row", "oaibg", "baseline", "ratio", "quartiles", "target", "met"], *rows)
    return (
        f"{figures}\n\n"
        f"Figures are medians of {runs} pairs of alternating runs (memory: {_long_runs(runs)} "
        "pairs);\nratios are medians of the pairs' ratios. According to the server's log, every\n"
        "submit sent one POST and one GET, on both sides."
    )


class Row(NamedTuple):
    """The measurements of oaibg and of its baseline, pair by pair."""

    name: str
    ours: list[float]
    baseline: list[float]
    target: float | None
    unit: str = "ms"

    def cells(self) -> list[str]:
        """Return the row of the table."""
        ratios = [ours / base for ours, base in zip(self.ours, self.baseline, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
        scale = 1000 if self.unit == "ms" else 1
        medians = [statistics.median(values) * scale for values in (self.ours, self.baseline)]
        figures = [f"{value:.{0 if value >= 100 else 1}f} {self.unit}" for value in medians]
        judged = ["none", ""]
        if self.target is not None:
            judged = [f"<= {self.target}", "yes" if round(ratio, 2) <= self.target else "no"]
        return [self.name, *figures, f"{ratio:.2f}", f"{low:.2f} to {high:.2f}", *judged]


def _measures(bench: Bench, runs: int) -> Iterator[list[Row]]:
    """Measure all rows, in the order of the table."""
    python, ours = sys.executable, oaibg()
    yield _submits(bench, runs, [python], [ours])
    if other := os.environ.get("BENCH_TYPER_PYTHON"):
        typer = bench.run(other, "-c", "import typer; print(typer.__version__)").output.strip()
        first_line = _submits(bench, runs, [other], [other, "-m", "oaibg"])[0]
        yield [first_line._replace(name=f"time to first line with Typer {typer}", target=None)]

    kept = json.loads(bench.run(ours, "submit", *_SUBMIT).output.splitlines()[-1])["response_id"]
    bench.requests()  # the server forgets the job: only the local copy is left
    if '"source":"local"' not in bench.run(ours, "show", kept).output:
        raise BenchError("no local copy of a job that ended")
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
        raise BenchError("a command that works offline sent a request")
    yield _monitors(bench, _long_runs(runs), python, ours)


_SUBMIT = ["--prompt", "hello", "--poll-seconds", str(POLL_SECONDS), "--show-output-text"]


def _submits(bench: Bench, runs: int, python: list[str], ours: list[str]) -> list[Row]:
    """Measure a submit that is followed to its end: first line, POST, whole run."""
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
        _row("time to first line", pairs, lambda run: run.first_line, 0.15),
        _row("time to POST", pairs, posts.__getitem__, 1.0),
        _row("whole run", pairs, lambda run: run.whole, 0.8),
    ]


def _monitors(bench: Bench, runs: int, python: str, ours: str) -> list[Row]:
    """Measure the peak memory of a process that follows a job."""
    polls: list[int] = []

    def monitor(*command: str) -> Run:
        run = bench.run(*command, bench.submit_job(LONG_JOB_SECONDS))
        polls.append(len(bench.requests()) - 1)  # without the POST of this process
        return run

    interval = str(LONG_POLL_SECONDS)
    pairs = _pairs(
        "monitor",
        runs,
        partial(monitor, python, bench.monitor_script),
        partial(monitor, ours, "monitor", "--poll-seconds", interval),
    )
    # Jobs begin before their processes, so start-up times change the number of polls a little.
    if max(polls) - min(polls) > 3:
        raise BenchError(f"monitors differ too much: {min(polls)} to {max(polls)} polls")
    return [_row("peak memory of `monitor`", pairs, lambda run: run.peak, 1.1, "MB")]


def _long_runs(runs: int) -> int:
    return max(3, runs // 3)


def _pairs(
    name: str, runs: int, baseline: Callable[[], Run], ours: Callable[[], Run]
) -> list[tuple[Run, Run]]:
    """Run baseline and oaibg alternately, after one pair that is not counted."""
    show_progress(name)
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


if __name__ == "__main__":
    sys.exit(main())
