"""The process around a command: its renderer, its signals, its event loop and its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

from oaibg.base.text import timestamp
from oaibg.contract.errors import StdoutGone
from oaibg.contract.events import exit_code_of
from oaibg.output.renderers import JsonLines, RawText
from oaibg.output.stdout import Stdout, prose
from oaibg.process.early_signals import handle_signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from oaibg.contract.events import Event
    from oaibg.output.renderers import Renderer

_OPEN_FILES = 65_536


class Command(Protocol):
    """What a process asks the command that it runs."""

    def interrupted(self, signum: int) -> Event:
        """The event that ends the run now, because of a signal."""

    def must_cancel(self) -> bool:
        """Whether a signal has to cancel a job, which takes the event loop."""

    def last_words(self) -> str | None:
        """What must be said on stderr if stdout takes nothing more."""


class Process:
    """One run: it shows the events, and ends with the exit code of the last one.

    `owned` is whether the process is ours to end (the console command), or a caller's (a test);
    `started` is `time.monotonic()` at its start.
    """

    def __init__(self, *, owned: bool, started: float, command: Command) -> None:
        self.owned, self.started = owned, started
        self.stdout = Stdout()
        self.signum = signal.SIGTERM
        self.rendering = self.several = False
        """Whether the command has chosen its renderer, and runs several jobs."""
        self.total: int | None = None
        """How many jobs the run has, as soon as the command knows."""
        self._command = command
        self._renderer: Renderer = JsonLines(self.stdout, _now)
        self._wake: Callable[[], None] | None = None
        self._closing = self._writing = False
        self._put_off: int | None = None
        """A signal that came in the middle of a write."""
        if owned:
            handle_signals(self._on_signal)

    def render(
        self, *, human: bool, raw: bool = False, several: bool = False, waiting: bool = False
    ) -> None:
        """Choose the renderer: for people, or the answer's raw text alone; else JSON lines.

        `several` is for a run over several jobs, `waiting` for one with nothing to show yet.
        """
        self.rendering, self.several = True, several
        if human:
            from oaibg.output.human import Human

            self._renderer = renderer = Human(
                self.stdout, several=several, total=lambda: self.total
            )
            if waiting:
                renderer.wait()
        elif raw:
            self._renderer = RawText(self.stdout)
        elif several:
            self._renderer = JsonLines(self.stdout, _now, several=True)

    def write(self, event: Event) -> None:
        """Show one event; raises `StdoutGone` if nobody takes it."""
        # There is one line that ends the run, and it is the last: from it on, signals are too late.
        self._closing = self._closing or exit_code_of(event) is not None
        self._writing = True
        try:
            self._renderer.write(event)
        finally:
            self._writing = False
        if self._put_off is not None:
            self._end_by(self._put_off)

    async def emit(self, event: Event) -> None:
        """Like `write`, but the other jobs of a run continue while nobody reads."""
        if not self.several or self.stdout.is_ready():
            self.write(event)
            return

        import asyncio

        writing = asyncio.ensure_future(asyncio.to_thread(self.write, event))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # a signal makes it give up if nobody reads
            writing.result()
            raise

    def run(
        self, command: Callable[[], Awaitable[Event]], close: Callable[[], Awaitable[None]]
    ) -> int:
        """Run a command on an event loop, and show the event that it returns; gives its exit code.

        If the process is ours it ends here, at once: the teardown of the loop and of the
        interpreter would wait for threads, and takes longer than many a run. A signal cancels the
        command's task; `close` closes what it has opened.
        """
        import asyncio

        async def on_loop() -> int:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None  # noqa: S101 - asyncio.run makes one

            def wake() -> None:
                loop.call_soon_threadsafe(task.cancel)

            self._wake = wake
            if self.stdout.give_up is not None:
                wake()
            try:
                event = await command()
                self.write(event)
                code = exit_code_of(event) or 0
            except StdoutGone as gone:
                code = gone.exit_code
                if (words := self._command.last_words()) is not None:
                    prose(words)
            finally:
                self._wake = None
            if self.owned:
                self.end(code)
            await close()
            return code

        return asyncio.run(on_loop())

    def end(self, code: int) -> NoReturn:
        """End the process now; every line is out already."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._closing:
            # The last line is on its way, unless nobody reads.
            self.stdout.give_up = 128 + signum
            return
        self.signum = signal.Signals(signum)
        first = self.stdout.give_up is None
        if self._wake is not None and first:
            self.stdout.give_up = 128 + signum
            self._wake()
        elif self._command.must_cancel() and first:
            self.stdout.give_up = 128 + signum  # as soon as the loop runs
        elif self._writing:
            self.stdout.give_up = 128 + signum
            self._put_off = signum
        else:
            self._end_by(signum)

    def _end_by(self, signum: int) -> NoReturn:
        """During start-up, or at a second signal: report what is known, and end."""
        self._put_off = None
        with suppress(BaseException):
            self.write(self._command.interrupted(signum))
        os._exit(128 + signum)


def allow_connections() -> None:
    """Let the process open as many files and connections as the system allows it to."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _now() -> str:
    return timestamp(time.time())
