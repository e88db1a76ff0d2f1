"""`python -m oaibg.sandbox`: run the sandbox until it is interrupted."""

# ruff: noqa: T201 - its lines are what this command is for

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from oaibg.sandbox.faults import Fault, parse_faults
from oaibg.sandbox.personality import PERSONALITIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from oaibg.sandbox.request_log import LoggedRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. Ends by `SystemExit` (130, 143) on a signal."""
    options = _parser().parse_args(argv)
    try:
        from oaibg.sandbox.server import Sandbox
    except ModuleNotFoundError as error:
        print(
            f"oaibg.sandbox: {error.name} is missing; it is in the extra oaibg[sandbox]: "
            "in a clone, pip install '.[sandbox]'",
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
            print(f"oaibg.sandbox: port {options.port}: {error.strerror or error}", file=sys.stderr)
            return 1
        sandbox.script(*options.faults)
        print(f"export OPENAI_BASE_URL={sandbox.base_url}")
        print("export OPENAI_API_KEY=sandbox", flush=True)
        while True:
            time.sleep(3600)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oaibg.sandbox",
        description="Run a local Responses API server. It prints the two lines to export, "
        "then a line a request on stderr.",
    )
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free one (default)")
    parser.add_argument(
        "--seconds", type=_seconds, default=5.0, help="how long a job takes (default: 5)"
    )
    parser.add_argument(
        "--faults", type=_faults, default=[], metavar="FILE.json", help="a JSON array of faults"
    )
    parser.add_argument(
        "--personality",
        choices=PERSONALITIES,
        default="openai",
        help="which kind of server it is (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no line a request")
    parser.add_argument(
        "--no-log", action="store_true", help="keep no requests for GET /sandbox/requests"
    )
    return parser


def _port(value: str) -> int:
    port = int(value)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return port


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError("must be a number, 0 or more")
    return seconds


def _faults(path: str) -> list[Fault]:
    try:
        return parse_faults(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


def _print_request(log: LoggedRequest) -> None:
    parts = (log.method, log.path, str(log.status or "no answer"), log.response_id or "")
    line = " ".join(part for part in parts if part)
    print(line.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
