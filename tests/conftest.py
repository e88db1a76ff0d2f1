"""The fixtures of all tests: a sandbox, and ways to run the command against it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from typer.main import get_command

import processes
from fault_table import ROWS
from forkserver import ForkServer
from harness import OPENED, Command, Result, check_dry_run, environment
from ledger import COUNTS, PASSED, report, tally, unproved
from oaibg.cli.main import main
from oaibg.sandbox import Sandbox
from pages import make_clone

pytest_plugins = ["runs"]

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from openai import OpenAI

    from raw_server import RawServer


GUARD = processes.Guard()
MEMORY = Path("/dev/shm")
"""A file system in memory, on Linux."""

build_command = cache(get_command)


def pytest_configure() -> None:
    """Keep temporary files in memory if there is room: there, SQLite's syncs take no time."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the `process` marker, and check the `row` markers, before tests are deselected."""
    processes.mark(items)
    for item in items:
        for marker in item.iter_markers("row"):
            if marker.args[0] not in ROWS:
                raise pytest.UsageError(f"{item.nodeid}: not a row: {marker.args[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test passed; its fixtures count what it proved only if it did."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    marker = item.get_closest_marker("row")
    if report.skipped and marker is not None:
        COUNTS[f"skipped {marker.args[0]}"] += 1
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass a worker's counts to the main process, which fails the run if a row is not proved."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counts"] = dict(COUNTS)
    elif is_whole(session.config) and session.exitstatus == pytest.ExitCode.OK and unproved():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_whole(config: pytest.Config) -> bool:
    """Return whether a run leaves out no test that `make test` runs."""
    options = config.option
    left_out = options.keyword or options.deselect or options.collectonly
    return config.args == config.getini("testpaths") and (
        options.markexpr == "not soak" and not left_out and not getattr(options, "lf", False)
    )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add a worker's counts to those of the main process."""
    COUNTS.update(getattr(node, "workeroutput", {}).get("counts", {}))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was counted, and which rows of the fault table a whole run left unproved."""
    if COUNTS:
        terminalreporter.section("no job lost, no job paid twice")
        for line in report():
            terminalreporter.write_line(line)
    for fault in unproved() if is_whole(config) else []:
        terminalreporter.write_line(f"NOT PROVED: {fault}", red=True)


@pytest.fixture(autouse=True)
def _guard_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process without the `process` marker."""
    if request.node.get_closest_marker("process") is not None:
        yield
        return
    GUARD.arm()
    yield
    GUARD.disarm()


@pytest.fixture(autouse=True)
def _count_row(request: pytest.FixtureRequest) -> Iterator[None]:
    """Count a row of the fault table as proved if its test passed, and count its requests."""
    marker = request.node.get_closest_marker("row")
    if marker is None:
        yield
        return
    sandbox: Sandbox = request.getfixturevalue("sandbox")
    yield
    if request.node.stash.get(PASSED, False):
        COUNTS[f"row {marker.args[0]}"] += 1
        tally(sandbox)


@pytest.fixture(autouse=True)
def _close_stores() -> Iterator[None]:
    """Close the stores that `fake_context` opened."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    """The session's sandbox; a job takes 60 ms unless its request says otherwise."""
    with Sandbox.running(seconds=0.06) as running:
        yield running


@pytest.fixture
def sandbox(server: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, empty."""
    server.clear()
    yield server
    server.clear()


@pytest.fixture(scope="session")
def client(server: Sandbox) -> Iterator[httpx2.Client]:
    """The session's HTTP client: to create one takes 40 ms."""
    with httpx2.Client(base_url=server.base_url, timeout=5, trust_env=False) as client:
        yield client


@pytest.fixture
def http(sandbox: Sandbox, client: httpx2.Client) -> httpx2.Client:
    """A bare HTTP client of the sandbox."""
    assert str(client.base_url).startswith(sandbox.base_url)
    return client


@pytest.fixture(scope="session")
def strict(server: Sandbox) -> Iterator[OpenAI]:
    """The session's SDK client: it checks the types of replies, and does not retry."""
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
    """The directory of the local state; it does not exist yet."""
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

    # Typer takes longer to build the command than most tests take; it is the same every time.
    monkeypatch.setattr("oaibg.cli.main.get_command", build_command)

    def run_it(*argv: str) -> Result:
        capfd.readouterr()
        code = main(list(argv))
        out, err = capfd.readouterr()
        result = Result(code, out.encode(), err)
        if code == 0 and "--dry-run" in argv and "--human" not in argv:
            check_dry_run(result)
        return result

    return run_it


@pytest.fixture
def stdin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[bytes | str | None], None]]:
    """Set the content of stdin; None closes it, as far as Python is concerned."""
    kept = os.dup(0)

    def give(content: bytes | str | None) -> None:
        if content is None:
            monkeypatch.setattr(sys, "stdin", None)
            return
        path = tmp_path / "stdin"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        descriptor = os.open(path, os.O_RDONLY)
        os.dup2(descriptor, 0)
        os.close(descriptor)

    yield give
    os.dup2(kept, 0)
    os.close(kept)


@pytest.fixture
def raw(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    """A server that sends any bytes; `run` uses it instead of the sandbox."""
    from raw_server import RawServer

    server = RawServer()
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    yield server
    server.close()


@pytest.fixture
def started(run: Callable[..., Result]) -> Callable[..., str]:
    """Submit a job with --detach; returns its ID."""
    return lambda *options: run("submit", "--prompt", "x", "--detach", *options).id


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """The session's fork server."""
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture
def command(sandbox: Sandbox, state: Path, forks: ForkServer) -> Iterator[Command]:
    """Run the command in processes of its own, against the sandbox."""
    command = Command(environment(sandbox.base_url, state), forks)
    yield command
    command.stop()


@pytest.fixture
def instant_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make waits take at most a hundredth of their time, while the clock counts them in full."""
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
    """Run the command as an unprivileged user, because root may write everywhere."""
    if os.geteuid() != 0:
        return command.run
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root needs setpriv to drop its privileges")
    folders = [folder for folder in (tmp_path, *tmp_path.parents) if "pytest" in str(folder)]

    def run_it(*argv: str) -> Result:
        for folder in folders:  # pytest closes them again when another session starts
            folder.chmod(0o755)
        process = subprocess.Popen(
            [
                *(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"),
                *(sys.executable, "-m", "oaibg", *argv),
            ],
            env=command.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return command.end(process)

    probe = run_it("--version")
    if probe.code:
        pytest.skip("other users can't read this Python")
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
