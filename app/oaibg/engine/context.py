"""What the steps of the engine work with, handed down from the command."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from oaibg.base.record import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oaibg.api.calls import Calls
    from oaibg.api.payload import Payload
    from oaibg.base.clock import Clock
    from oaibg.contract.events import Event
    from oaibg.engine.job import Job
    from oaibg.engine.run_options import Output, Wait
    from oaibg.state.commits import Commits
    from oaibg.state.database import StateError
    from oaibg.state.store import Store


class NextCommand(Protocol):
    """Builds the argv of `next`; `oaibg.cli.next_command` spells the options."""

    def monitor(
        self, response_ids: Sequence[str], starting_after: int | None = None
    ) -> list[str] | None:
        """The argv that follows these jobs; None without an id."""

    def show(self, response_id: str) -> list[str]:
        """The argv that shows a job."""

    def rerun(self) -> list[str] | None:
        """The argv of this run once more; None if it can't be repeated."""


class Results(Protocol):
    """Where the results of several jobs go; `oaibg.many.results_file` has the real one."""

    path: str

    async def add_payload(self, custom_id: str, payload: Payload) -> None:
        """Add a response that has ended; raises `OSError`."""


class Shared:
    """What the jobs of one process have in common, changed by its own methods."""

    def __init__(self) -> None:
        self.answered = False
        """Whether the API has answered anything."""
        self.abandoned = False
        """Whether stdout is gone; the end of the run then cancels no jobs."""
        self._state_warned = False

    def note_answer(self) -> None:
        """Note that the API has answered."""
        self.answered = True

    def abandon(self) -> None:
        """Note that stdout is gone."""
        self.abandoned = True

    def take_state_warning(self) -> bool:
        """Whether this is the run's first state warning; True only once."""
        first, self._state_warned = not self._state_warned, True
        return first


class Context(Record):
    """What the steps of the engine work with."""

    emit: Callable[[Event], Awaitable[None]]
    connect: Callable[[], Awaitable[Calls]]
    """Awaited when a request is about to be made."""
    store: Store
    state_problem: StateError | None
    """Why `store` is of this process alone, or what was set aside."""
    base_url: str
    """As the state keeps it: without credentials."""
    clock: Clock
    started: float
    """`clock.monotonic()` at the process's start, from which waits count."""
    signum: Callable[[], int]
    """The signal that cancelled the task."""
    next_command: NextCommand
    wait: Wait
    output: Output
    shared: Shared
    commits: Commits | None = None
    """In a run over several jobs, what writes to the state for all of them."""
    results: Results | None = None
    """In a run over a jobs file, where results go as lines."""

    def elapsed(self) -> float:
        """Seconds since the process's start, to the millisecond."""
        return round(self.clock.monotonic() - self.started, 3)

    @property
    def deadline(self) -> float:
        """When the wait is over, on the monotonic clock."""
        limit = self.wait.max_wait_seconds
        return math.inf if limit is None else self.started + limit

    def note_answer(self, job: Job) -> None:
        """Note that the API has answered something about a job."""
        job.note_answer()
        self.shared.note_answer()
