"""The entry point: handles signals before anything large is imported."""

from __future__ import annotations

import gc
import os
import sys
import time

from oaibg.process.early_signals import handle_signals, interrupted

TYPE_CHECKING = False  # `typing` is not imported before signals are handled
if TYPE_CHECKING:
    from typing import NoReturn


def entry() -> NoReturn:
    """Run the command in `sys.argv`, and end the process."""
    started = time.monotonic()
    # Start-up creates hardly any garbage; `oaibg.api.client` enables the collector for long runs.
    gc.disable()
    _fill_standard_streams()
    handle_signals(interrupted)

    from oaibg.cli.main import run_process

    run_process(sys.argv[1:], started)


def _fill_standard_streams() -> None:
    """Open the null device for closed standard streams, so that no file gets their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
