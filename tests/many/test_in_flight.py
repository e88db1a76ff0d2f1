"""`--max-in-flight auto`: the number of jobs at once follows what the API can take."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from harness import failed, wait_until
from oaibg.many.pacing.in_flight import FIRST, MOST, InFlight
from oaibg.sandbox import Fault
from runs import ENDLESS
from schemas import checked
from virtual_time import Clock, Server, play, submit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.contract.errors import CallFailed
    from oaibg.sandbox import Sandbox
    from runs import Files

AUTO = ("--max-in-flight", "auto")


def polls(sandbox: Sandbox) -> int:
    """Return the number of retrieves."""
    return sum(one.method == "GET" for one in sandbox.requests)


@pytest.mark.process
def test_a_calm_server(command: Command, sandbox: Sandbox, files: Files) -> None:
    """While all requests succeed, more than fifty jobs run at once; a rerun keeps `auto`."""
    files.add(56, **ENDLESS)
    process = command.start(*files.argv(*AUTO))
    wait_until(lambda: len(sandbox.posts) == 56)
    process.send_signal(signal.SIGINT)
    result = checked(command.end(process))
    assert sum(result.last["counts"].values()) == 56
    place = result.last["next"].index("--max-in-flight")
    assert result.last["next"][place + 1] == "auto"


@pytest.mark.process
@pytest.mark.parametrize("left", ["requests", "tokens"])
def test_the_headers_of_the_server(
    command: Command, sandbox: Sandbox, files: Files, left: str
) -> None:
    """If the headers of the creates say that nothing is left, no further job is submitted."""
    headers = {f"x-ratelimit-remaining-{left}": "0"}
    sandbox.script(Fault(kind="delay", seconds=0, on="create", times=0, headers=headers))
    files.add(56, **ENDLESS)
    process = command.start(*files.argv(*AUTO))
    wait_until(lambda: len(sandbox.posts) >= FIRST)
    before = polls(sandbox)
    wait_until(lambda: polls(sandbox) > before + 10 * FIRST)
    assert len(sandbox.posts) == FIRST
    process.send_signal(signal.SIGINT)
    assert checked(command.end(process)).last["counts"]["not_submitted"] == 56 - FIRST


def running(server: Server, at: float) -> int:
    """Return the number of jobs that run at a time."""
    return sum(begun <= at < begun + server.lasting for begun in server.created.values())


def test_a_busy_server(tmp_path: Path) -> None:
    """After a 429 half as many jobs run at once, and then more again."""
    server = Server(lasting=20)
    refused: list[float] = []

    def judge(server: Server, name: str) -> CallFailed | None:
        if name == "create" and server.clock.monotonic() > 30 and not refused:
            refused.append(server.clock.monotonic())
            return failed(429)
        return None

    server.judge = judge
    _, summary = submit(server, tmp_path, 1500, slots=InFlight(FIRST, MOST))
    assert summary.counts == {"completed": 1500}
    (at,) = refused
    most = max(running(server, moment) for moment in range(int(at)))
    fewest = min(running(server, at + seconds) for seconds in range(40))
    assert FIRST * 2 < most <= MOST
    assert fewest < 0.8 * running(server, at)
    assert max(running(server, at + seconds) for seconds in range(40, 90)) > 1.5 * fewest


def test_the_limit_has_bounds(tmp_path: Path) -> None:
    """The limit stays between one job and the maximum."""
    slots = InFlight(FIRST, FIRST + 5)
    server = Server(lasting=1e9)
    submit(server, tmp_path, 100, slots=slots, wait=120)
    assert len(server.bodies) == FIRST + 5 == slots.limit
    for number in range(20):
        slots.note_busy(1000 + number, 1000 + number)
    assert slots.limit == 1


def test_slow_replies(tmp_path: Path) -> None:
    """While replies take much longer than before, no more jobs run at once."""
    server = Server(lasting=1e9)

    def judge(server: Server, name: str) -> None:
        server.latency = 0.05 if len(server.bodies) < FIRST + 10 else 2.0

    server.judge = judge
    submit(server, tmp_path, 400, slots=InFlight(FIRST, MOST), wait=300)
    assert FIRST + 10 <= len(server.bodies) < FIRST + 60


def test_the_time_of_the_headers() -> None:
    """The count in a reply's headers holds for a minute, even if no other reply comes."""
    slots = InFlight(FIRST, MOST)

    async def steps() -> float:
        clock = Clock()
        await slots.enter(clock)
        slots.note_left(clock.monotonic(), 0)
        await slots.enter(clock)
        return clock.monotonic()

    assert play(steps) == pytest.approx(60)


def test_a_single_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`auto` is for jobs files; a word that is neither a number nor `auto` is refused."""
    for value in ("auto", "many"):
        result = run("submit", "--prompt", "hello", "--max-in-flight", value)
        assert result.code == 2
    assert sandbox.requests == []
