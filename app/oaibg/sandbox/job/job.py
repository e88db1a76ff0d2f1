"""The life of a job as a pure function of time: when it is queued, runs and ends.

Nothing runs in the background: the caller gives the time, in unix seconds. A job is queued for a
third of its time, then in progress, then it has ended. The request's `metadata` can say how: see
`oaibg.sandbox.job.metadata`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.job.metadata import outcome_in, searches_in, seconds_in
from oaibg.sandbox.job.settings import settings_of
from oaibg.sandbox.job.text import output_text
from oaibg.sandbox.personality import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oaibg.sandbox.personality import Personality

_REASONING_TOKENS = 64


@dataclass
class Job:
    """One response: what was asked, what it will become, and whether it was cancelled."""

    id: str
    request: Mapping[str, Any]
    """The body of the create."""
    created: float
    """Unix seconds."""
    seconds: float
    outcome: str
    text: str | None
    """The whole output text, even while it is not out yet; None if there will be none."""
    searches: int = 0
    """How many web searches come before the answer."""
    unstreamed: bool = False
    """Whether the server ignored `stream=true`."""
    cancelled: float | None = None
    """When it was cancelled, in unix seconds."""
    overtaken: bool = False
    """Whether the cancel does not hold: the job ends all the same once its time is over."""
    watchers: set[Callable[[], None]] = field(default_factory=set, repr=False, compare=False)
    """Called after every change of a field, in the thread that made it."""

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field, and call the watchers."""
        super().__setattr__(name, value)
        for changed in tuple(self.__dict__.get("watchers", ())):
            changed()

    @property
    def background(self) -> bool:
        """Whether the create asked for background mode."""
        return self.request.get("background") is True

    @property
    def streamable(self) -> bool:
        """Whether its events can be read again later."""
        return self.background and self.request.get("stream") is True and not self.unstreamed

    @property
    def started(self) -> float:
        """When it leaves the queue, in unix seconds."""
        return self.created + (self.seconds / 3 if self.background else 0)

    @property
    def ended(self) -> float:
        """When it ends if nobody cancels it, in unix seconds; infinite for a stuck one."""
        return math.inf if self.outcome == "stuck" else self.created + self.seconds

    def status(self, now: float) -> str:
        """Return its status at `now`."""
        cancelled = self.cancelled is not None and now >= self.cancelled
        if cancelled and not (self.overtaken and now >= self.ended):
            return "cancelled"
        if now < self.started:
            return "queued"
        return "in_progress" if now < self.ended else self.outcome

    def running(self, now: float) -> bool:
        """Return whether it has not ended at `now`."""
        return self.status(now) in ("queued", "in_progress")

    def cancel(self, now: float, *, overtaken: bool = False) -> bool:
        """Cancel it; False if it has ended otherwise, and stays as it is."""
        if self.running(now):
            self.overtaken = overtaken
            self.cancelled = now
            return True
        return self.status(now) == "cancelled"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the API echoes of the request, with its defaults filled in."""
        return settings_of(self.request)

    @cached_property
    def usage(self) -> dict[str, Any]:
        """The tokens that it will have used."""
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
    request: Mapping[str, Any], now: float, seconds: float, personality: Personality = DEFAULT
) -> Job:
    """Make the job of a valid create; `seconds` is how long it takes unless metadata says so.

    Its id has the personality's shape, and if that ignores `stream`, so does the job.

    Raises `FieldError` if a `sandbox_` entry of the metadata makes no sense.
    """
    metadata: Mapping[str, str] = request.get("metadata") or {}
    outcome = outcome_in(metadata)
    return Job(
        id=personality.new_id(),
        request=request,
        created=now,
        seconds=seconds_in(metadata, seconds),
        outcome=outcome,
        text=output_text(request, outcome),
        searches=searches_in(metadata),
        unstreamed=personality.stream == "ignored",
    )
