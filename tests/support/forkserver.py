"""A server that forks the command with everything imported: a process takes 20 ms, not a second.

The processes are real: signals, kill -9, pipes and exit codes are the kernel's. They only skip
Python's start and the imports. `python tests/support/forkserver.py SOCKET` runs the server;
`ForkServer` starts it and is its client. With a C compiler, `iofault.c` is preloaded into the
server. It can kill a process, or make a call fail, at the Nth step that has an effect outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from shutil import which
from typing import IO, Any, NoReturn

_HERE = Path(__file__).parent
_APP = _HERE.parents[1] / "app"

FORK = "tests.fork"
"""The audit event of a start: the fork itself happens in the server's process."""


@dataclass(frozen=True, kw_only=True)
class IoFault:
    """A fault that `iofault.c` injects into one process; that file describes the modes."""

    mode: str
    below: str
    """The directory whose files are affected."""
    at: int = 0
    count: int = 1
    error: int = 0
    """The `errno` of the failing steps."""
    log: str | None = None
    """A file that gets one line per step."""


class Forked:
    """A forked process, with the part of `subprocess.Popen` that the tests use."""

    def __init__(self, link: socket.socket, out: IO[bytes] | None, err: IO[bytes] | None) -> None:
        self.stdout, self.stderr = out, err
        self.returncode: int | None = None
        self._link = link
        self.pid = self._number(120)

    def poll(self) -> int | None:
        """Return the return code, or None while the process runs."""
        if self.returncode is None and select.select([self._link], [], [], 0)[0]:
            self.wait(60)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the return code, negative for a signal."""
        if self.returncode is None:
            self.returncode = self._number(timeout)
            self._link.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 60) -> tuple[bytes | None, bytes | None]:
        """Read both pipes to their ends, and wait for the end of the process."""
        read: dict[str, bytes] = {}

        def drain(name: str, pipe: IO[bytes]) -> None:
            with contextlib.suppress(ValueError):  # the test closed it
                read[name] = pipe.read()
                pipe.close()

        pipes = {"out": self.stdout, "err": self.stderr}
        threads = [
            threading.Thread(target=drain, args=(name, pipe), daemon=True)
            for name, pipe in pipes.items()
            if pipe is not None
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))
            if thread.is_alive():
                raise subprocess.TimeoutExpired("oaibg", timeout)
        self.wait(max(end - time.monotonic(), 0.1))
        return read.get("out"), read.get("err")

    def _number(self, timeout: float | None) -> int:
        self._link.settimeout(timeout)
        line = b""
        try:
            while not line.endswith(b"\n"):
                piece = self._link.recv(1)
                if not piece:
                    raise RuntimeError("the fork server has ended")
                line += piece
        except TimeoutError as error:
            raise subprocess.TimeoutExpired("oaibg", timeout or 0) from error
        return int(line)


class ForkServer:
    """The client of a fork server; each process that runs tests has one server."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "s")
        self.injects = _compile(folder / "iofault.so")
        """Whether an `IoFault` can be injected into processes."""
        environment = {**os.environ, "PYTHONPATH": str(_APP)}
        environment.pop("OPENAI_LOG", None)
        if self.injects:
            environment["LD_PRELOAD"] = str(folder / "iofault.so")
        self._server = subprocess.Popen(
            [sys.executable, __file__, self._path],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    def start(
        self,
        argv: tuple[str, ...],
        environment: dict[str, str],
        *,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        fault: IoFault | None = None,
    ) -> Forked:
        """Fork `oaibg ARGV`; stdin is the null device."""
        assert fault is None or self.injects
        sys.audit(FORK)
        ours: list[IO[bytes] | None] = []
        theirs: list[int] = [os.open(os.devnull, os.O_RDWR)]
        for stream in (stdout, stderr):
            if stream is subprocess.PIPE:
                reader, writer = os.pipe()
                ours.append(open(reader, "rb"))  # noqa: PTH123, SIM115
                theirs.append(writer)
            else:
                ours.append(None)
                theirs.append(os.dup(stream if isinstance(stream, int) else stream.fileno()))
        link = socket.socket(socket.AF_UNIX)
        link.connect(self._path)
        order = {"argv": argv, "environment": environment, "fault": fault and vars(fault)}
        data = json.dumps(order).encode()
        link.sendall(b"%10d" % len(data) + data)
        socket.send_fds(link, [b"."], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        return Forked(link, *ours)

    def close(self) -> None:
        """Stop the server."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


def _compile(library: Path) -> bool:
    """Compile `iofault.c`; return False without Linux or a C compiler."""
    compiler = which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        assert not os.environ.get("CI"), (
            "CI needs Linux and a C compiler, or tests would be skipped"
        )
        return False
    source = str(_HERE / "iofault.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"],
        check=True,
    )
    return True


def _serve(path: str) -> NoReturn:
    import asyncio

    import typer.main

    from oaibg.api.client import Client
    from oaibg.cli.app import app
    from oaibg.contract.errors import CallFailed

    make_command = cache(typer.main.get_command)
    typer.main.get_command = make_command
    make_command(app)
    names = (
        "cli.cancel cli.main cli.monitor cli.show cli.submit engine.show_local "
        "many.batch.run_as_batch many.run_in_background many.several_ids output.human"
    )
    for name in names.split():
        import_module(f"oaibg.{name}")

    async def warm_up() -> None:
        api = Client("http://127.0.0.1:9/v1", "none")
        with contextlib.suppress(CallFailed):
            await api.retrieve("resp_1", 5)
        await asyncio.to_thread(int)
        await api.close()

    asyncio.run(warm_up())
    assert threading.active_count() == 1
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.write(1, b"ready\n")
    links: dict[int, socket.socket] = {}
    while True:
        waited_for: list[Any] = [0, listener, woken]
        ready = select.select(waited_for, [], [])[0]
        if 0 in ready:
            os._exit(0)
        if woken in ready:
            woken.recv(4096)
            _reap(links)
        if listener in ready:
            link, _ = listener.accept()
            length = int(link.recv(10, socket.MSG_WAITALL))
            order = json.loads(link.recv(length, socket.MSG_WAITALL))
            _, descriptors, _, _ = socket.recv_fds(link, 1, 3)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                others = [listener, woken, waker, link, *links.values()]
                _become(order, descriptors, others)
            for descriptor in descriptors:
                os.close(descriptor)
            link.sendall(b"%d\n" % pid)
            links[pid] = link


def _reap(links: dict[int, socket.socket]) -> None:
    while links:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with links.pop(pid) as link, contextlib.suppress(OSError):
            link.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(order: dict[str, Any], descriptors: list[int], others: list[socket.socket]) -> NoReturn:
    """Run the command in this forked process."""
    try:
        for other in others:
            other.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(order["environment"])
        time.tzset()
        random.seed()
        from oaibg.entry import entry

        sys.argv = [str(_APP / "oaibg" / "__main__.py"), *order["argv"]]
        if order["fault"]:
            _arm(**order["fault"])
        entry()
    finally:
        os._exit(70)


def _arm(mode: str, below: str, at: int, count: int, error: int, log: str | None) -> None:
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(log, flags, 0o600) if log else -1
    arm = ctypes.CDLL(None).iofault_arm
    arm.argtypes = [
        *(ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int),
        *(ctypes.c_char_p, ctypes.c_int),
    ]
    arm(mode.encode(), at, count, error, below.encode(), descriptor)


if __name__ == "__main__":
    _serve(sys.argv[1])
