"""Lines that help a person who does not know yet what oaibg does, or what goes wrong."""

from __future__ import annotations

from rich.text import Text

from oaibg.contract import events
from oaibg.contract.run_status import ALIVE
from oaibg.output.human.names import title

_TRIES = 2
"""The number of failures after which to ask whether the address is right."""


class Notes:
    """What the events so far have shown; `server` is the host of the API."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._is_introduced = self._has_answered = False
        """Whether the job was named, and whether the server has answered."""

    def introduction(self, event: events.Event) -> Text | None:
        """Return which job this command follows, with the first poll of a running job."""
        is_introduced = self._is_introduced
        if isinstance(event, events.Submitted | events.Poll):
            self._is_introduced = True
        match event:
            case events.Poll(next_poll_seconds=float()) if not is_introduced:
                return Text("Following ").append(title(event))
        return None

    def hint(self, event: events.Event) -> str:
        """Return the hint of an event, or what to check if the server can't be reached."""
        match event:
            case events.Error():
                return event.hint or ""
            case events.SubmitError(attempt=failures) | events.PollError(consecutive=failures):
                is_lost = event.error.http_status is None and not self._has_answered
                if is_lost and failures >= _TRIES:
                    return f"Check the network and OPENAI_BASE_URL: {self._server} does not answer."
            case events.Submitted() | events.Poll():
                self._has_answered = True
        return ""


def note_on_list(event: events.Summary) -> str:
    """Return how to update a list with running jobs; empty without such jobs."""
    if not any(event.counts.get(status) for status in ALIVE):
        return ""
    return "Queued and running jobs are as last seen; oaibg monitor KEY updates them."
