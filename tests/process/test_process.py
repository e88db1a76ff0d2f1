"""The command as a process: signals, pipes, kill -9, races, and what is imported when."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from harness import Command, Result, await_line, full_pipe, parsed, wait_until
from oaibg.sandbox import Fault
from places import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

LONG = ("--metadata", "sandbox_seconds=600")
CODES = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


def test_signal_during_start_up(command: Command, sandbox: Sandbox) -> None:
    """Before anything is sent: nothing was created, and it is told."""
    process = command.start("submit", "--prompt", "x", *LONG, fresh=True)
    _, read = await_line(process, "submit_start")
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    last = parsed(read + result.out)[-1]
    assert (result.code, last["event"], last["outcome"]) == (143, "interrupted", "not_created")
    assert not sandbox.posts


@pytest.mark.parametrize("number", CODES)
def test_signal_while_importing(command: Command, number: signal.Signals) -> None:
    """From the first moments on a signal has its line and its code."""
    for delay in (0.05, 0.08, 0.12, 0.2):
        process = command.start("submit", "--prompt", "x", *LONG, fresh=True)
        time.sleep(delay)
        process.send_signal(number)
        result = command.end(process)
        if not result.out:
            continue  # Python itself was still starting
        assert (result.code, result.last["event"]) == (CODES[number], "interrupted")
        assert result.last["outcome"] == "not_created"
        assert result.err == ""


def test_signals_around_the_end(command: Command) -> None:
    """However many come, and whenever: one closing line, and its code is the process's."""
    for attempt in range(8):
        process = command.start("submit", "--prompt", "x", "--dry-run", fresh=True)
        assert process.stdout is not None
        read = process.stdout.readline() if attempt % 2 else b""
        time.sleep(0.1 if not attempt % 2 else 0)
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
        result = command.end(process)
        if read or result.out:
            assert Result(result.code, read + result.out, "").last["exit_code"] == result.code


def test_many_signals_while_waiting(command: Command) -> None:
    """The line comes once."""
    process = command.start("submit", "--prompt", "x", *LONG)
    _, read = await_line(process, "submitted")
    for _ in range(50):
        process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert Result(result.code, read + result.out, "").last["event"] == "interrupted"
    assert result.code == 143


def test_signal_while_nobody_reads(command: Command) -> None:
    """A reader that has stopped reading does not keep the process from ending."""
    command.run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_bytes=500000"),
        *("--poll-seconds", "0.05"),
    )
    process = command.start("show")
    time.sleep(1.5)
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert time.monotonic() - sent < 1.5


def test_list_into_a_slow_reader(command: Command) -> None:
    """It waits for the reader, as every other output does."""
    command.run("submit", "--prompt", "x", "--detach")
    reader, writer = full_pipe()
    process = command.start("show", "--list", stdout=writer)
    os.close(writer)
    time.sleep(1)
    read = b""
    while chunk := os.read(reader, 65536):
        read += chunk
    os.close(reader)
    assert process.wait(10) == 0
    assert b'"event":"summary"' in read


@pytest.mark.parametrize(("path", "code"), [(None, 141), ("/dev/full", 9)])
def test_list_that_nobody_takes(command: Command, path: str | None, code: int) -> None:
    """A quiet end, as of every other output."""
    command.run("submit", "--prompt", "x", "--detach")
    reader, writer = os.pipe()
    os.close(reader)
    if path is not None:
        os.close(writer)
        writer = os.open(path, os.O_WRONLY)
    result = command.run("show", "--list", stdout=writer)
    os.close(writer)
    assert (result.code, result.err) == (code, "")


def test_human_without_stderr(command: Command) -> None:
    """A reader of stderr that goes away ends nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    result = command.run(
        *("submit", "--prompt", "x", "--human", "--poll-seconds", "0.05"), stderr=writer
    )
    os.close(writer)
    assert result.code == 0
    assert b"sandbox" in result.out


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("--event-schema",)])
def test_help_into_a_closed_pipe(command: Command, argv: tuple[str, ...]) -> None:
    """As for every other output: 141, and no word."""
    reader, writer = os.pipe()
    os.close(reader)
    result = command.run(*argv, stdout=writer)
    os.close(writer)
    assert (result.code, result.err) == (141, "")


@pytest.mark.parametrize("argv", [("--help",), ("show", "--help"), ("--event-schema",)])
def test_help_into_a_full_disk(command: Command, argv: tuple[str, ...]) -> None:
    """As for every other output: 9, and no word."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = command.run(*argv, stdout=full)
    assert (result.code, result.err) == (9, "")


