"""The life of a batch as a pure function of time: when it is validated, runs and ends.

Nothing runs in the background: the caller passes the time in unix seconds. A batch is validated
for a sixth of its duration. Then its lines end one by one, not in the order of the input, and for
another sixth it is finalized. The `metadata` of the batch and of its lines can change this: see
`oaibg.sandbox.job.metadata`. A batch runs until its last line ends; a stuck line makes it expire.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.batch.files import new_file_id
from oaibg.sandbox.batch.input_file import read_plan
from oaibg.sandbox.batch.plan import Plan, listed_error
from oaibg.sandbox.job.metadata import bad_entry, seconds_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.personality import Personality

WINDOW = 86400.0
"""The default seconds until a batch expires."""
ENDED = ("completed", "failed", "expired", "cancelled")

_LONGEST_CANCEL = 1.0
_LIMIT = listed_error(
    "token_limit_exceeded",
    "Enqueued token limit reached. Please try again once some in_progress batches "
    "have been completed.",
)


@dataclass
class Batch:
    """One batch: its request, the plan of its lines, and its cancel, if any."""

    id: str
    request: Mapping[str, Any]
    """The body of the create."""
    created: float
    """Unix seconds."""
    seconds: float
    window: float
    """Seconds until it expires."""
    source: bytes
    """The content of its input file."""
    plan: Plan
    personality: Personality
    cancelled_after: float | None = None
    """Seconds from its create to its cancel."""
    has_files: bool = False
    """Whether its files were added to those of the server."""
    output_file_id: str = field(default_factory=new_file_id)
    error_file_id: str = field(default_factory=new_file_id)

    def status(self, now: float) -> str:
        """Return the status at `now`."""
        age = now - self.created
        if self.cancelled_after is not None and age >= self.cancelled_after:
            return "cancelling" if age < self.cancelled_after + self.cancel_takes else "cancelled"
        if age < self.pause:
            return "validating"
        if self.plan.errors:
            return "failed"
        if age < self.run_ends:
            return "in_progress"
        if age < self.run_ends + self.pause:
            return "finalizing"
        return "completed" if self.plan.last_end <= self.window else "expired"

    def cancel(self, now: float) -> bool:
        """Start to cancel the batch; False if it has already ended."""
        status = self.status(now)
        if status not in (*ENDED, "cancelling"):
            self.cancelled_after = now - self.created
        return status not in ENDED

    @property
    def pause(self) -> float:
        """Seconds for which it is validating, and again for which it is finalizing."""
        return _pause(self.seconds, self.window)

    @property
    def run_ends(self) -> float:
        """Seconds from the create to the end of the last line, unless cancelled."""
        return min(max(self.plan.last_end, self.pause), self.window)

    @property
    def cancel_takes(self) -> float:
        """Seconds for which it is `cancelling`."""
        return min(self.seconds / 3, _LONGEST_CANCEL)

    def ran(self, now: float) -> float:
        """Return how long its lines have run until `now`, in seconds after the create."""
        cancelled = math.inf if self.cancelled_after is None else self.cancelled_after
        return min(now - self.created, self.window, cancelled)


def new_batch(
    request: Mapping[str, Any],
    source: bytes,
    now: float,
    seconds: float,
    window: float,
    find: Callable[[str], Job | None],
    personality: Personality,
) -> Batch:
    """Return the batch of a valid create.

    `source` is the content of its input file, `seconds` its duration unless its metadata sets one,
    and `window` the seconds until it expires. `find` returns a job by its ID, or None.

    Raises `FieldError` if a `sandbox_` entry of the metadata is invalid.
    """
    metadata: Mapping[str, str] = request.get("metadata") or {}
    seconds = seconds_in(metadata, seconds)
    if metadata.get("sandbox_outcome", "failed") != "failed":
        raise bad_entry("sandbox_outcome of a batch can only be failed")
    plan = read_plan(source, _pause(seconds, window), seconds * 2 / 3, find)
    if "sandbox_outcome" in metadata:
        plan = Plan(errors=[_LIMIT])
    return Batch(
        id=personality.new_batch_id(),
        request=request,
        created=now,
        seconds=seconds,
        window=window,
        source=source,
        plan=plan,
        personality=personality,
    )


def _pause(seconds: float, window: float) -> float:
    return min(seconds, window) / 6
