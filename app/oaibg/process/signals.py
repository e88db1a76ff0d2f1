"""The signals that end a run. Imported before everything else, so that it imports nothing large."""

from __future__ import annotations

import signal

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def handle_signals(handler: object) -> None:
    """Handle the signals that end a run; one that was ignored at the start (nohup) stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]
