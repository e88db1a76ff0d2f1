"""What the bench modules share: their error, the environment of processes, requests, tables."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 60.0
"""Seconds after which a process or a request counts as stuck."""


class BenchError(Exception):
    """Something could not be measured; the message says what."""


def oaibg() -> str:
    """Return the command to measure: $BENCH_OAIBG, or the one next to this Python."""
    path = os.environ.get("BENCH_OAIBG") or str(Path(sys.executable).with_name("oaibg"))
    if not Path(path).exists():
        raise BenchError(f"no such file: {path}; run `make install`")
    return path


def clean_environment() -> dict[str, str]:
    """Return this environment without the variables that change how a client behaves."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "OAIBG_", "PYTHON"))
        and not name.lower().endswith("_proxy")
    }


def request(method: str, url: str, body: Any = None) -> Any:
    """Send a request without any proxy, and return the JSON of the reply."""
    message = urllib.request.Request(url, method=method)
    if body is not None:
        message.data = json.dumps(body).encode()
        message.add_header("Content-Type", "application/json")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(message, timeout=PATIENCE) as reply:
        return json.load(reply)


def peak_mb(ru_maxrss: int) -> float:
    """Convert the kernel's peak of resident memory to MB: bytes on macOS, KiB elsewhere."""
    return ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def last_line(output: bytes) -> str:
    """Return the last line that a process printed."""
    return (output.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[-1]


def show_progress(what: str) -> None:
    """Print on stderr what is being measured."""
    print(f"bench: {what}", file=sys.stderr, flush=True)


def table(*rows: Sequence[str]) -> str:
    """Return a Markdown table; its first row is the header."""
    header, *others = rows
    lines = (header, ["---"] * len(header), *others)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_file(path: Path, text: str) -> str:
    """Write a file, and return its path."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def machine() -> str:
    """Return one line that names the machine, the versions and the date."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    parts = [
        processor,
        f"{os.cpu_count()} cores (load {os.getloadavg()[0]:.1f} before the run)",
        f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        f"Python {platform.python_version()}",
        *(f"{package} {version(package)}" for package in ("openai", "typer")),
        time.strftime("%Y-%m-%d", time.gmtime()),
    ]
    return f"Measured on: {', '.join(parts)}."
