"""Where the process starts: signals have their last line before anything large is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

from oaibg.process.signals import SIGNALS, handle_signals

TYPE_CHECKING = False  # `typing` is not imported before signals are handled
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def entry() -> NoReturn:
    """The console command: runs `sys.argv`, and ends the process."""
    started = time.monotonic()
    # Start-up makes objects that stay. Importing the SDK enables it: a run may be long from there.
    gc.disable()
    _fill_standard_streams()
    handle_signals(_interrupted)

    from oaibg.cli.main import run_process

    run_process(sys.argv[1:], started)


def _interrupted(signum: int, _frame: FrameType | None) -> NoReturn:
    """A signal while imports are under way: nothing was sent, and nothing else is known.

    The line is that of `oaibg.contract.events.Interrupted`, which is not imported yet.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    now = time.time()
    ts = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
    outcome = '"not_created"' if sys.argv[1:2] == ["submit"] else "null"
    name = signal.Signals(signum).name
    line = (
        f'{{"ts":"{ts}","v":1,"event":"interrupted","response_id":null,"signal":"{name}",'
        f'"status":null,"job_cancelled":false,"outcome":{outcome},"exit_code":{128 + signum},'
        '"next":null}\n'
    )
    try:
        if not {"--human", "--output-text"} & set(sys.argv):
            os.write(1, line.encode())
    finally:
        os._exit(128 + signum)


def _fill_standard_streams() -> None:
    """Give a closed stdin, stdout or stderr something: the next file that is opened would be it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
