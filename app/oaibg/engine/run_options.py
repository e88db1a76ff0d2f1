"""How a run waits for its jobs, and where their answers go: frozen options, the same for all."""

from __future__ import annotations

from typing import Literal

from oaibg.base.record import Record

Events = Literal["all", "changes"]


class Wait(Record):
    """How to wait for a job's end. Times are seconds. `next` repeats what is not the default."""

    poll_seconds: float = 10.0
    max_wait_seconds: float | None = None
    events: Events = "all"
    cancel_on_interrupt: bool = False
    stream: bool = False
    stream_text: bool = False
    """Deltas of the text, too; only with `stream`."""
    starting_after: int | None = None
    """Resume the stream after this sequence_number; only with `stream`."""


class Output(Record):
    """Where the answer goes; paths are absolute. `next` repeats what is not the default."""

    show_output_text: bool = False
    output_json_file: str | None = None
    output_text_file: str | None = None
    human: bool = False
    """Whether a person waits for this one answer; of several jobs' answers nobody does."""

    @property
    def is_asked_for(self) -> bool:
        """Whether the answer goes anywhere but into the event of `show`."""
        return bool(self.output_json_file or self.output_text_file or self.show_output_text)

    @property
    def shows_text(self) -> bool:
        """Whether the text is emitted: it was asked for, or there is a person to read it."""
        return self.show_output_text or (self.human and self.output_text_file is None)
