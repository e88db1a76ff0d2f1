"""The process that runs a command: its renderer, its signals, its event loop and its exit."""

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
from oaibg.output.stdout import Stderr, Stdout, prose
from oaibg.process.early_signals import handle_signals

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from oaibg.contract.events import Event
    from oaibg.output.renderers import Renderer

_OPEN_FILES = 65_536, 10_240
"""The limits of open files to try, the larger one first. macOS claims to have no limit, but refuses
a number above its own limit, which varies and is at least the second one."""


class Command(Protocol):
    """What a process needs from the command that it runs."""

    @property
    def known_as(self) -> str | None:
        """The key or label of the run's job, for people."""

    @property
    def alias(self) -> str | None:
        """The key that commands accept in place of the ID of the run's job."""

    @property
    def server(self) -> str:
        """The host of the API, as people know it."""

    def interrupted(self, signum: int) -> Event:
        """Return the event that ends the run after a signal."""

    def must_cancel(self) -> bool:
        """Whether a signal must cancel a job, which needs the event loop."""

    def rerun(self) -> list[str] | None:
        """Return the argv that repeats a submit; None if it can't be repeated, or is none."""

    def stderr_notice(self) -> str | None:
        """Return what to print on stderr if stdout accepts nothing more."""


class Process:
    """One process: writes the events, and exits with the exit code of the last one.

    `owned` is true if the run ends the process (the console command), and false if the process
    continues afterwards (a test). `started` is `time.monotonic()` at the start.
    """

    def __init__(self, *, owned: bool, started: float, command: Command) -> None:
        self.owned, self.started = owned, started
        self.stdout = Stdout()
        self.signum = signal.SIGTERM
        self.rendering = self.several = False
        """Whether the command has chosen its renderer, and whether it runs several jobs."""
        self.total: int | None = None
        """The number of jobs in the run; None until the command knows it."""
        self.max_cost_usd: float | None = None
        """The cost limit of the run."""
        self._command = command
        self._renderer: Renderer = JsonLines(self.stdout, _now)
        self._wake: Callable[[], None] | None = None
        self._closing = self._writing = False
        self._postponed: int | None = None
        """A signal that arrived during a write, and is handled after it."""
        if owned:
            sys.stderr = Stderr(self.stdout)  # also for the SDK's log, which would block signals
            handle_signals(self._on_signal)

    def render(
        self,
        *,
        human: bool,
        raw: bool = False,
        several: bool = False,
        brief: bool = False,
        waiting: bool = False,
    ) -> None:
        """Choose the renderer: `human` output, the `raw` text of the answer, or else JSON lines.

        `several` marks a run over several jobs, `brief` one whose lines are only those of
        `--events summary`, and `waiting` a run that has no event to write yet.
        """
        self.rendering, self.several = True, several
        if human:
            from oaibg.output.human import Human

            self._renderer = renderer = Human(
                self.stdout,
                several=several,
                total=lambda: self.total,
                max_cost_usd=lambda: self.max_cost_usd,
                rerun=self._command.rerun,
                server=self._command.server,
            )
            if waiting:
                renderer.wait()
        elif raw:
            self._renderer = RawText(self.stdout)
        elif several:
            self._renderer = JsonLines(self.stdout, _now, several=True, brief=brief)

    @property
    def is_json_for_people(self) -> bool:
        """Whether stdout has JSON lines, and both stdout and stderr are terminals."""
        return isinstance(self._renderer, JsonLines) and os.isatty(1) and os.isatty(2)

    def write(self, event: Event) -> None:
        """Write one event; raises `StdoutGone` if stdout is closed or full."""
        # The event with an exit code is the last one; signals during or after it change nothing.
        self._closing = self._closing or exit_code_of(event) is not None
        self._writing = True
        try:
            self._renderer.write(event.named(self._command.known_as, self._command.alias))
        finally:
            self._writing = False
        if self._postponed is not None:
            self._end_by(self._postponed)

    async def emit(self, event: Event) -> None:
        """Like `write`, but the other jobs of a run continue while nobody reads stdout."""
        if not self.several or self.stdout.is_ready():
            self.write(event)
            return

        import asyncio

        writing = asyncio.ensure_future(asyncio.to_thread(self.write, event))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # if nobody reads, a signal ends the write
            writing.result()
            raise

    def run(
        self, command: Callable[[], Awaitable[Event]], close: Callable[[], Awaitable[None]]
    ) -> int:
        """Run a command on an event loop, write the event it returns, and return the exit code.

        An owned process ends here at once: the teardown of the loop and the interpreter would wait
        for threads, and can take longer than the run. A signal cancels the command's task; `close`
        closes what the command has opened.
        """
        import asyncio

        from oaibg.process.threads import Threads

        async def on_loop() -> int:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None  # noqa: S101 - asyncio.run creates one
            loop.set_default_executor(Threads())

            def wake() -> None:
                loop.call_soon_threadsafe(task.cancel)

            self._wake = wake
            if self.owned:
                _wake_on_signals(loop)
            if self.stdout.give_up is not None:
                wake()
            try:
                event = await command()
                self.write(event)
                code = exit_code_of(event) or 0
            except StdoutGone as gone:
                code = gone.exit_code
                if (notice := self._command.stderr_notice()) is not None:
                    prose(notice)
            finally:
                self._wake = None
            if self.owned:
                self.end(code)
            await close()
            return code

        return asyncio.run(on_loop())

    def end(self, code: int) -> NoReturn:
        """End the process now; stdout is unbuffered, so every line is written already."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._closing:
            # The last line is being written. If nobody reads it, give up.
            self.stdout.give_up = 128 + signum
            return
        self.signum = signal.Signals(signum)
        first = self.stdout.give_up is None
        if self._wake is not None and first:
            self.stdout.give_up = 128 + signum
            self._wake()
        elif self._command.must_cancel() and first:
            self.stdout.give_up = 128 + signum  # `run` cancels the task when the loop starts
        elif self._writing:
            self.stdout.give_up = 128 + signum
            self._postponed = signum
        else:
            self._end_by(signum)

    def _end_by(self, signum: int) -> NoReturn:
        """Emit what is known, and exit: for a signal during start-up, or a second signal."""
        self._postponed = None
        with suppress(BaseException):
            self.write(self._command.interrupted(signum))
        os._exit(128 + signum)


def _wake_on_signals(loop: AbstractEventLoop) -> None:
    """Wake the loop for every signal, until the process ends.

    Python runs a signal handler between two bytecodes. Without this, a signal that arrives just
    before the loop waits is handled only when the wait is over.
    """
    import socket

    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    loop.add_reader(reader, reader.recv, 64)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)


def allow_connections() -> None:
    """Raise the limit of open files and connections as far as the system allows."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in _OPEN_FILES:
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def _now() -> str:
    return timestamp(time.time())
