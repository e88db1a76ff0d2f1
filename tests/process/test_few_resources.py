"""Processes that may open few files, or can start no threads."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from oaibg.process.lifecycle import allow_connections

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox
    from runs import Files

pytestmark = pytest.mark.process

FAST = ("--poll-seconds", "0.05")


@pytest.fixture
def limited(command: Command) -> Callable[..., Result]:
    """Run the command in a process that may have at most `files` open at a time."""

    def run(files: int, *argv: str) -> Result:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        return command.run(*argv, preexec_fn=limit)

    return run


@pytest.mark.row("The limit of open files is low (`ulimit -n`)")
@pytest.mark.parametrize("files", [5, 6, 8, 10, 12, 14, 17, 24])
def test_few_files(limited: Callable[..., Result], sandbox: Sandbox, files: int) -> None:
    """A job that can't be followed for lack of files is not submitted; others complete."""
    result = limited(files, "submit", "--prompt", "x", "--job-key", "k", *FAST)
    if result.code == 0:
        assert files >= 14
        assert result.last["ok"]
    else:
        assert (result.code, result.last["code"]) == (2, "too_few_files")
        assert "ulimit -n" in result.last["hint"]
        assert not sandbox.posts
        assert files < 20


@pytest.mark.parametrize("most", [10_240, 61_440, 200_000])
def test_a_limit_that_the_system_refuses(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """On macOS, which reports no limit but has one, many connections are allowed, too."""
    allowed = [256]

    def set_limit(_: int, limits: tuple[int, int]) -> None:
        if limits[0] > most:
            raise ValueError("current limit exceeds maximum limit")
        allowed.append(limits[0])

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    allow_connections()
    assert allowed[-1] == (65_536 if most > 65_536 else 10_240)


@pytest.mark.row("The limit of open files is low (`ulimit -n`)")
@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_many_jobs_and_few_files(
    limited: Callable[..., Result], sandbox: Sandbox, files: Files, options: tuple[str, ...]
) -> None:
    """A run over 60 jobs completes if at most 40 files may be open, with one create per job."""
    files.add(60, sandbox_seconds="0.5")
    result = limited(40, *files.argv("--max-in-flight", "60", *options))
    assert (result.code, result.last["counts"]) == (0, {"completed": 60})
    codes = {one["code"] for one in result.lines if one["event"] == "warning"}
    assert codes <= {"stream_lost", "stream_unavailable"}
    files.check(sandbox, 60)


@pytest.mark.row("The limit of open files is low (`ulimit -n`)")
def test_many_ids_and_few_files(
    limited: Callable[..., Result], sandbox: Sandbox, started: Callable[..., str]
) -> None:
    """A monitor of 60 running jobs polls all of them if at most 40 files may be open."""
    ids = [started("--metadata", f"n={number}") for number in range(60)]
    result = limited(40, "monitor", *ids, *FAST)
    assert (result.code, result.last["counts"]) == (0, {"completed": 60})


@pytest.mark.row("The process can't start threads")
@pytest.mark.parametrize("options", [(), ("--stream",), ("--human",)])
def test_no_threads(
    command: Command, sandbox: Sandbox, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A job is submitted, followed and saved without any thread."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    fault = IoFault(mode="threadless", below="-")
    path = tmp_path / "answer.md"
    argv = ("submit", "--prompt", "x", "--output-text-file", str(path), *FAST, *options)
    url = sandbox.base_url.replace("127.0.0.1", "localhost")  # which must be looked up
    result = command.run(*argv, env={"OPENAI_BASE_URL": url, "NO_PROXY": "localhost"}, fault=fault)
    assert result.code == 0
    assert path.stat().st_size
    assert len(sandbox.posts) == 1


@pytest.mark.row("The process can't start threads")
def test_a_run_without_threads(command: Command, sandbox: Sandbox, files: Files) -> None:
    """A run over several jobs completes without any thread."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    files.add(5)
    result = command.run(*files.argv(), fault=IoFault(mode="threadless", below="-"))
    assert (result.code, result.last["counts"]) == (0, {"completed": 5})
    files.check(sandbox, 5)
