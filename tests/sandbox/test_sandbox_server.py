"""The sandbox starts and stops promptly, as a `with` block and as a command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx2
import pytest

from oaibg.sandbox import PERSONALITIES, Fault, Sandbox
from oaibg.sandbox.faults import KINDS
from oaibg.sandbox.job.metadata import ENTRIES, OUTCOMES
from sandbox_client import LONG, command, create, end, request

if TYPE_CHECKING:
    from pathlib import Path


# --- Sandbox.running -----------------------------------------------------------------------


def test_the_sandbox_stops_at_once_despite_open_requests() -> None:
    """Clients see their connections break, and the thread ends."""
    threads = threading.active_count()
    with ThreadPoolExecutor() as pool:
        with Sandbox.running(seconds=LONG) as sandbox:
            sandbox.script(
                Fault(kind="hang_before", on="cancel"),
                Fault(kind="silent", after=1),
                Fault(kind="delay", on="retrieve", seconds=LONG),
            )
            url = f"{sandbox.base_url}/responses"
            hanging = [
                pool.submit(httpx2.post, url, json=request(stream=True), timeout=5),
                pool.submit(httpx2.post, url, json=request(background=None), timeout=5),
                pool.submit(httpx2.post, f"{url}/x/cancel", timeout=5),
                pool.submit(httpx2.get, f"{url}/x", timeout=5),
            ]
            while len(sandbox.requests) < len(hanging):
                time.sleep(0.005)
            begun = time.monotonic()
        assert time.monotonic() - begun < 0.5
        assert all(isinstance(one.exception(), httpx2.TransportError) for one in hanging)
    assert threading.active_count() == threads


def test_a_port_in_use_raises_an_os_error() -> None:
    """`Sandbox.running` raises `OSError` if its port is in use."""
    with Sandbox.running() as first:
        port = int(first.base_url.split(":")[2].removesuffix("/v1"))
        with pytest.raises(OSError, match="in use"), Sandbox.running(port=port):
            pass


def test_the_log_can_be_switched_off() -> None:
    """Without a log, faults still apply and `on_done` still receives every request."""
    faults: list[str | None] = []
    with (
        Sandbox.running(log=False, on_done=lambda log: faults.append(log.fault)) as sandbox,
        httpx2.Client(base_url=sandbox.base_url, trust_env=False) as http,
    ):
        sandbox.script(Fault(on="retrieve", kind="status", status=500))
        job = create(http)["id"]
        assert http.get(f"/responses/{job}").status_code == 500
        assert end(http, job)["status"] == "completed"
        root = sandbox.base_url.removesuffix("/v1")
        assert http.get(f"{root}/sandbox/requests").json() == []
        assert (sandbox.requests, sandbox.posts) == ([], [])
    assert faults[:3] == [None, "status", None]


# --- the command ---------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_the_command_prints_two_lines_and_ends_on_a_signal(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The command accepts connections, logs a line per request, and prints no traceback."""
    script = tmp_path / "faults.json"
    script.write_text('[{"kind": "hang_before", "on": "cancel"}]')
    with command("--seconds", "0", "--faults", str(script)) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        base_url = first.strip().removeprefix("export OPENAI_BASE_URL=")
        assert second == "export OPENAI_API_KEY=sandbox\n"
        job = httpx2.post(f"{base_url}/responses", json=request()).json()["id"]
        host, _, port = base_url.removeprefix("http://").removesuffix("/v1").partition(":")
        with socket.create_connection((host, int(port))) as hanging:
            hanging.sendall(b"POST /v1/responses/x/cancel HTTP/1.1\r\nhost: x\r\n\r\n")
            time.sleep(0.1)
            begun = time.monotonic()
            process.send_signal(number)
            out, err = process.communicate(timeout=5)
            assert time.monotonic() - begun < 1
    assert (process.returncode, out) == (code, "")
    assert err.splitlines() == [
        f"POST /v1/responses 200 {job}",
        "POST /v1/responses/x/cancel no reply x",
    ]


@pytest.mark.process
def test_the_command_takes_a_personality() -> None:
    """`--personality` selects a personality by name."""
    with command("--personality", "minimal", "--quiet") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip().removeprefix("export OPENAI_BASE_URL=")
        answer = httpx2.post(f"{base_url}/responses", json=request(), trust_env=False)
        process.terminate()
        process.communicate(timeout=5)
    assert answer.json().keys() == {"id", "status", "output"}


@pytest.mark.process
def test_the_command_can_keep_no_requests() -> None:
    """With `--no-log`, /sandbox/requests is empty."""
    with command("--no-log", "--quiet") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip().removeprefix("export OPENAI_BASE_URL=")
        assert httpx2.get(f"{base_url}/responses/x", trust_env=False).status_code == 404
        root = base_url.removesuffix("/v1")
        assert httpx2.get(f"{root}/sandbox/requests", trust_env=False).json() == []
        process.terminate()
        process.communicate(timeout=5)


@pytest.mark.process
def test_the_command_reports_a_port_in_use_in_one_line() -> None:
    """A port in use ends the command with exit 1."""
    with Sandbox.running() as sandbox:
        port = sandbox.base_url.split(":")[2].removesuffix("/v1")
        with command("--port", port) as process:
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert err == f"oaibg.sandbox: Can't listen on port {port}: Address already in use\n"


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--port", "x"],
        ["--seconds", "nan"],
        ["--faults", "/nowhere/f.json"],
        ["--personality", "nobody"],
    ],
)
def test_the_command_refuses_invalid_options(arguments: list[str]) -> None:
    """An invalid option ends the command with exit 2 and no traceback."""
    with command(*arguments) as process:
        _, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "Traceback" not in err


@pytest.mark.process
def test_the_command_names_the_missing_extra(tmp_path: Path) -> None:
    """Without Starlette, the command prints one line and ends with exit 2."""
    (tmp_path / "starlette.py").write_text('raise ModuleNotFoundError("no", name="starlette")')
    process = subprocess.run(
        [sys.executable, "-m", "oaibg.sandbox"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert "oaibg[sandbox]" in line


@pytest.mark.process
def test_the_help_lists_kinds_personalities_metadata_and_outcomes(tmp_path: Path) -> None:
    """--help lists all names within 80 columns, and doesn't import Starlette."""
    (tmp_path / "starlette.py").write_text("raise RuntimeError")
    process = subprocess.run(
        [sys.executable, "-m", "oaibg.sandbox", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "COLUMNS": "80",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        },
    )
    lines = process.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    names = [one.split()[0] for one in lines if one.startswith("  ") and one[2] not in " -"]
    assert names == [*KINDS, *PERSONALITIES, *ENTRIES, *OUTCOMES]
    assert all(one.summary for one in PERSONALITIES.values())
