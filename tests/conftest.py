"""Fixtures: a sandbox, and the command run against it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from forkserver import ForkServer
from harness import OPENED, Command, Result, environment
from ledger import COUNTS, PASSED, report
from oaibg.cli.main import main
from oaibg.sandbox import Sandbox
from pages import make_clone

pytest_plugins = ["runs"]

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from openai import OpenAI


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what has passed, for what counts only then."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker has counted to the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counts"] = dict(COUNTS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take it over."""
    COUNTS.update(getattr(node, "workeroutput", {}).get("counts", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted."""
    if COUNTS:
        terminalreporter.section("nothing lost, nothing paid twice")
        for line in report():
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _close_stores() -> Iterator[None]:
    """Close what `fake_context` opened."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    """One sandbox for the session; its jobs take 60 ms unless they say otherwise."""
    with Sandbox.running(seconds=0.06) as running:
        yield running


@pytest.fixture
def sandbox(server: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, with nothing in it."""
    server.clear()
    yield server
    server.clear()


@pytest.fixture(scope="session")
def client(server: Sandbox) -> Iterator[httpx2.Client]:
    """One connection pool for the session: to make one costs 40 ms."""
    with httpx2.Client(base_url=server.base_url, timeout=5, trust_env=False) as client:
        yield client


@pytest.fixture
def http(sandbox: Sandbox, client: httpx2.Client) -> httpx2.Client:
    """A bare HTTP client of the sandbox."""
    assert str(client.base_url).startswith(sandbox.base_url)
    return client


@pytest.fixture(scope="session")
def strict(server: Sandbox) -> Iterator[OpenAI]:
    """One SDK client for the session: strict about types, without retries."""
    from openai import OpenAI

    with OpenAI(
        base_url=server.base_url,
        api_key="sandbox",
        max_retries=0,
        timeout=5,
        _strict_response_validation=True,
    ) as client:
        yield client


@pytest.fixture
def sdk(sandbox: Sandbox, strict: OpenAI) -> OpenAI:
    """The SDK as a client of the sandbox."""
    assert str(strict.base_url).startswith(sandbox.base_url)
    return strict


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of the state; nothing is in it yet."""
    return tmp_path / "state"


@pytest.fixture
def run(
    sandbox: Sandbox,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Result]:
    """Run the command in this process, against the sandbox."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "OAIBG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in environment(sandbox.base_url, state).items():
        monkeypatch.setenv(name, value)

    def run_it(*argv: str) -> Result:
        capfd.readouterr()
        code = main(list(argv))
        out, err = capfd.readouterr()
        return Result(code, out.encode(), err)

    return run_it


@pytest.fixture
def started(run: Callable[..., Result]) -> Callable[..., str]:
    """Submit a job with --detach; returns its ID."""
    return lambda *options: run("submit", "--prompt", "x", "--detach", *options).id


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """One fork server for the session."""
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture
def command(sandbox: Sandbox, state: Path, forks: ForkServer) -> Iterator[Command]:
    """Run the command as a process, against the sandbox."""
    command = Command(environment(sandbox.base_url, state), forks)
    yield command
    command.stop()


@pytest.fixture
def instant_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real clock whose waits take a hundredth of their time at most, and count in full."""
    from asyncio import sleep

    from oaibg.base import clock

    class Hurried(clock.RealClock):
        def __init__(self) -> None:
            self.skipped = 0.0

        def now(self) -> float:
            return super().now() + self.skipped

        def monotonic(self) -> float:
            return super().monotonic() + self.skipped

        async def sleep(self, seconds: float) -> None:
            await sleep(min(seconds / 100, 0.2))
            self.skipped += seconds - min(seconds / 100, 0.2)

    monkeypatch.setattr(clock, "RealClock", Hurried)


@pytest.fixture
def unprivileged(command: Command, tmp_path: Path) -> Callable[..., Result]:
    """Run the command as nobody: root may write everywhere."""
    if os.geteuid() != 0:
        return command.run
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root without setpriv can't drop its rights")
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)

    def run_it(*argv: str) -> Result:
        done = subprocess.Popen(
            [
                *(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"),
                *(sys.executable, "-m", "oaibg", *argv),
            ],
            env=command.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return command.end(done)

    probe = run_it("--version")
    if probe.code:
        pytest.skip("this Python is not readable by other users")
    return run_it


@pytest.fixture
def slow() -> Iterator[Sandbox]:
    """A sandbox whose jobs take half a second."""
    with Sandbox.running(seconds=0.5) as sandbox:
        yield sandbox


@pytest.fixture
def clone(slow: Sandbox, tmp_path: Path) -> Path:
    """A directory as a new user has it, for the commands of a page, and a sandbox."""
    folder = tmp_path / "here"
    make_clone(folder, slow.base_url)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the command, which is also the home directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(work))
    return work


@pytest.fixture
def attach(run: Callable[..., Result], folder: Path) -> Callable[..., Result]:
    """Run a dry run of a prompt with attachments."""

    def attach(*patterns: str) -> Result:
        options = [word for pattern in patterns for word in ("--attach", pattern)]
        return run("submit", "--prompt", "hi", "--dry-run", *options)

    return attach
