"""Names of processes in the local state, and whether another one that submits a job still runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def this_process() -> str:
    """Return the name of this process: its host, its PID and, on Linux, when it was started."""
    pid = os.getpid()
    return f"{os.uname().nodename} {pid} {_start_of(pid)}"


def pid_of_other(sender: str | None) -> int | None:
    """Return the PID of a process that a row names, if it is another one and runs on this host."""
    host, _, rest = (sender or "").partition(" ")
    pid, _, start = rest.partition(" ")
    if host != os.uname().nodename or not pid.isdecimal() or int(pid) == os.getpid():
        return None
    try:
        os.kill(int(pid), 0)
    except PermissionError:  # it runs, for another user
        pass
    except (OSError, OverflowError):
        return None
    return int(pid) if _start_of(int(pid)) == start else None


def _start_of(pid: int) -> str:
    """Return when a process was started, in ticks; empty for zombies, and if that is unknown."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""
