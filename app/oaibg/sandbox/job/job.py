"""The life of a job as a pure function of time: when it is queued, starts and ends.

Nothing runs in the background: the caller passes the time in unix seconds. A background job is
queued for the first third of its duration, then in progress. The `metadata` of the request can
change this: see `oaibg.sandbox.job.metadata`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.job.metadata import (
    STATUSES,
    container_expired_in,
    failures_in,
    outcome_in,
    searches_in,
    seconds_in,
)
from oaibg.sandbox.job.settings import settings_of
from oaibg.sandbox.job.text import output_text
from oaibg.sandbox.personality import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oaibg.sandbox.personality import Personality

_REASONING_TOKENS = 64


@dataclass
class Job:
    """One response: its request, its planned outcome, and its cancel, if any."""

    id: str
    request: Mapping[str, Any]
    """The body of the create."""
    created: float
    """Unix seconds."""
    seconds: float
    outcome: str
    """One of `oaibg.sandbox.job.metadata.OUTCOMES`."""
    text: str | None
    """The complete text of its message, also before the job ends; None if it has none."""
    searches: int = 0
    """The number of web searches before the answer."""
    container_expired: bool = False
    """Whether the container of its code, if it has one, expires at once."""
    unstreamed: bool = False
    """Whether the create ignored `stream=true`."""
    cancelled: float | None = None
    """The time of the cancel in unix seconds."""
    overtaken: bool = False
    """Whether the job still ends with its own outcome after the cancel."""
    watchers: set[Callable[[], None]] = field(default_factory=set, repr=False, compare=False)
    """Called after every change of a field, in the thread that changes it."""

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field and call the watchers."""
        super().__setattr__(name, value)
        for changed in tuple(self.__dict__.get("watchers", ())):
            changed()

    @property
    def background(self) -> bool:
        """Whether the job was created in background mode."""
        return self.request.get("background") is True

    @property
    def streamable(self) -> bool:
        """Whether a retrieve can stream its events."""
        return self.background and self.request.get("stream") is True and not self.unstreamed

    @property
    def last_status(self) -> str:
        """The status with which it ends unless cancelled; `stuck` if it never ends."""
        return self.outcome if self.outcome in STATUSES else "completed"

    @property
    def started(self) -> float:
        """The time at which it leaves the queue, in unix seconds."""
        return self.created + (self.seconds / 3 if self.background else 0)

    @property
    def ended(self) -> float:
        """The time at which it ends unless cancelled, in unix seconds; infinite if it is stuck."""
        return math.inf if self.outcome == "stuck" else self.created + self.seconds

    def status(self, now: float) -> str:
        """Return the status at `now`."""
        cancelled = self.cancelled is not None and now >= self.cancelled
        if cancelled and not (self.overtaken and now >= self.ended):
            return "cancelled"
        if now < self.started:
            return "queued"
        return "in_progress" if now < self.ended else self.last_status

    def running(self, now: float) -> bool:
        """Return whether the job is queued or in progress at `now`."""
        return self.status(now) in ("queued", "in_progress")

    def cancel(self, now: float, *, overtaken: bool = False) -> bool:
        """Cancel the job; False if it has already ended with another status."""
        if self.running(now):
            self.overtaken = overtaken
            self.cancelled = now
            return True
        return self.status(now) == "cancelled"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings of the request, with the API's defaults, as a response echoes them."""
        return settings_of(self.request)

    @cached_property
    def usage(self) -> dict[str, Any]:
        """The token usage of the whole job."""
        source = json.dumps([self.request.get("instructions"), self.request.get("input")])
        tokens_in = max(1, len(source) // 4)
        tokens_out = _REASONING_TOKENS + math.ceil(len(self.text or "") / 4)
        return {
            "input_tokens": tokens_in,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": tokens_out,
            "output_tokens_details": {"reasoning_tokens": _REASONING_TOKENS},
            "total_tokens": tokens_in + tokens_out,
        }


def new_job(
    request: Mapping[str, Any],
    now: float,
    seconds: float,
    personality: Personality = DEFAULT,
    earlier: Iterable[Job] = (),
    *,
    outcome: str | None = None,
) -> Job:
    """Return the job of a valid create; `seconds` is its duration unless its metadata sets one.

    `earlier` are the jobs that already exist. `outcome` is how the job ends, whatever its metadata
    say.

    Its ID has the personality's format. If the personality ignores `stream`, the job has no stream.

    Raises `FieldError` if a `sandbox_` entry of the metadata is invalid.
    """
    metadata: Mapping[str, str] = request.get("metadata") or {}
    failures = failures_in(metadata)
    fails = failures > 0 and failures > sum(one.request == request for one in earlier)
    outcome = outcome or ("failed" if fails else outcome_in(metadata))
    return Job(
        id=personality.new_id(),
        request=request,
        created=now,
        seconds=seconds_in(metadata, seconds),
        outcome=outcome,
        text=output_text(request, outcome),
        searches=searches_in(metadata),
        container_expired=container_expired_in(metadata),
        unstreamed=personality.stream == "ignored",
    )
