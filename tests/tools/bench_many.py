"""Measure what it costs to follow many jobs at once, and how soon their ends are reported.

`oaibg monitor -` is compared with two bare scripts that use the SDK's asyncio client with raw
replies and poll all IDs at the same interval. The plain script starts all jobs at once, as a first
version of such a script does. The SDK's connection pool then opens a thousand connections, and
checks all of them for every request; with 10,000 jobs the plain script makes no progress. The best
script spreads the first polls over the interval, and limits its concurrent requests to what the
server needs. If replies take long, as over the internet, it needs more concurrent requests and
costs more CPU time; one row shows that. All rows except one compare oaibg with the best script.

In each run, all jobs are running before the process starts. The measurement begins when every job
has been polled once, and lasts for whole intervals in which no job changes. The CPU time of the
process is divided by the number of requests that the server counted. This excludes start-up, the
first polls, the ends of jobs, and the files in which oaibg stores results (the scripts store none);
the row of the whole run includes all of them. Then the jobs end one by one, in random order, until
both sides end. Completion lag is the time from a job's end at the server to the arrival of the line
that reports it. Peak memory is that of the whole run.

Requests use plain HTTP on loopback: TLS would cost both sides the same. The server is
`bench_server`.
"""

from __future__ import annotations

import math
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench_clients import serve
from bench_runs import SLOW_REPLY, Bench, Pair, Plan, Polled, Size, percentile
from bench_tools import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def measure(*, quick: bool, plot: str | None) -> str:
    """Measure runs over many jobs and return their tables; plot what grows with the jobs."""
    _allow_files(4096)
    plan = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serve() as server:
        bench = Bench(server, folder)
        sizes = [plan.few, *plan.sizes, plan.many, plan.most]
        polled = {size: bench.polled_pair(size) for size in sizes}
        shortly = plan.many._replace(window=plan.many.interval)
        at_once, slow = bench.at_once(shortly), bench.slow_pair(shortly)
        rows = [
            *_cpu_rows(plan, polled, at_once, slow),
            *_memory_rows(plan, polled),
            *_lag_rows(plan, polled, bench.streamed_pair(plan), bench.singles_pair(plan)),
        ]
    if plot is not None:
        draw(polled, Path(plot))
    figures = table(["row", "oaibg", "baseline", "ratio", "target", "met"], *map(Row.cells, rows))
    busiest = max(side.server for pair in polled.values() for side in pair)
    return (
        f"{figures}\n\nEach figure is from one run. The server used at most {busiest:.0%} of a "
        f"core.\nFigures of oaibg / the best script, by number of jobs:\n\n{_growth(polled)}"
    )


class Row(NamedTuple):
    """A row of the table: the figures of both sides, and the target of oaibg."""

    name: str
    ours: float
    baseline: float
    unit: str
    highest: float | None = None
    """The target of oaibg's figure."""
    highest_ratio: float | None = None
    """The target of the ratio to the baseline."""

    def cells(self) -> list[str]:
        """Return the cells of the row."""
        ratio = self.ours / self.baseline if self.baseline > 0 else math.nan
        cells = [self.name, self._figure(self.ours), self._figure(self.baseline), f"{ratio:.2f}"]
        if self.highest is not None:
            met = self.ours <= self.highest
            return [*cells, f"<= {self.highest:g} {self.unit}", "yes" if met else "no"]
        if self.highest_ratio is not None:
            met = round(ratio, 2) <= self.highest_ratio
            return [*cells, f"<= {self.highest_ratio}", "yes" if met else "no"]
        return [*cells, "none", ""]

    def _figure(self, value: float) -> str:
        return f"{value:.3g} {self.unit}" if value < 1000 else f"{value:.0f} {self.unit}"


def _cpu_rows(plan: Plan, polled: dict[Size, Pair], at_once: Polled, slow: Pair) -> Iterator[Row]:
    many, most = polled[plan.many], polled[plan.most]
    at_many = f"CPU per request, {plan.many.jobs:,} jobs"
    name = f"{at_many}, plain script ({_rates(many.ours, at_once)})"
    yield Row(name, many.ours.cpu, at_once.cpu, "ms", highest_ratio=0.8)
    name = f"{at_many}, best script ({_rates(*many)})"
    yield Row(name, many.ours.cpu, many.baseline.cpu, "ms")
    name = f"CPU per request, {plan.most.jobs:,} jobs, best script ({_rates(*most)})"
    yield Row(name, most.ours.cpu, most.baseline.cpu, "ms", highest_ratio=0.9)
    name = f"{at_many}, best script, replies after {SLOW_REPLY:g} s ({_rates(*slow)})"
    yield Row(name, slow.ours.cpu, slow.baseline.cpu, "ms")
    name = f"{at_many}, best script, from the first request to the last line"
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
    yield Row("memory per additional job", sides[0], sides[1], "KB", highest=20)


def _lag_rows(
    plan: Plan,
    polled: dict[Size, Pair],
    streamed: tuple[list[float], list[float]],
    singles: tuple[list[float], list[float]],
) -> Iterator[Row]:
    for name, lags in (
        (f"{plan.streams} jobs streamed by one process", streamed),
        (f"{plan.singles} jobs, each streamed by its own process", singles),
    ):
        for percent, target in ((50, 50), (99, 200)):
            ours, base = (percentile(one, percent) * 1000 for one in lags)
            yield Row(f"completion lag, {name}: p{percent}", ours, base, "ms", highest=target)
    size = plan.many
    yield Row(
        f"completion lag, {size.jobs:,} jobs polled every {size.interval:g} s: p99",
        polled[size].ours.lag,
        polled[size].baseline.lag,
        "s",
        highest=size.interval + 0.1,
    )


def _growth(polled: dict[Size, Pair]) -> str:
    """Return the table of growth, with oaibg's figure before the script's."""
    rows = []
    for size, pair in sorted(polled.items()):
        cells = [
            " / ".join(form.format(value(side)) for side in pair)
            for form, value in _GROWING.values()
        ]
        rows.append([f"{size.jobs:,}", f"{size.interval:g} s", *cells])
    return table(["jobs", "polled every", *_GROWING], *rows)


_GROWING: dict[str, tuple[str, Callable[[Polled], float]]] = {
    "requests/s": ("{:.0f}", lambda side: side.rate),
    "CPU per request, ms": ("{:.2f}", lambda side: side.cpu),
    "peak memory, MB": ("{:.0f}", lambda side: side.peak),
    "lag p99, s": ("{:.2f}", lambda side: side.lag),
}


def draw(polled: dict[Size, Pair], path: Path) -> None:
    """Plot what grows with the jobs; the same figures give the same file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sizes = sorted(polled)
    jobs = [size.jobs for size in sizes]
    panels: dict[str, Callable[[Size, Polled], float]] = {
        "CPU per request, ms": lambda _, side: side.cpu,
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


def _allow_files(count: int) -> None:
    """Allow this many open files, also in child processes: each connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
