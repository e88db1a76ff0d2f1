"""`python -m oaibg.sandbox`: run the sandbox until it is interrupted."""

# ruff: noqa: T201 - the command prints

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from oaibg.sandbox.faults import KINDS, Fault, parse_faults
from oaibg.sandbox.job.metadata import ENTRIES, OUTCOMES
from oaibg.sandbox.personality import PERSONALITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from oaibg.sandbox.request_log import LoggedRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. A signal raises `SystemExit` (130 or 143)."""
    options = _parser().parse_args(argv)
    try:
        from oaibg.sandbox.server import Sandbox
    except ModuleNotFoundError as error:
        print(
            f"oaibg.sandbox: The module {error.name} is not installed. It is part of the extra "
            "oaibg[sandbox]. In a clone, run: pip install '.[sandbox]'",
            file=sys.stderr,
        )
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    on_done = None if options.quiet else _print_request
    with ExitStack() as stack:
        try:
            running = Sandbox.running(
                options.port, options.seconds, on_done, options.personality, log=not options.no_log
            )
            sandbox = stack.enter_context(running)
        except OSError as error:
            message = f"Can't listen on port {options.port}: {error.strerror or error}"
            print(f"oaibg.sandbox: {message}", file=sys.stderr)
            return 1
        sandbox.script(*options.faults)
        print(f"export OPENAI_BASE_URL={sandbox.base_url}")
        print("export OPENAI_API_KEY=sandbox", flush=True)
        while True:
            time.sleep(3600)


def _parser() -> argparse.ArgumentParser:
    sections = (
        _listed('fault kinds ("kind" in FILE.json; oaibg.sandbox.Fault has all fields)', KINDS),
        _listed("personalities", {name: one.summary for name, one in PERSONALITIES.items()}),
        _listed("metadata entries of a request or a batch", ENTRIES),
        _listed("outcomes (the entry sandbox_outcome of a request)", OUTCOMES),
    )
    parser = argparse.ArgumentParser(
        prog="python -m oaibg.sandbox",
        description="Run a local server with the Responses API. It prints the two exports that a\n"
        "shell needs to use it, and then one line per request on stderr.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n\n".join(sections),
    )
    parser.add_argument("--port", type=_port, default=0, help="port (default: any free port)")
    parser.add_argument("--seconds", type=_seconds, default=5.0, help="job duration (default: 5)")
    example = 'JSON array of faults, such as [{"kind": "reset_after"}]'
    parser.add_argument("--faults", type=_faults, default=[], metavar="FILE.json", help=example)
    server = "the server to imitate (default: openai)"
    parser.add_argument(
        "--personality", choices=PERSONALITIES, default="openai", metavar="NAME", help=server
    )
    parser.add_argument("--quiet", action="store_true", help="don't print the requests")
    parser.add_argument("--no-log", action="store_true", help="don't keep a log of requests")
    return parser


def _listed(title: str, meanings: Mapping[str, str]) -> str:
    lines = [
        textwrap.fill(meaning, 78, initial_indent=f"  {name:<17} ", subsequent_indent=" " * 20)
        for name, meaning in meanings.items()
    ]
    return "\n".join([f"{title}:", *lines])


def _port(value: str) -> int:
    try:
        port = int(value)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 65535")
    return port


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError("must be a number of at least 0")
    return seconds


def _faults(path: str) -> list[Fault]:
    try:
        return parse_faults(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


def _print_request(log: LoggedRequest) -> None:
    parts = (log.method, log.path, str(log.status or "no reply"), log.response_id or "")
    line = " ".join(part for part in parts if part)
    print(line.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
