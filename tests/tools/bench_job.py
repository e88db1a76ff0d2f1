"""Run one job against the sandbox, by oaibg or by a bare script, and measure the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench_tools import (
    PATIENCE,
    BenchError,
    clean_environment,
    last_line,
    peak_mb,
    request,
    write_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB_SECONDS, POLL_SECONDS = 0.05, 0.1  # the first poll always finds the job ended
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


class Run(NamedTuple):
    """One process from start to end. Times are in seconds since its start."""

    began: float
    """Start of the process, in Unix seconds."""
    first_line: float
    whole: float
    peak: float
    """Peak of resident memory, in MB."""
    output: str


class Bench:
    """Runs processes against the sandbox."""

    def __init__(self, base_url: str, folder: str, environment: dict[str, str]) -> None:
        self._base_url = base_url
        self.environment = environment
        self._errors = Path(folder, "stderr")
        self.submit_script = write_file(Path(folder, "submit.py"), SUBMIT_SCRIPT)
        self.monitor_script = write_file(Path(folder, "monitor.py"), MONITOR_SCRIPT)

    def run(self, *command: str) -> Run:
        """Run a command that must succeed, and measure it."""
        with self._errors.open("w+b") as errors:
            began, start = time.time(), time.perf_counter()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment,
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
            # A child's peak starts at the memory of the process that forked it, which is small.
            _, status, usage = os.wait4(process.pid, 0)
            whole = time.perf_counter() - start
            watchdog.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            printed = errors.read() or output
        if process.returncode:
            name = " ".join([Path(command[0]).name, *command[1:]])
            raise BenchError(f"`{name}` ended with {process.returncode}: {last_line(printed)}")
        peak = peak_mb(usage.ru_maxrss)
        return Run(began, first_line or whole, whole, peak, output.decode())

    def submit_job(self, seconds: float) -> str:
        """Submit a job from this process, and return its ID."""
        body = {
            "model": "gpt-5.2",
            "input": "hello",
            "background": True,
            "metadata": {"sandbox_seconds": str(seconds)},
        }
        reply = request("POST", f"{self._base_url}/responses", body)
        return str(reply["id"])

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests since the last call; the server then forgets them and its jobs."""
        address = self._base_url.removesuffix("/v1")
        requests: list[dict[str, Any]] = request("GET", f"{address}/sandbox/requests")
        request("DELETE", f"{address}/sandbox")
        return requests


@contextmanager
def serve(folder: str) -> Iterator[Bench]:
    """Run the sandbox as a separate process."""
    inherited = clean_environment()
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
                printed = server.stderr.read().strip().splitlines() if server.stderr else []
                raise BenchError(f"the sandbox did not start: {' '.join(printed[-1:])}")
            environment = {**inherited, **exports, "OAIBG_STATE_DIR": str(Path(folder, "state"))}
            yield Bench(exports["OPENAI_BASE_URL"], folder, environment)
        finally:
            server.kill()
