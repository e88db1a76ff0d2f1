"""Signal handling during start-up, before `lifecycle` is imported and replaces it."""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False  # `typing` is not imported before signals are handled
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""The signals that end a run."""


def handle_signals(handler: object) -> None:
    """Handle the signals that end a run, except those ignored at the start (nohup)."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]


def interrupted(signum: int, _frame: FrameType | None) -> NoReturn:
    """Emit `interrupted` for a signal during the imports: nothing was sent yet.

    The line is spelled out, because `oaibg.contract.events.Interrupted` is not imported yet.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    now = time.time()
    ts = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
    outcome = '"not_created"' if sys.argv[1:2] == ["submit"] else "null"
    name = signal.Signals(signum).name
    line = (
        f'{{"ts":"{ts}","v":1,"event":"interrupted","response_id":null,"signal":"{name}",'
        f'"status":null,"job_cancelled":false,"outcome":{outcome},"job_key":null,'
        f'"hint":"Run the same command again.","exit_code":{128 + signum},"next":null}}\n'
    )
    try:
        if not {"--human", "--output-text"} & set(sys.argv):
            os.write(1, line.encode())
    finally:
        os._exit(128 + signum)
