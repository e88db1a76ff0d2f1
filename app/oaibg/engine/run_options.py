"""The options of a run: how it waits for its jobs, and where their output goes."""

from __future__ import annotations

from typing import Literal

from oaibg.base.record import Record

Events = Literal["all", "changes", "summary"]
"""Which events to write. For one job, `summary` is the same as `changes`."""


class Wait(Record):
    """How to wait for a job. Times are in seconds. `next` repeats what is not the default."""

    poll_seconds: float = 10.0
    max_wait_seconds: float | None = None
    events: Events = "all"
    cancel_on_interrupt: bool = False
    stream: bool = False
    stream_text: bool = False
    """Emit the answer's text while it is written; only with `stream`."""
    starting_after: int | None = None
    """Resume the stream after this sequence_number; only with `stream`."""


class Output(Record):
    """Where the output goes. Paths are absolute. `next` repeats what is not the default."""

    show_output_text: bool = False
    output_json_file: str | None = None
    output_text_file: str | None = None
    include: tuple[str, ...] = ()
    """The additional data to request with every retrieve, if it is not that of the request."""
    artifacts_dir: str | None = None
    """The directory for images and files; in a run over several jobs, each job has a folder there.
    """
    human: bool = False
    """Whether a person reads the answer; never set for several jobs."""

    @property
    def is_asked_for(self) -> bool:
        """Whether the output goes anywhere other than into the `response` event of `show`."""
        return bool(self.writes_files or self.show_output_text)

    @property
    def writes_files(self) -> bool:
        """Whether the output goes into files."""
        return bool(self.output_json_file or self.output_text_file or self.artifacts_dir)

    @property
    def needs_text(self) -> bool:
        """Whether the user asked for a text; `human` is not a request for one."""
        return self.show_output_text or self.output_text_file is not None

    @property
    def shows_text(self) -> bool:
        """Whether to emit the text: it was requested, or a person reads it and no file takes it."""
        return self.show_output_text or (self.human and self.output_text_file is None)
