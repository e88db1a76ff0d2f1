"""The dependencies and options that the engine's functions share; the command passes them in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from oaibg.base.file_names import Folders
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


_SUGGESTIONS = 20
"""For how many names of a run similar names are looked up."""


class NextCommand(Protocol):
    """Builds the argv of `next`; `oaibg.cli.next_command` implements it."""

    def monitor(
        self, response_ids: Sequence[str], starting_after: int | None = None, folder: str = ""
    ) -> list[str] | None:
        """The argv that follows these jobs; None without an ID. `folder` is as for `show`."""

    def cancel(self, names: Sequence[str]) -> list[str] | None:
        """The argv that cancels these jobs, or the jobs of a run; None without a name."""

    def show(self, response_id: str, folder: str = "") -> list[str]:
        """The argv that shows a job; `folder` is its folder in the directory for artifacts."""

    def rerun(self) -> list[str] | None:
        """The argv that repeats this run; None if it can't be repeated."""


class Results(Protocol):
    """The results file of a run; `oaibg.many.results.results_file` implements it."""

    path: str

    async def add_payload(self, custom_id: str, payload: Payload) -> None:
        """Add the response of a job that has ended; raises `OSError`."""


class Shared:
    """State that the jobs of one process share; only its own methods change it."""

    def __init__(self, *, several: bool = False) -> None:
        self.folders = Folders() if several else None
        """The jobs' folders in the directory for artifacts; None in a run over one job."""
        self.answered = False
        """Whether the API has answered any request."""
        self.abandoned = False
        """Whether stdout was closed; the end of the run then cancels no jobs."""
        self.unstored: dict[str, str] = {}
        """The response IDs that the local state could not store, with the jobs' names in a run."""
        self.running = 1
        """The number of jobs that a signal interrupted together."""
        self.jobs: set[Job] = set()
        """The jobs of a run that have begun and have not ended, also if a signal ended the wait."""
        self.retrieved = False
        """Whether any job was retrieved."""
        self._warned: set[str] = set()
        self._suggestions = 0

    def note_answer(self) -> None:
        """Note that the API has answered."""
        self.answered = True

    def abandon(self) -> None:
        """Note that stdout was closed."""
        self.abandoned = True

    def note_end(self, job: Job) -> None:
        """Note that a job of a run is no longer followed."""
        if job.outcome == "created" and not job.is_kept and job.response_id is not None:
            self.unstored[job.response_id] = job.custom_id or "batch"

    def note_running(self, jobs: int) -> None:
        """Note how many jobs a signal interrupts together."""
        self.running = jobs

    def note_retrieved(self) -> None:
        """Note that a job was retrieved."""
        self.retrieved = True

    def may_suggest(self) -> bool:
        """Whether to look for what a name may mean, which takes time; only for a few names."""
        self._suggestions += 1
        return self._suggestions <= _SUGGESTIONS

    def is_first(self, warning: str) -> bool:
        """Return True on the first call only: such a warning is emitted once per run."""
        first = warning not in self._warned
        self._warned.add(warning)
        return first


class Context(Record):
    """What a function of the engine needs besides the job."""

    emit: Callable[[Event], Awaitable[None]]
    connect: Callable[[], Awaitable[Calls]]
    """Returns the API client; awaited only when a request is about to be sent."""
    store: Store
    state_problem: StateError | None
    """Why `store` exists only in memory, or that a corrupt file was replaced; else None."""
    base_url: str
    """As in the local state: without credentials."""
    clock: Clock
    started: float
    """`clock.monotonic()` at the process's start; waits count from it."""
    signum: Callable[[], int]
    """The signal that cancelled the task."""
    next_command: NextCommand
    wait: Wait
    output: Output
    shared: Shared
    commits: Commits | None = None
    """Combines the jobs' writes to the local state; None in a run over one job."""
    results: Results | None = None
    """Receives the results; None unless the run has a results file."""

    def elapsed(self) -> float:
        """Seconds since the process's start, rounded to milliseconds."""
        return round(self.clock.monotonic() - self.started, 3)

    @property
    def deadline(self) -> float:
        """When the wait limit is reached, on the monotonic clock; infinite without a limit."""
        limit = self.wait.max_wait_seconds
        return math.inf if limit is None else self.started + limit

    def folder_of(self, job: Job) -> str:
        """The job's folder in the directory for artifacts; empty in a run over one job."""
        folders = self.shared.folders
        if folders is None or self.output.artifacts_dir is None:
            return ""
        return folders.of(str(job.custom_id or job.response_id))

    def note_answer(self, job: Job) -> None:
        """Note that the API has answered a request about a job."""
        job.note_answer()
        self.shared.note_answer()
