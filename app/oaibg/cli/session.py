"""What a command works with: the state, the clock and the SDK are opened when first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.cli import environment
from oaibg.cli.next_command import NextCommand
from oaibg.contract.errors import StdoutGone
from oaibg.contract.events import exit_code_of
from oaibg.engine import report
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output, Wait
from oaibg.process.lifecycle import Process, allow_connections

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from oaibg.api.calls import Calls
    from oaibg.api.client import Client
    from oaibg.base.clock import Clock
    from oaibg.contract.errors import OaibgError
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context


class Session:
    """One run of a command: what is known of its job, its options, and what it has opened.

    `argv` is what follows the program's name; a process that is `owned` ends with the run.
    """

    def __init__(self, argv: list[str], *, owned: bool, started: float) -> None:
        self.argv = argv
        self.begin(Job(submitting=argv[:1] == ["submit"]), Wait(), Output())
        self.process = Process(owned=owned, started=started, command=self)

    def begin(self, job: Job, wait: Wait, output: Output, rerun: list[str] | None = None) -> None:
        """Note what the options say, for whatever ends the run."""
        self.job, self.wait, self.output = job, wait, output
        self.next_command = NextCommand(wait, output, rerun)

    def interrupted(self, signum: int) -> Event:
        """The event that ends the run now, because of a signal."""
        return report.interrupted(self.job, self.next_command, signum)

    def must_cancel(self) -> bool:
        """Whether a signal has to cancel the job, which takes the event loop."""
        return self.wait.cancel_on_interrupt and self.job.response_id is not None

    def last_words(self) -> str | None:
        """What to print on stderr if stdout is gone: an id that is stored nowhere else."""
        job = self.job
        if job.is_kept or job.outcome != "created":
            return None
        return (
            f"The job {job.response_id} was submitted, and the state could not take its id. "
            f"Follow it with: oaibg monitor {job.response_id}"
        )

    def fail(self, error: OaibgError) -> int:
        """Show the error that ends the run; returns the exit code."""
        if not self.process.rendering:
            # The options could not be parsed, but these two still choose the renderer.
            raw = self.argv[:1] == ["show"] and "--output-text" in self.argv
            self.process.render(human="--human" in self.argv, raw=raw)
        try:
            return self.write([report.error(self.job, error, self.next_command)])
        except StdoutGone as gone:
            return gone.exit_code

    def write(self, events: Iterable[Event]) -> int:
        """Show events; returns the exit code of the last one."""
        code = None
        for event in events:
            self.process.write(event)
            code = exit_code_of(event)
        return code or 0

    def run(
        self,
        command: Callable[[Context], Awaitable[Event]],
        context: Context | None = None,
        *,
        rate: float | None = None,
    ) -> int:
        """Run a command of the engine on an event loop; returns the exit code.

        `context` is what it works with, if that is open already; else it is opened for `rate`.
        """
        context = context or self.open(rate=rate)

        async def close() -> None:
            await self._connection.close()
            context.store.close()

        return self.process.run(lambda: command(context), close)

    def open(self, *, rate: float | None = None) -> Context:
        """Open the state, and all else that a command works with.

        `rate` is the reads per second of a run over several jobs, which share all this.
        """
        from oaibg.base.clock import RealClock
        from oaibg.engine.context import Context, Shared
        from oaibg.state.commits import Commits
        from oaibg.state.store import open_store

        base_url = environment.base_url()
        clock, process = RealClock(), self.process
        self._connection = _Connection(base_url, clock, rate)
        store, problem = open_store(environment.state_folder(), keep_days=environment.keep_days())
        return Context(
            emit=process.emit,
            connect=self._connection.open,
            store=store,
            state_problem=problem,
            base_url=environment.without_credentials(base_url),
            clock=clock,
            started=process.started,
            signum=lambda: process.signum,
            next_command=self.next_command,
            wait=self.wait,
            # A person waits for one answer, and not for those of many jobs.
            output=self.output.but(human=False) if process.several else self.output,
            shared=Shared(),
            commits=Commits(store, clock) if rate is not None else None,
        )


class _Connection:
    """The calls of the API, once somebody asks for them."""

    def __init__(self, base_url: str, clock: Clock, rate: float | None) -> None:
        self._base_url, self._clock, self._rate = base_url, clock, rate
        self._loading: asyncio.Task[Calls] | None = None
        self._client: Client | None = None

    async def open(self) -> Calls:
        """The calls; the SDK is imported now.

        Raises:
            AuthRefused: there is no key that can be sent.
            UsageError: the environment makes no client.
        """
        import asyncio

        if self._loading is None:
            self._loading = asyncio.create_task(self._load(environment.api_key()))
        return await asyncio.shield(self._loading)

    async def _load(self, key: str) -> Calls:
        import asyncio

        def load() -> Client:
            from oaibg.api.client import Client

            return Client(self._base_url, key)

        # In a thread a signal is answered meanwhile. It is faster, too: deep in a stack CPython
        # may allocate and free a chunk of it with every call, and an import makes many.
        client = self._client = await asyncio.to_thread(load)
        if self._rate is None:
            return client

        from oaibg.many.pace import Paced

        allow_connections()
        return Paced(client, self._clock, self._rate)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
