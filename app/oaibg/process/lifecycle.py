"""The process around a run: its job, its renderer, its signals, its event loop and its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from types import coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from oaibg.base.text import timestamp
from oaibg.contract.errors import ExitCode, StdoutGone
from oaibg.contract.events import exit_code_of
from oaibg.output.renderers import JsonLines, RawText
from oaibg.output.stdout import Stdout, prose
from oaibg.process.signals import handle_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
    from types import FrameType

    from oaibg.contract.events import Event
    from oaibg.engine.job import Job
    from oaibg.output.renderers import Renderer

T = TypeVar("T")

_OPEN_FILES = 65_536


class Process:
    """One run: what it knows of its job, and the one line with an exit code that ends it.

    Args:
        owned: whether the process is ours to end (the console command), or a caller's (a test).
        started: `time.monotonic()` at the process's start.
        job: what is known of the job; the command puts its own here.
        argv: what follows the program's name.
    """

    def __init__(self, *, owned: bool, started: float, job: Job, argv: list[str]) -> None:
        self.argv = argv
        self.owned = owned
        self.started = started
        self.job = job
        self.stdout = Stdout()
        self.renderer: Renderer = JsonLines(self.stdout, _now)
        self.rendering = self.several = False
        """Whether the command has chosen its renderer, and is at several jobs."""
        self.signum = signal.SIGTERM
        self.total: int | None = None
        """How many jobs the run has, as soon as the command knows."""
        self._wake: Callable[[], None] | None = None
        self._closing = self._writing = False
        self._put_off: int | None = None
        """A signal that came in the middle of a write."""
        if owned:
            handle_signals(self._on_signal)

    def render(
        self,
        *,
        human: bool = False,
        raw: bool = False,
        several: bool = False,
        waiting: bool = False,
    ) -> None:
        """Choose the renderer: for people, or the raw text alone; else JSON lines.

        Args:
            human: for people.
            raw: the answer's text alone.
            several: the run is over several jobs.
            waiting: it waits before there is anything to tell.
        """
        self.rendering, self.several = True, several
        if human:
            from oaibg.output.human import Human

            renderer = Human(self.stdout, several=several, total=lambda: self.total)
            self.renderer = renderer
            if waiting:
                renderer.wait()
        elif raw:
            self.renderer = RawText(self.stdout)
        elif several:
            self.renderer = JsonLines(self.stdout, _now, several=True)

    def write(self, event: Event) -> int | None:
        """Show one event; gives the exit code of the one that ends the run.

        From that one on signals are too late: there is one such line, and it is the last.
        """
        code = exit_code_of(event)
        if code is not None:
            self._closing = True
        self._writing = True
        try:
            self.renderer.write(event)
        finally:
            self._writing = False
        if self._put_off is not None:
            self._end_by(self._put_off)
        return code

    def run(self, events: AsyncIterator[Event], close: Callable[[], Awaitable[None]]) -> int:
        """Show the events to the last one; gives its exit code.

        Where the process is ours it ends here, at once: the teardown of the loop and of the
        interpreter would wait for threads, and takes longer than many a run.
        """

        async def drain() -> int:
            code: int = ExitCode.ERROR
            try:
                async for event in events:
                    ended = await self._written(event)
                    code = code if ended is None else ended
            except StdoutGone as gone:
                code = gone.exit_code
                if self._has_others:
                    await self._let_go(events)
                if (words := self.job.last_words()) is not None:
                    prose(words)
            if self.owned:
                self.end(code)
            await close()
            return code

        return self._drive(drain())

    @property
    def _has_others(self) -> bool:
        """Whether other jobs of the run may be at something meanwhile: they need the loop."""
        return self.several and self._wake is not None

    async def _written(self, event: Event) -> int | None:
        """As `write`; where nobody reads, what the other jobs of the run are at goes on."""
        if not self._has_others or self.stdout.is_ready():
            return self.write(event)

        import asyncio

        writing = asyncio.ensure_future(asyncio.to_thread(self.write, event))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # a signal makes it give up where nobody reads
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - as above
            task.cancel()  # it is for the run to end, when it is asked for the next event
            return writing.result()

    async def _let_go(self, events: AsyncIterator[Event]) -> None:
        """End a run over several jobs that nobody reads: a create under way gets its reply."""
        import asyncio

        self.job.run.abandoned = True
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a run over several jobs is on the loop
        task.cancel()
        async for _ in events:
            pass

    def end(self, code: int) -> NoReturn:
        """End the process now; every line is out already."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)

    def _drive(self, steps: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine: on an event loop from where it asks for one (`oaibg.tools.event_loop`).

        What finds all that it needs on this machine never asks, and asyncio is never imported.
        """
        try:
            steps.send(None)
        except StopIteration as done:
            result: T = done.value
            return result

        import asyncio

        @coroutine
        def rest() -> Generator[Any, None, T]:
            result: T = yield from steps
            return result

        async def on_loop() -> T:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None  # noqa: S101 - as above

            def wake() -> None:
                loop.call_soon_threadsafe(task.cancel)

            self._wake = wake
            if self.stdout.give_up is not None:
                wake()
            try:
                return await rest()
            finally:
                self._wake = None

        return asyncio.run(on_loop())

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._closing:
            # The last line is on its way, unless nobody reads.
            self.stdout.give_up = 128 + signum
            return
        self.signum = signal.Signals(signum)
        if self._wake is not None and self.stdout.give_up is None:
            self.stdout.give_up = 128 + signum
            self._wake()
        elif self._must_cancel() and self.stdout.give_up is None:
            self.stdout.give_up = 128 + signum  # as soon as the loop runs
        elif self._writing:
            self.stdout.give_up = 128 + signum
            self._put_off = signum
        else:
            self._end_by(signum)

    def _must_cancel(self) -> bool:
        """Whether a signal has to cancel a job, which takes the event loop."""
        return self.job.wait.cancel_on_interrupt and self.job.response_id is not None

    def _end_by(self, signum: int) -> NoReturn:
        """During start-up, or asked a second time: say what is known, and end."""
        self._put_off = None
        with suppress(BaseException):
            self.write(self.job.interrupted(signum))
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
