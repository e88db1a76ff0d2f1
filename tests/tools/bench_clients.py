"""The measured processes that follow many jobs, and the server that runs these jobs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench_tools import PATIENCE, BenchError, clean_environment, last_line, request, write_file

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Iterator, Sequence


class Client:
    """A process that follows jobs; records when it writes what."""

    def __init__(
        self, command: Sequence[str], ids: Sequence[str], folder: str, environment: dict[str, str]
    ) -> None:
        own = Path(tempfile.mkdtemp(prefix="client-", dir=folder))
        self._name = " ".join([Path(command[0]).name, *map(_shortened, command[1:])])
        self._errors = own / "stderr"
        names = write_file(own / "ids", "".join(f"{response_id}\n" for response_id in ids))
        with Path(names).open("rb") as stdin, self._errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**environment, "OAIBG_STATE_DIR": str(own / "state")},
            )
        self._usage = psutil.Process(self._process.pid)
        self._pieces: list[tuple[float, bytes]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def cpu(self) -> float:
        """Return the CPU time so far, in seconds."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that the process must bring about."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            if not self._reader.is_alive():
                self._fail("ended early")
            if time.monotonic() >= give_up:
                self._fail("made no progress")
            time.sleep(0.02)

    def finish(self, seconds: float) -> resource.struct_rusage:
        """Wait until the process ends, which must be with 0; return the resources it used."""
        self._reader.join(seconds)
        if self._reader.is_alive():
            self._fail(f"did not end within {seconds:.0f} s")
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            self._fail(f"ended with {self._process.returncode}")
        return usage

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def lags(self, ends: dict[str, float]) -> list[float]:
        """Return the seconds from the end of each job to the line that reported it."""
        reported = dict(self._finals())
        if reported.keys() != ends.keys():
            self._fail(f"reported {len(reported.keys() & ends.keys())} of {len(ends)} ends")
        return [reported[response_id] - end for response_id, end in ends.items()]

    def _finals(self) -> Iterator[tuple[str, float]]:
        rest = b""
        for at, piece in self._pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if b'"final"' in line:
                    yield json.loads(line)["response_id"], at

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            while piece := os.read(stdout.fileno(), 65536):
                self._pieces.append((time.time(), piece))

    def _fail(self, what: str) -> None:
        output = b"".join(piece for _, piece in self._pieces[-2:])
        out, err = (last_line(one)[:300] for one in (output, self._errors.read_bytes()))
        raise BenchError(f"`{self._name}` {what}; last line on stdout: {out}; on stderr: {err}")


class Server:
    """Controls the server of `bench_server`."""

    def __init__(self, address: str) -> None:
        self.base_url = f"{address}/v1"
        self._address = f"{address}/bench"
        self._ids: list[str] = []

    def begin(self, jobs: int, *, stream: bool = False, delay: float = 0) -> list[str]:
        """Replace all jobs by new ones, and return their IDs."""
        settings = {"count": jobs, "stream": stream, "delay": delay}
        self._ids = request("POST", f"{self._address}/jobs", settings)
        return self._ids

    def end_over(self, seconds: float) -> dict[str, float]:
        """End the jobs over this many seconds, in random order; return each job's end time.

        The first job ends in a second, so that streams can first send their earlier events.
        """
        count = len(self._ids)
        places = random.Random(count).sample(range(count), count)
        first = time.time() + 1
        ends = [first + seconds * place / count for place in places]
        request("POST", f"{self._address}/ends", {"ends": ends})
        return dict(zip(self._ids, ends, strict=True))

    def counts(self) -> dict[str, float]:
        """Return the counts of requests since the jobs began."""
        counts: dict[str, float] = request("GET", f"{self._address}/counts")
        return counts


@contextmanager
def serve() -> Iterator[Server]:
    """Run the server as a separate process."""
    path = Path(__file__).with_name("bench_server.py")
    command = [sys.executable, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=clean_environment()
    ) as server:
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            if not address:
                raise BenchError("the server did not start")
            yield Server(address)
        finally:
            server.kill()


def _shortened(argument: str) -> str:
    return Path(argument).name if argument.startswith("/") else argument
