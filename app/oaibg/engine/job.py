"""What is known of one job so far: state only, changed by its own methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oaibg.contract.errors import Outcome


class Job:
    """One job, from a request or an id to its end; `submitting` is whether this run submits it."""

    def __init__(
        self,
        response_id: str | None = None,
        *,
        submitting: bool = False,
        custom_id: str | None = None,
        is_run: bool = False,
        streams: bool = False,
        last_number: int | None = None,
    ) -> None:
        self.response_id = response_id
        self.custom_id = custom_id
        """Its name in a jobs file."""
        self.is_run = is_run
        """Whether it stands for a whole run, so that `next` is the same command again."""
        self.status: str | None = None
        self.outcome: Outcome | None = "not_created" if submitting else None
        """What became of the submit; None if this run submits nothing."""
        self.answered = False
        """Whether the API has answered anything about the job in this run."""
        self.streams = streams
        """Whether to listen to its stream: asked for, and not refused so far."""
        self.last_number = last_number
        """The sequence_number of the last event that was fully reported, or `--starting-after`."""
        self.unstored_row: int | None = None
        """The state's row that the id still has to be written to."""
        self.is_kept = not submitting
        """Whether the id outlives this process: it is in the state, or the user's own."""

    def identify(self, response_id: str, status: str | None = None) -> None:
        """Note which job is meant, and its last known status."""
        self.response_id, self.status = response_id, status

    def note_status(self, status: str | None) -> None:
        """Note the status that the API or a local copy gave."""
        self.status = status

    def note_answer(self) -> None:
        """Note that the API has answered."""
        self.answered = True

    def note_outcome(self, outcome: Outcome | None) -> None:
        """Note what became of the submit; None leaves it to the jobs that this one stands for."""
        self.outcome = outcome

    def note_created(self, response_id: str, status: str | None) -> None:
        """Note the reply to the create."""
        self.identify(response_id, status)
        self.outcome = "created"
        self.last_number = None  # `--starting-after` was for a job that existed already

    def note_row(self, row: int | None) -> None:
        """Note the state's row that the id still has to be written to."""
        self.unstored_row = row

    def note_reattached(self, response_id: str, status: str | None) -> None:
        """Note the job that a job key already has."""
        self.identify(response_id, status)
        self.outcome, self.is_kept = "created", True

    def note_stored(self, *, durably: bool) -> None:
        """Note that the state's row has the id now."""
        self.unstored_row, self.is_kept = None, durably

    def note_in_state(self, *, durably: bool) -> None:
        """Note that the state knows the job, in whichever row."""
        self.is_kept = self.is_kept or durably

    def stop_streaming(self) -> None:
        """Note that the stream can't be had."""
        self.streams = False

    def note_reported(self, number: int) -> None:
        """Note the sequence_number up to which everything was reported."""
        self.last_number = number