def test_output_file_that_is_stdout(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """Refused before anything is sent: it has the lines."""
    out = tmp_path / "log"
    with out.open("wb") as log:
        result = command.run(
            "submit", "--prompt", "x", "--output-text-file", "/dev/stdout", stdout=log
        )
    assert result.code == 2
    assert parsed(out.read_bytes())[-1]["code"] == "usage"
    assert not sandbox.posts


def test_output_file_that_is_a_pipe(command: Command) -> None:
    """As a shell's `>(…)` hands one over."""
    reader, writer = os.pipe()
    result = command.run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_text=to the pipe"),
        *("--poll-seconds", "0.05", "--output-text-file", f"/dev/fd/{writer}"),
        pass_fds=(writer,),
    )
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123
        assert pipe.read() == b"to the pipe"
    assert result.code == 0


def test_show_of_a_key_that_is_being_submitted(command: Command, sandbox: Sandbox) -> None:
    """Its outcome is not unknown: it is waited for."""
    sandbox.script(Fault(on="create", kind="delay", seconds=2.0))
    process = command.start("submit", "--prompt", "x", "--job-key", "k", "--detach", *LONG)
    wait_until(lambda: sandbox.posts)
    shown = command.run("show", "--job-key", "k")
    assert shown.code == 3
    assert shown.id == command.end(process).id


