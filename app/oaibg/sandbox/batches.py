"""The life of a batch as a pure function of time: its status, its counts, its files.

Nothing runs in the background: whoever asks gives the time, in unix seconds. A sixth of a batch's
time its input is validated, then its lines end one by one in an order of their own, and the last
sixth it is finalized. What `oaibg.sandbox.jobs` says of a request's `metadata` holds for that of
a line's body: its `sandbox_seconds` count from the create of the batch, and the last line to end
holds up the batch; one that is stuck makes it expire. There is more:

- `sandbox_status` of a line: the HTTP status of an error in place of its response, such as "500"
- `sandbox_seconds` of the batch itself: its time, where it is not to be the server's
- `sandbox_outcome` of the batch itself: `failed`, as at the limit of enqueued tokens
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .batch_lines import Plan, read_plan, response_line, undone_line
from .checks import BATCH_ENDPOINT
from .files import BATCH_SECONDS, StoredFile, new_file_id
from .jobs import as_number, new_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .batch_lines import Line, Tokens
    from .personality import Personality

WINDOW = 86400.0
"""Seconds that a batch has, unless the sandbox was told otherwise."""
ENDED = ("completed", "failed", "expired", "cancelled")

_LONGEST_CANCEL = 1.0
_UNDONE = {
    "expired": "This request could not be executed before the completion window expired.",
    "cancelled": "This request could not be executed because the batch was cancelled.",
}
_LIMIT = {
    "code": "token_limit_exceeded",
    "message": "Enqueued token limit reached. Please try again once some in_progress batches "
    "have been completed.",
    "line": None,
    "param": None,
}


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
    """What its input file holds."""
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
            return "cancelling" if age < self.cancelled_after + self._cancel_takes else "cancelled"
        if age < self._pause:
            return "validating"
        if self.plan.errors:
            return "failed"
        if age < self._over:
            return "in_progress"
        if age < self._over + self._pause:
            return "finalizing"
        return "completed" if self.plan.over <= self.window else "expired"

    def cancel(self, now: float) -> bool:
        """Cancel it; False where it has ended, and stays as it is."""
        status = self.status(now)
        if status not in (*ENDED, "cancelling"):
            self.cancelled_after = now - self.created
        return status not in ENDED

    def payload(self, now: float) -> dict[str, Any]:
        """Return the batch object as the API shows it at `now`."""
        status = self.status(now)
        known = status not in ("validating", "failed")
        done = self.plan.done(self._run_until(now))
        ended = status in ENDED
        undone = status in _UNDONE and done.lines < len(self.plan.lines)
        failed = done.lines - done.completed
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": BATCH_ENDPOINT,
            "model": self.plan.model if known else None,
            "errors": {"object": "list", "data": self.plan.errors} if status == "failed" else None,
            "input_file_id": self.request["input_file_id"],
            "completion_window": self.request["completion_window"],
            "status": status,
            "output_file_id": self.output_file_id if ended and done.completed else None,
            "error_file_id": self.error_file_id if ended and (failed or undone) else None,
            "created_at": int(self.created),
            **self._times(now, status),
            "request_counts": {
                "total": len(self.plan.lines) if known else 0,
                "completed": done.completed,
                "failed": failed,
            },
            "usage": _usage(done.tokens if ended else (0, 0, 0)),
            "metadata": self.request.get("metadata"),
        }

    def files(self, now: float) -> list[StoredFile]:
        """Return the files that it leaves: none before its end; empty ones are none."""
        status = self.status(now)
        if status not in ENDED:
            return []
        count = self.plan.done(self._run_until(now)).lines
        done, undone = self.plan.lines[:count], self.plan.lines[count:]
        taken = [line for line in done if line.refusal is None]
        refused = [line for line in done if line.refusal is not None]
        files = []
        if taken:
            files.append(self._file(self.output_file_id, "output", taken, self._response))
        if refused or undone:
            lines = [*refused, *undone]

            def error(line: Line) -> bytes:
                return self._error(line, status)

            files.append(self._file(self.error_file_id, "error", lines, error))
        return files

    @property
    def _pause(self) -> float:
        """How long it is validated, and how long finalized."""
        return pause(self.seconds, self.window)

    @property
    def _over(self) -> float:
        """When nothing is run any more, in seconds after the create, unless it is cancelled."""
        return min(max(self.plan.over, self._pause), self.window)

    @property
    def _cancel_takes(self) -> float:
        return min(self.seconds / 3, _LONGEST_CANCEL)

    def _run_until(self, now: float) -> float:
        cancelled = math.inf if self.cancelled_after is None else self.cancelled_after
        return min(now - self.created, self.window, cancelled)

    def _times(self, now: float, status: str) -> dict[str, int | None]:
        """Return when it came to each of its statuses, as far as it did."""
        cancelled = self.cancelled_after if status in ("cancelling", "cancelled") else None
        until = now - self.created if cancelled is None else cancelled
        valid = not self.plan.errors

        def when(after: float, reached: bool) -> int | None:
            return int(self.created + after) if reached else None

        ended = self._over + self._pause
        over = cancelled or 0.0
        return {
            "in_progress_at": when(self._pause, valid and until >= self._pause),
            "expires_at": when(self.window, True),
            "finalizing_at": when(self._over, valid and until >= self._over),
            "completed_at": when(ended, status == "completed"),
            "failed_at": when(self._pause, status == "failed"),
            "expired_at": when(ended, status == "expired"),
            "cancelling_at": when(over, cancelled is not None),
            "cancelled_at": when(over + self._cancel_takes, status == "cancelled"),
        }

    def _file(
        self, file_id: str, kind: str, lines: list[Line], write: Callable[[Line], bytes]
    ) -> StoredFile:
        ended = self._over + self._pause
        if self.cancelled_after is not None:
            ended = self.cancelled_after + self._cancel_takes
        expires = self.request.get("output_expires_after") or {}
        return StoredFile(
            id=file_id,
            filename=f"{self.id}_{kind}.jsonl",
            purpose="batch_output",
            created=self.created + ended,
            write=lambda: b"".join(write(line) for line in _unordered(lines)),
            expires_after=expires.get("seconds", BATCH_SECONDS),
        )

    def _response(self, line: Line) -> bytes:
        started = self.created + self._pause
        job = new_job(line.body(self.source), started, 0.0, self.personality)
        job.seconds = line.ends - self._pause
        payload = self.personality.payload(job, job.outcome)
        return response_line(self.id, line, 200, payload)

    def _error(self, line: Line, status: str) -> bytes:
        if line.refusal is not None and line.ends <= self._run_until(math.inf):
            answered, body = self.personality.error(line.refusal)
            return response_line(self.id, line, answered, body)
        return undone_line(self.id, line, f"batch_{status}", _UNDONE[status])


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

    `source` is what its input file holds, `seconds` its time unless metadata says so, `window`
    when it expires; `find` gives the response of an id, or None.

    Raises `ValueError` where a `sandbox_` entry of the metadata makes no sense.
    """
    metadata: Mapping[str, str] = request.get("metadata") or {}
    if "sandbox_seconds" in metadata:
        seconds = as_number(metadata["sandbox_seconds"], "sandbox_seconds", math.inf)
    if metadata.get("sandbox_outcome", "failed") != "failed":
        raise ValueError("sandbox_outcome of a batch must be failed")
    plan = read_plan(source, pause(seconds, window), seconds * 2 / 3, find)
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


def pause(seconds: float, window: float) -> float:
    """Return how long a batch that takes `seconds` is validated, and how long finalized."""
    return min(seconds, window) / 6


def _unordered(lines: list[Line]) -> Iterable[Line]:
    """Return the lines in any order but that of the input."""
    starts = [line.start for line in lines]
    return reversed(lines) if starts == sorted(starts) else lines


def _usage(tokens: Tokens) -> dict[str, Any]:
    tokens_in, tokens_out, thought = tokens
    return {
        "input_tokens": tokens_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens_out,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": tokens_in + tokens_out,
    }
