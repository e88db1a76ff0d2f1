"""The process around a run: its standard streams, signals, event loop and end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from oaibg.errors import StdoutGone
from oaibg.events import exit_code_of
from oaibg.output import JsonLines, Stdout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import FrameType

    from oaibg.events import Event
    from oaibg.output import Renderer

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Process:
    """What a command needs of the process that it runs in.

    Args:
        owned: whether the process is ours to end (the console command), or a caller's (a test).
        started: `time.monotonic()` at the process's start.
    """

    def __init__(self, *, owned: bool, started: float) -> None:
        self.owned = owned
        self.started = started
        self.stdout = Stdout()
        self.renderer: Renderer = JsonLines(self.stdout, utc_now)
        self.signum = signal.SIGTERM
        self.last_words: Callable[[int], Event | None] = lambda _: None
        """The event that ends the run when a signal can't wait."""
        self._wake: Callable[[], None] | None = None
        self._signalled = False
        if owned:
            _fill_standard_streams()
            for number in SIGNALS:
                # What was ignored at the start (nohup, a background job) stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, self._on_signal)

    def run(self, events: AsyncIterator[Event], close: Callable[[], Awaitable[None]]) -> int:
        """Show the events to the last one; gives its exit code.

        Where the process is ours it ends here, at once: the teardown of the loop and of the
        interpreter would wait for threads, and takes longer than many a run.
        """
        import asyncio

        async def drain() -> int:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()

            def wake() -> None:
                if task is not None:
                    loop.call_soon_threadsafe(task.cancel)

            self._wake = wake
            code = 1
            try:
                async for event in events:
                    self.renderer.write(event)
                    ended = exit_code_of(event)
                    code = code if ended is None else ended
            except StdoutGone as gone:
                code = gone.exit_code
            except asyncio.CancelledError:
                # The signal came before the job function was under way.
                if (last := self.last_words(self.signum)) is not None:
                    self.renderer.write(last)
                code = 128 + self.signum
            finally:
                self._wake = None
            if self.owned:
                self.end(code)
            await close()
            return code

        return asyncio.run(drain())

    def end(self, code: int) -> NoReturn:
        """End the process now; every line is out already."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signal.Signals(signum)
        if self._wake is not None and not self._signalled:
            self._signalled = True
            self._wake()
        elif self.stdout.writing and self.stdout.after_write is None:
            # In the middle of a line: as soon as it is out. A reader that does not read keeps it
            # from getting out; another signal ends that.
            self.stdout.after_write = lambda: self._end_by(signum)
        else:
            self._end_by(signum)

    def _end_by(self, signum: int) -> NoReturn:
        """During start-up, or asked a second time: say what is known, and end."""
        self.stdout.after_write = None
        event = self.last_words(signum)
        if event is not None and not self.stdout.writing:
            with suppress(BaseException):
                self.renderer.write(event)
        os._exit(128 + signum)


def utc_now() -> str:
    """The time as the lines have it: UTC, ISO 8601, milliseconds, `Z`."""
    seconds = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"


def _fill_standard_streams() -> None:
    """Give a closed stdin, stdout or stderr something: the next file that is opened would be it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