def test_signal_while_the_id_is_being_stored(
    command: Command, sandbox: Sandbox, state: Path
) -> None:
    """Even then the id gets into the state, and the same key finds it."""
    sandbox.script(Fault(on="create", kind="delay", seconds=1.0))
    argv = ("submit", "--prompt", "x", "--job-key", "k", *LONG)
    process = command.start(*argv)
    wait_until(lambda: sandbox.posts)
    database = sqlite3.connect(state / "state.sqlite3", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    database.execute("ROLLBACK")
    database.close()
    result = command.end(process)
    assert (result.code, result.last["outcome"]) == (143, "created")
    assert command.run(*argv, "--detach").id == result.id
    assert len(sandbox.posts) == 1


def test_refusal_that_arrives_after_a_signal(command: Command, sandbox: Sandbox) -> None:
    """What was certainly not created is told so, and leaves nothing in the state."""
    sandbox.script(Fault(on="create", kind="delay", seconds=1.0))
    process = command.start("submit", "--prompt", "x", "--metadata", "sandbox_outcome=nonsense")
    wait_until(lambda: sandbox.posts)
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert (result.code, result.last["outcome"]) == (143, "not_created")
    assert command.run("show", "--list").last["counts"] == {}


def test_cancel_on_interrupt_from_the_first_moments(command: Command, sandbox: Sandbox) -> None:
    """A monitor that was asked to cancel does so, also where the signal comes early."""
    identifier = command.run("submit", "--prompt", "x", "--detach", *LONG).id
    process = command.start("monitor", identifier, "--cancel-on-interrupt")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert (result.code, result.last["job_cancelled"]) == (130, True)


def test_list_that_nobody_reads(command: Command, sandbox: Sandbox) -> None:
    """It keeps no other process from writing."""
    for number in range(3):
        command.run("submit", "--prompt", "x" * number + "y", "--detach", *LONG)
    database = sqlite3.connect(
        f"{command.environment['OAIBG_STATE_DIR']}/state.sqlite3", isolation_level=None
    )
    columns = "base_url, step, job_key, response_id, status, created_at, updated_at"
    for number in range(2000):
        database.execute(
            f"INSERT INTO jobs ({columns}) VALUES ('u', 'followed', NULL, ?, 'queued', 0, 0)",
            (f"resp_{number}",),
        )
    database.close()
    reader = command.start("show", "--list")
    time.sleep(1)
    assert reader.poll() is None
    result = command.run("submit", "--prompt", "z", "--detach", *LONG)
    assert result.events == ["submit_start", "submitted", "detached"]


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_examples_for_agents(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """The script goes on by `next` to the end, and the recipe tells the outcome."""
    answer = tmp_path / "answer.md"
    (tmp_path / "oaibg").write_text(f'#!/bin/sh\nexec {sys.executable} -m oaibg "$@"\n')
    (tmp_path / "oaibg").chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLICE_SECONDS": "4",
        "RETRY_SECONDS": "0",
        "TRIES": "10",
    }
    messages = tmp_path / "m.json"
    messages.write_text('[{"role": "user", "content": "x"}]')
    sandbox.script(Fault(on="retrieve", kind="raw", body='{"status":"in_progress"}', times=1))
    argv = ["sh", str(EXAMPLES / "resume.sh"), "key", str(messages), str(answer)]
    environment = command.environment | variables
    done = subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=60)
    assert (done.returncode, len(sandbox.posts)) == (0, 1)
    assert b'"exit_code":3' in done.stderr
    assert answer.read_text().startswith("The sandbox")
    gone = environment | {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "TRIES": "2"}
    away = subprocess.run(argv, env=gone, capture_output=True, check=False, timeout=60)
    assert away.returncode == 7
    told = subprocess.run(
        ["jq", "-r", "-f", str(EXAMPLES / "outcome.jq")],
        input=command.run("show", "resp_unknown").out,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert told.stdout.startswith(b"resp_unknown: not_found (exit 5): No such response")


def test_nohup_stays(command: Command, sandbox: Sandbox) -> None:
    """A hang-up that was ignored at the start stays ignored."""
    process = command.start(
        *("submit", "--prompt", "x", "--metadata", "sandbox_seconds=1", "--poll-seconds", "0.2"),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    await_line(process, "submitted")
    process.send_signal(signal.SIGHUP)
    assert command.end(process).code == 0


def test_standard_streams_closed(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """No file of ours becomes stdout, and the run goes as ever."""
    out = tmp_path / "o.json"
    process = command.start(
        *("submit", "--prompt", "x", "--poll-seconds", "0.05", "--output-json-file", str(out)),
        stdout=None,
        stderr=None,
        preexec_fn=lambda: os.closerange(0, 3),
    )
    assert process.wait(20) == 0
    assert json.loads(out.read_bytes())["id"] in sandbox.jobs


def test_pipe_that_does_not_block(command: Command) -> None:
    """Some harnesses hand over such a pipe: a line larger than it arrives whole."""
    command.run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_bytes=500000"),
        *("--poll-seconds", "0.05"),
    )
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = command.start("show", stdout=writer)
    os.close(writer)
    time.sleep(0.5)
    with open(reader, "rb") as pipe:  # noqa: PTH123
        (line,) = parsed(pipe.read())
    assert process.wait(20) == 0
    assert len(line["response"]["output"][1]["content"][0]["text"]) == 500_000


@pytest.mark.parametrize(
    ("argv", "absent"),
    [
        (
            ("--version",),
            {"openai", "sqlite3", "asyncio", "rich"},
        ),
        (("--help",), {"openai", "sqlite3", "asyncio", "rich"}),
        (("submit", "--help"), {"openai", "sqlite3", "asyncio", "rich"}),
        (("submit",), {"openai", "sqlite3", "asyncio", "rich"}),
        (("submit", "--prompt", "x", "--dry-run"), {"openai", "sqlite3", "asyncio", "rich"}),
        (("show",), {"openai", "rich", "httpx2", "asyncio"}),
        (("show", "--list"), {"openai", "rich", "httpx2", "asyncio"}),
        (("monitor", "resp_1", "--max-wait-seconds", "1"), {"rich", "oaibg.sandbox"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_imported(command: Command, argv: tuple[str, ...], absent: set[str]) -> None:
    """Start-up is a feature: nothing is imported that the command does not use."""
    command.run("submit", "--prompt", "x", "--poll-seconds", "0.1")
    program = (
        "import os, sys; from oaibg.entry import entry; end = os._exit\n"
        "def report(code):\n"
        "    print(*sys.modules, file=sys.stderr, flush=True); end(code)\n"
        "os._exit = report; sys.argv = ['oaibg', *sys.argv[1:]]; entry()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    loaded = set(done.stderr.split())
    assert "oaibg.cli.app" in loaded
    assert not absent & loaded


def test_few_open_files_are_enough(command: Command) -> None:
    """A run holds a handful of descriptors."""
    result = command.run(
        *("submit", "--prompt", "x", "--poll-seconds", "0.05"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
    )
    assert result.code == 0


def test_module_and_script_are_the_same(command: Command) -> None:
    """`python -m oaibg` gives a `next` that can be run as it stands."""
    result = command.run("submit", "--prompt", "x", "--detach")
    done = subprocess.run(
        result.last["next"] + ["--poll-seconds", "0.05"],
        env=command.environment,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0


def test_a_key_at_another_base_url(command: Command, sandbox: Sandbox) -> None:
    """It is another key, also while this one is being submitted."""
    sandbox.script(Fault(on="create", kind="hang_after"))
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--detach")
    command.start(*argv)
    wait_until(lambda: sandbox.jobs)
    url = sandbox.base_url.replace("127.0.0.1", "localhost")
    other = command.run(*argv, env={"OPENAI_BASE_URL": url, "NO_PROXY": "localhost"})
    assert (other.code, len(sandbox.posts)) == (0, 2)
