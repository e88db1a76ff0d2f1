"""Which events have a line of their own, and which are left to the live display or the summary."""

from __future__ import annotations

from oaibg.contract import events
from oaibg.contract.errors import ExitCode
from oaibg.contract.events import Event, exit_code_of

_TRANSIENT = (events.SubmitStart, events.Poll, events.Progress, events.OutputTextDelta)
"""Events of one job that only the live display shows."""

WAITING = (
    *_TRANSIENT,
    events.Submitted,
    events.SubmitError,
    events.PollError,
    events.RunProgress,
)
"""Events after which oaibg waits for jobs."""

_ROUTINE = (
    *WAITING,
    events.WroteArtifact,
    events.Detached,
    events.Timeout,
    events.Interrupted,
)
"""Events of one of several jobs that the board and the summary count."""


def has_line(event: Event, *, several: bool, live: bool) -> bool:
    """Return whether a line is printed for an event of one job.

    With `several` jobs, only a job that ends without success has a line. A single job has a line
    per event, but less if the display is `live`.
    """
    if not several:
        return not (live and isinstance(event, _TRANSIENT))
    is_routine = isinstance(event, _ROUTINE) and exit_code_of(event) is None
    return not (is_routine or _has_succeeded(event))


def _has_succeeded(event: Event) -> bool:
    """Whether a job ended as requested; a cancel of a run leaves what had ended before."""
    if isinstance(event, events.CancelResult):
        return event.cancelled or event.ended_with == ExitCode.OK
    return isinstance(event, events.Final) and event.ok
