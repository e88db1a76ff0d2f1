"""`--poll-seconds auto`: the schedule of polls, simulated, and a run that uses it."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from oaibg.many.pacing.poll_schedule import PollSchedule
from simulated_polls import Simulated, simulate

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox
    from runs import Files

    Draw = Callable[[random.Random], float]

MEANS = 60.0, 300.0, 1800.0
"""The mean durations of the simulated runs, in seconds."""


def lognormal(sigma: float) -> Draw:
    """Draw lognormal durations of mean 1."""
    return lambda numbers: math.exp(numbers.gauss(-(sigma**2) / 2, sigma))


def bimodal(numbers: random.Random) -> float:
    """Draw durations of mean 1 that are short or long."""
    return lognormal(0.2)(numbers) * (0.5 if numbers.random() < 0.5 else 1.5)


def root_of_bound(density: Callable[[float], float]) -> float:
    """Return the integral of the root of density times survival, for durations of mean 1."""
    step, total, survival = 0.002, 0.0, 1.0
    for cell in range(6000):
        here = density((cell + 0.5) * step) * step
        total += math.sqrt(max(here * (survival - here / 2), 0.0) * step)
        survival -= here
    return total


def lognormal_density(sigma: float, scale: float = 1.0) -> Callable[[float], float]:
    """Return the density of `lognormal`, scaled."""
    return lambda at: (
        math.exp(-(((math.log(at / scale) + sigma**2 / 2) / sigma) ** 2) / 2)
        / (at * sigma * math.sqrt(2 * math.pi))
    )


def bimodal_density(at: float) -> float:
    """Return the density of `bimodal`."""
    return (lognormal_density(0.2, 0.5)(at) + lognormal_density(0.2, 1.5)(at)) / 2


def exponential(numbers: random.Random) -> float:
    """Draw exponential durations of mean 1."""
    return numbers.expovariate(1)


def costs(draw: Draw, in_flight: int) -> tuple[float, float]:
    """Return polls times lag in units of the mean, and that over what a fixed interval costs."""

    def run(mean: float) -> Simulated:
        return simulate(lambda numbers: mean * draw(numbers), in_flight=in_flight)

    runs = [(mean, run(mean)) for mean in MEANS]
    cost = fmean(run.cost / mean for mean, run in runs)
    return cost, cost / fmean(run.fixed_cost / mean for mean, run in runs)


@pytest.mark.parametrize(
    ("draw", "density", "few", "many"),
    [
        pytest.param(lognormal(0.2), lognormal_density(0.2), 1.3, 1.5, id="lognormal 0.2"),
        pytest.param(lognormal(0.5), lognormal_density(0.5), 1.25, 1.3, id="lognormal 0.5"),
        pytest.param(lognormal(0.8), lognormal_density(0.8), 1.25, 1.25, id="lognormal 0.8"),
        pytest.param(bimodal, bimodal_density, 1.3, 1.5, id="bimodal"),
        pytest.param(exponential, lambda at: math.exp(-at), 1.25, 1.25, id="exponential"),
    ],
)
def test_polls_and_lag(
    draw: Draw, density: Callable[[float], float], few: float, many: float
) -> None:
    """Polls times lag is near the bound, and at most 10 % more than with a fixed interval.

    The first jobs of a run have nothing to learn from: with 50 of the 200 jobs in flight it costs
    more than with 10.
    """
    bound = root_of_bound(density) ** 2 / 2
    for in_flight, factor in ((10, few), (50, many)):
        cost, ratio = costs(draw, in_flight)
        assert bound * 0.95 < cost < bound * factor
        assert ratio < 1.1


def test_a_constant_duration() -> None:
    """If all jobs take equally long, polls times lag is less than half of a fixed interval's."""
    for in_flight in (10, 50):
        cost, _ = costs(lambda _: 1.0, in_flight)
        assert cost < 0.5 / 2


def test_jobs_that_do_not_end() -> None:
    """The polls of jobs that do not end become rare, but do not stop."""
    schedule, ages = PollSchedule(), [0.0]
    while ages[-1] < 1e6:
        ages.append(schedule.next_age(ages[-1]))
        schedule.note_running(1, ages[-1])
    assert 10 < len(ages) < 1e6 / 60
    assert 0.5 <= ages[1] <= 10


def test_a_run_learns(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A run with `auto` polls its jobs less often than every 0.05 seconds, and all of them end."""
    files.add(12, sandbox_seconds="1")
    result = many(*files.argv("--poll-seconds", "auto", "--max-in-flight", "6"))
    assert (result.code, result.last["counts"]) == (0, {"completed": 12})
    starts = [one["poll_seconds"] for one in result.lines if one["event"] == "submit_start"]
    assert all(0.1 < seconds < 60 for seconds in starts)
    assert len(sandbox.requests) - 12 < 12 * 1 / 0.05 / 2


def test_a_rerun_keeps_auto(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """The command that repeats the run has `auto`; the one that monitors a job has not."""
    files.add(2, sandbox_seconds="600")
    result = many(*files.argv("--poll-seconds", "auto", "--max-wait-seconds", "0.5"))
    assert result.code == 3
    place = result.last["next"].index("--poll-seconds")
    assert result.last["next"][place + 1] == "auto"
    singles = [one["next"] for one in result.lines[:-1] if one.get("next")]
    assert len(singles) == 2
    assert all("auto" not in words for words in singles)
    assert len(sandbox.posts) == 2


def test_auto_is_for_jobs_files(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """`auto` is refused for a single job, for IDs and for a batch; nothing is sent."""
    files.add(1)
    for argv in (
        ("submit", "--prompt", "hello"),
        ("monitor", "resp_1"),
        files.argv("--completion-window", "24h"),
    ):
        result = run(*argv, "--poll-seconds", "auto")
        assert result.code == 2
        assert "--jobs-file" in result.last["message"]
    assert sandbox.requests == []
