"""The life of a batch as a pure function of time: when it is validated, runs and ends.

Nothing runs in the background: the caller gives the time, in unix seconds. The input is validated
for a sixth of a batch's time, then its lines end one by one in an order of their own, and for the
last sixth it is finalized. What `oaibg.sandbox.job.metadata` says of a request's `metadata` holds
for that of a line's body: its `sandbox_seconds` count from the create of the batch, and the last
line to end holds up the batch; one that is stuck makes it expire. There is more:

- `sandbox_status` of a line: the HTTP status of an error in place of its response, such as "500"
- `sandbox_seconds` of the batch itself: its time, in place of the server's
- `sandbox_outcome` of the batch itself: `failed`, as at the limit of enqueued tokens
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.batch.files import new_file_id
from oaibg.sandbox.batch.input_file import read_plan
from oaibg.sandbox.batch.plan import Plan, listed_error
from oaibg.sandbox.job.metadata import bad_entry, seconds_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oaibg.sandbox.personality import Personality

WINDOW = 86400.0
"""How many seconds a batch has until it expires, unless the sandbox was started with another."""
ENDED = ("completed", "failed", "expired", "cancelled")

_LONGEST_CANCEL = 1.0
_LIMIT = listed_error(
    "token_limit_exceeded",
    "Enqueued token limit reached. Please try again once some in_progress batches "
    "have been completed.",
)


@dataclass
class Batch:
    """One batch: what was asked, what will become of its lines, and whether it was cancelled."""

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
    """Whether its files were handed out."""
    output_file_id: str = field(default_factory=new_file_id)
    error_file_id: str = field(default_factory=new_file_id)

    def status(self, now: float) -> str:
        """Return its status at `now`."""
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
        """Cancel it; False if it has ended, and stays as it is."""
        status = self.status(now)
        if status not in (*ENDED, "cancelling"):
            self.cancelled_after = now - self.created
        return status not in ENDED

    @property
    def pause(self) -> float:
        """How many seconds it is validated, and how many finalized."""
        return _pause(self.seconds, self.window)

    @property
    def run_ends(self) -> float:
        """When no line runs any more, in seconds after the create, unless it is cancelled."""
        return min(max(self.plan.last_end, self.pause), self.window)

    @property
    def cancel_takes(self) -> float:
        """How many seconds it is `cancelling`."""
        return min(self.seconds / 3, _LONGEST_CANCEL)

    def ran(self, now: float) -> float:
        """Return until when its lines ran, as far as `now`: in seconds after the create."""
        cancelled = math.inf if self.cancelled_after is None else self.cancelled_after
        return min(now - self.created, self.window, cancelled)


def new_batch(
    request: Mapping[str, Any],
    source: bytes,
    now: float,
    seconds: float,
    window: float,
    find: Callable[[str], object],
    personality: Personality,
) -> Batch:
    """Make the batch of a valid create.

    `source` is the content of its input file, `seconds` its time unless metadata says so, `window`
    when it expires; `find` gives the response of an id, or None.

    Raises `FieldError` if a `sandbox_` entry of the metadata makes no sense.
    """
    metadata: Mapping[str, str] = request.get("metadata") or {}
    seconds = seconds_in(metadata, seconds)
    if metadata.get("sandbox_outcome", "failed") != "failed":
        raise bad_entry("sandbox_outcome of a batch must be failed")
    plan = read_plan(source, _pause(seconds, window), seconds * 2 / 3, find)
    if "sandbox_outcome" in metadata:
        plan = Plan(errors=[_LIMIT])
    return Batch(
        id=f"batch_{secrets.token_hex(16)}",
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
