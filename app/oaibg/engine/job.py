"""What is known about one job: state only, which its own methods change."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from oaibg.api.payload import is_batch_id
from oaibg.state.rows import BATCH_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oaibg.contract.errors import Outcome
    from oaibg.engine.recap import Recap

_ENOUGH = 300
"""Number of characters of warnings after which no further ones are repeated at the end."""


class Job:
    """One job, from a request or an ID to its end; `submitting` is whether this run submits it."""

    def __init__(
        self,
        response_id: str | None = None,
        *,
        submitting: bool = False,
        custom_id: str | None = None,
        is_run: bool = False,
        streams: bool = False,
        last_number: int | None = None,
        include: tuple[str, ...] = (),
        is_batch: bool | None = None,
        job_key: str | None = None,
        known_as: str | None = None,
        alias: str | None = None,
    ) -> None:
        self.response_id = response_id
        self.job_key = job_key
        """The job's key, or that of its run."""
        self.known_as = known_as
        """The job's key or label, for people."""
        self.alias = alias
        """The key that commands accept in place of the job's ID."""
        self.custom_id = custom_id
        """The job's name in the jobs file."""
        self.is_run = is_run
        """Whether it represents a whole run; `next` then repeats the command."""
        self.status: str | None = None
        self.outcome: Outcome | None = "not_created" if submitting else None
        """The outcome of the submit; None if this run submits nothing."""
        self.request_counts: dict[str, int] = {}
        """Of a batch: the number of its requests, and of those that completed or failed."""
        self.answered = False
        """Whether the API has answered any request about the job in this run."""
        self.is_known = False
        """Whether the local state has the job, so that it existed before this run."""
        self.streams = streams
        """Whether to stream the job: it was requested, and the server has not refused it."""
        self.last_number = last_number
        """The sequence_number of the last event that was fully reported, or `--starting-after`."""
        self.include = include
        """The `include` values to send with every retrieve."""
        self.doubt = ""
        """Why the ID may be a mistyped name, in words."""
        self._suggest: Callable[[], str] | None = None
        self.files: list[str] = []
        """The paths of the files that were written."""
        self.problem = ""
        """The warnings that say what to do, in words."""
        self._is_batch = is_batch
        self._window: str | None = None
        self.cost_usd: float | None = None
        """The cost in US dollars, if it was estimated before."""
        self.recap: Recap | None = None
        """The end of the job, with its cost, once this run has seen it."""
        self.unstored_row: int | None = None
        """The row in the local state that still lacks the ID."""
        self.is_kept = not submitting
        """Whether the ID outlives this process: the local state has it, or the user gave it."""

    @property
    def is_batch(self) -> bool:
        """Whether it is a batch, or a job of one; unless noted, the ID's form decides."""
        return is_batch_id(self.response_id or "") if self._is_batch is None else self._is_batch

    @property
    def completion_window(self) -> str | None:
        """The job's completion window, as far as known."""
        return BATCH_WINDOW if self.is_batch else self._window

    @property
    def is_unknown(self) -> bool:
        """Whether the local state was read, and lacks the ID that the user gave."""
        return self._suggest is not None

    @cached_property
    def suggestion(self) -> str:
        """A sentence with the name that was probably meant, if the local state lacks the ID."""
        return self._suggest() if self._suggest is not None else ""

    def identify(self, response_id: str, status: str | None = None) -> None:
        """Note the job's ID, and its last known status."""
        self.response_id, self.status = response_id, status

    def note_unknown(self, doubt: str, suggest: Callable[[], str]) -> None:
        """Note that the local state does not know the ID; `suggest` returns the `suggestion`."""
        self.doubt, self._suggest = doubt, suggest

    def note_name(self, known_as: str | None, alias: str | None = None) -> None:
        """Note the job's key or label, for people, and the key that stands for its ID."""
        self.known_as, self.alias = known_as, alias

    def note_include(self, include: tuple[str, ...]) -> None:
        """Add to the `include` values to send with every retrieve."""
        self.include = tuple(dict.fromkeys((*self.include, *include)))

    def note_key(self, job_key: str | None) -> None:
        """Note the key of the job, or of its run; None if it may be something else."""
        self.job_key = job_key

    def note_file(self, path: str) -> None:
        """Note that a file was written."""
        self.files.append(path)

    def note_problem(self, message: str) -> None:
        """Note a warning that the end of the command repeats, unless there are many of them."""
        if len(self.problem) < _ENOUGH:
            self.problem = f"{self.problem} {message}".lstrip()

    def note_known(self) -> None:
        """Note that the local state has the job."""
        self.is_known = True

    def note_batch(self, is_batch: bool | None) -> None:
        """Note whether it is a batch, if that is known."""
        self._is_batch = self._is_batch if is_batch is None else is_batch

    def note_window(self, completion_window: str | None) -> None:
        """Note the job's completion window, which its response lacks."""
        self._window = completion_window

    def note_cost(self, cost_usd: float | None) -> None:
        """Note the estimated cost of the ended job."""
        self.cost_usd = cost_usd

    def note_recap(self, recap: Recap) -> None:
        """Note the end of the job, with its estimated cost."""
        self.recap, self.cost_usd = recap, recap.cost

    def note_status(self, status: str | None) -> None:
        """Note the status from the API or from a local copy."""
        self.status = status

    def note_counts(self, counts: dict[str, Any] | None) -> None:
        """Note the `request_counts` of a batch."""
        self.request_counts = {
            key: value for key, value in (counts or {}).items() if isinstance(value, int)
        }

    def note_answer(self) -> None:
        """Note that the API has answered a request about the job."""
        self.answered = True

    def note_outcome(self, outcome: Outcome | None) -> None:
        """Note the outcome of the submit; None if this one represents several jobs."""
        self.outcome = outcome

    def note_created(self, response_id: str, status: str | None) -> None:
        """Note the reply to the create."""
        self.identify(response_id, status)
        self.outcome = "created"
        self.last_number = None  # `--starting-after` is for a job that already existed

    def note_disowned(self) -> None:
        """Note that the reply to the create was not about this job."""
        self.response_id = self.status = self.unstored_row = None
        self.outcome = "unknown"

    def note_row(self, row: int | None) -> None:
        """Note the row in the local state that still lacks the ID."""
        self.unstored_row = row

    def note_reattached(self, response_id: str, status: str | None) -> None:
        """Note the job that a job key already has."""
        self.identify(response_id, status)
        self.outcome, self.is_kept = "created", True

    def note_stored(self, *, durably: bool) -> None:
        """Note that the row in the local state has the ID now."""
        self.unstored_row, self.is_kept = None, durably

    def note_in_state(self, *, durably: bool) -> None:
        """Note that some row in the local state has the job."""
        self.is_kept = self.is_kept or durably

    def stop_streaming(self) -> None:
        """Note that the job can't be streamed."""
        self.streams = False

    def note_reported(self, number: int) -> None:
        """Note the sequence_number of the last event that was fully reported."""
        self.last_number = number
