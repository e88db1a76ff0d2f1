"""Opens what a command needs, when it needs it: the local state, the clock and the SDK."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.base.descriptors import NEEDED, free_descriptors
from oaibg.base.text import host_of, one_line
from oaibg.cli import environment
from oaibg.cli.next_command import NextCommand
from oaibg.contract.errors import OaibgError, StdoutGone, UsageError
from oaibg.contract.events import exit_code_of
from oaibg.engine import report_end
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output, Wait
from oaibg.output.stdout import prose
from oaibg.process.lifecycle import Process, allow_connections

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from oaibg.api.calls import Calls
    from oaibg.api.client import Client
    from oaibg.base.clock import Clock
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context, Shared
    from oaibg.many.pacing.in_flight import InFlight
    from oaibg.state.database import StateError
    from oaibg.state.store import Store


_TIP = (
    "Tip: --human shows the status and the answer in readable form. OAIBG_HUMAN=1 makes it the "
    "default in a terminal. This tip is shown once."
)


class Session:
    """One run of a command: its job as far as known, its options, and what it has opened.

    `argv` excludes the program's name; an `owned` process ends with the run.
    """

    def __init__(self, argv: list[str], *, owned: bool, started: float) -> None:
        self.argv = argv
        self._damage: StateError | None = None
        self._shared: Shared | None = None
        self.begin(Job(submitting=argv[:1] == ["submit"]), Wait(), Output())
        self.process = Process(owned=owned, started=started, command=self)

    def begin(self, job: Job, wait: Wait, output: Output, rerun: list[str] | None = None) -> None:
        """Set the job and the options, which the event that ends the run needs."""
        self.job, self.wait, self.output = job, wait, output
        self.next_command = NextCommand(wait, output, rerun)

    @property
    def known_as(self) -> str | None:
        """The key or label of the run's job, for people."""
        return self.job.known_as

    @property
    def alias(self) -> str | None:
        """The key that commands accept in place of the ID of the run's job."""
        return self.job.alias

    @property
    def server(self) -> str:
        """The host of the API with its port if it has one; empty if the base URL is invalid."""
        with suppress(OaibgError):
            return host_of(environment.base_url())
        return ""

    @property
    def deadline(self) -> float:
        """When the wait limit is reached, as of `time.monotonic()`."""
        return self.process.started + (self.wait.max_wait_seconds or math.inf)

    def interrupted(self, signum: int) -> Event:
        """Return the event that ends the run after a signal."""
        jobs = set() if self._shared is None else self._shared.jobs
        return report_end.cut_short(self.job, self.next_command, signum, list(jobs))

    def must_cancel(self) -> bool:
        """Whether a signal must cancel the job, which needs the event loop."""
        return self.wait.cancel_on_interrupt and self.job.response_id is not None

    def rerun(self) -> list[str] | None:
        """Return the argv that repeats a submit; None if it can't be repeated, or is none."""
        return self.next_command.rerun() if self.argv[:1] == ["submit"] else None

    def stderr_notice(self) -> str | None:
        """Return what to print on stderr if stdout is gone: the IDs that are not stored."""
        job, shared = self.job, self._shared
        if shared is not None and (unstored := shared.unstored):
            import shlex

            names = "".join(f"  {one_line(name)}: {one}\n" for one, name in unstored.items())
            command = self.next_command.monitor([*unstored])
            how = f"To follow them, run: {shlex.join(command)}" if command else ""
            return f"These jobs were submitted, but their IDs could not be stored:\n{names}{how}"
        if job.is_kept or job.outcome != "created":
            return None
        return (
            f"The job {job.response_id} was submitted, but its ID could not be stored. "
            f"To follow it, run: oaibg monitor {job.response_id}"
        )

    def fail(self, error: OaibgError) -> int:
        """Write the error that ends the run, and return the exit code."""
        if not self.process.rendering:
            # The options could not be parsed, but these two still select the renderer.
            raw = self.argv[:1] == ["show"] and "--output-text" in self.argv
            self.process.render(human="--human" in self.argv or (not raw and _is_human()), raw=raw)
        try:
            return self.write([report_end.error(self.job, error, self.next_command)])
        except StdoutGone as gone:
            return gone.exit_code

    def write(self, events: Iterable[Event]) -> int:
        """Write events, and return the exit code of the last one."""
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
        slots: InFlight | None = None,
    ) -> int:
        """Run a command of the engine on an event loop, and return the exit code.

        `context` is an open context; without one, a context is opened for `rate`.
        `slots` are the places for jobs that adapt to the replies.
        """
        allow_connections()
        _check_descriptors()
        context = context or self.open(rate=rate, slots=slots)

        async def close() -> None:
            await self._connection.close()
            context.store.close()

        return self.process.run(lambda: command(context), close)

    def open(self, *, rate: float | None = None, slots: InFlight | None = None) -> Context:
        """Open the local state, and everything else that a command needs.

        `rate` is the number of retrieves per second in a run over several jobs.
        """
        from oaibg.base.clock import RealClock
        from oaibg.engine.context import Context, Shared
        from oaibg.state.commits import Commits

        base_url = environment.base_url()
        clock, process = RealClock(), self.process
        # Human output shows the answer of a single job, and the progress of several.
        is_human = self.output.human
        self._shared = shared = Shared(several=process.several)
        self._connection = _Connection(base_url, clock, rate, slots)
        store, problem = self.open_store()
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
            wait=self.wait.but(events="summary") if is_human and process.several else self.wait,
            output=self.output.but(human=False) if process.several else self.output,
            shared=shared,
            commits=Commits(store, clock) if rate is not None else None,
        )

    def open_store(self) -> tuple[Store, StateError | None]:
        """Open the local state; return it with its problem, if any, even if it was just fixed."""
        from oaibg.state.store import open_store

        store, problem = open_store(environment.state_folder(), keep_days=environment.keep_days())
        if problem is not None and problem.code == "state_corrupt":
            self._damage = problem
        if problem is None and self.process.is_json_for_people and not environment.has_human():
            from oaibg.state.notices import is_first_time

            if is_first_time(store.place, "human-mode"):
                prose(_TIP)
        return store, problem or self._damage


def _is_human() -> bool:
    """Whether the environment asks for human mode; an invalid value doesn't."""
    try:
        return environment.human()
    except UsageError:
        return False


def _check_descriptors() -> None:
    """Raise `UsageError` if the process can't open the files that a command needs."""
    if (free := free_descriptors()) < NEEDED:
        raise UsageError(
            f"This process may open only {free} more files; a command needs {NEEDED}.",
            code="too_few_files",
            hint="Raise the limit: ulimit -n 256.",
        )


class _Connection:
    """The client of the API, which is created at the first `open`."""

    def __init__(
        self, base_url: str, clock: Clock, rate: float | None, slots: InFlight | None
    ) -> None:
        self._base_url, self._clock, self._rate, self._slots = base_url, clock, rate, slots
        self._loading: asyncio.Task[Calls] | None = None
        self._client: Client | None = None

    async def open(self) -> Calls:
        """Import the SDK, and return its calls.

        Raises:
            AuthRefused: the API key is missing or can't be sent.
            UsageError: the environment variables don't allow a client.
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

        # In a thread, so that signals are handled during the import. It is also faster: deep in a
        # stack, CPython may allocate and free a chunk per call, and an import makes many calls.
        client = self._client = await asyncio.to_thread(load)
        if self._rate is None:
            return client

        from oaibg.many.pacing.pace import Paced

        return Paced(client, self._clock, self._rate, self._slots)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
