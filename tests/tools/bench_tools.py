"""What the measuring modules share: their error, processes' surroundings, requests, tables."""

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


class BenchError(Exception):
    """Something could not be measured; the message says what."""


def oaibg() -> str:
    """The command that is measured: the one beside this Python, or what BENCH_OAIBG names."""
    path = os.environ.get("BENCH_OAIBG") or str(Path(sys.executable).with_name("oaibg"))
    if not Path(path).exists():
        raise BenchError(f"there is no {path}; install the project there")
    return path


def surroundings() -> dict[str, str]:
    """This environment without what would change a client."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "OAIBG_", "PYTHON"))
        and not name.lower().endswith("_proxy")
    }


def ask(method: str, url: str, body: Any = None) -> Any:
    """Make a request from here, past every proxy; gives its JSON."""
    request = urllib.request.Request(url, method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=PATIENCE) as reply:
        return json.load(reply)


def peak_mb(ru_maxrss: int) -> float:
    """The most memory that was resident, in MB."""
    return ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def last_words(said: bytes) -> str:
    """The last line of what a process that failed said."""
    return (said.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[-1]


def tell(what: str) -> None:
    """Say on stderr what is measured now."""
    print(f"bench: {what}", file=sys.stderr, flush=True)


def print_table(*rows: Sequence[str]) -> None:
    """Print a Markdown table; its first row is the header."""
    header, *others = rows
    for cells in (header, ["---"] * len(header), *others):
        print(f"| {' | '.join(cells)} |")


def written(path: Path, text: str) -> str:
    """Write a file; gives its path."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def machine() -> str:
    """One line about what it was measured on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    parts = [
        processor,
        f"{os.cpu_count()} cores",
        f"{platform.system()} {platform.release()}",
        f"load {os.getloadavg()[0]:.1f} before",
        f"Python {platform.python_version()}",
        *(f"{package} {version(package)}" for package in ("openai", "typer")),
        time.strftime("%Y-%m-%d", time.gmtime()),
    ]
    return f"{', '.join(parts)}."
