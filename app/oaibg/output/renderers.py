"""Renderers for programs: JSON lines and raw text. They only format events."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from oaibg.base.json_text import json_line
from oaibg.base.secrets import masked_bytes
from oaibg.base.text import has_surrogates, utf8
from oaibg.contract import events
from oaibg.contract.advice import for_people
from oaibg.contract.errors import ExitCode
from oaibg.output.actions import actions, next_step, no_text
from oaibg.output.stdout import Stdout, is_one_terminal, prose

if TYPE_CHECKING:
    from collections.abc import Callable


_ROUTINE = (
    events.SubmitStart,
    events.SubmitError,
    events.Submitted,
    events.Poll,
    events.PollError,
    events.WroteArtifact,
    events.Timeout,
    events.Interrupted,
    events.Detached,
)
"""Events of single jobs that `--events summary` leaves out."""


class Renderer(Protocol):
    """Shows events to the user."""

    def write(self, event: events.Event) -> None:
        """Show one event at once.

        Raises:
            StdoutGone: stdout is closed or full.
        """
        ...


class JsonLines:
    """Writes each event as a line of compact ASCII JSON, and prints errors to stderr as well.

    A usage error is only printed to stderr if stdout is the same terminal.

    Args:
        stdout: takes the lines.
        now: returns the timestamp of a line.
        several: whether the run has several jobs; each line then has a `custom_id`.
        brief: whether to leave out what goes as planned with each of these jobs.
    """

    def __init__(
        self,
        stdout: Stdout,
        now: Callable[[], str],
        *,
        several: bool = False,
        brief: bool = False,
    ) -> None:
        self._stdout, self._now, self._several, self._brief = stdout, now, several, brief
        self._shows_ids = False
        """Whether the local state may lack IDs, so that they must be written."""

    def write(self, event: events.Event) -> None:
        """Write the event's line, or leave it out."""
        if isinstance(event, events.Warning) and event.code.startswith("state_"):
            self._shows_ids = True
        is_id = isinstance(event, events.Submitted) and self._shows_ids
        if self._brief and _is_routine(event) and not is_id:
            return
        if isinstance(event, events.Error) and _is_shown_once(event):
            _print_error(event)
            return
        line = json_line(event.to_dict(self._now(), several=self._several))
        try:
            self._stdout.write(masked_bytes(line))
        finally:
            if isinstance(event, events.Error) and event.exit_code is not None:
                _print_error(event)


class RawText:
    """Writes only the output text to stdout, and all messages to stderr."""

    def __init__(self, stdout: Stdout) -> None:
        self._stdout = stdout

    def write(self, event: events.Event) -> None:
        """Write the text or the message."""
        match event:
            case events.OutputText():
                if has_surrogates(event.text):
                    prose("Warning: The text contains lone surrogates, printed as U+FFFD.")
                # On a terminal, the prompt would follow the last line.
                ends = event.text.endswith("\n") or not (event.text and os.isatty(1))
                self._stdout.write(utf8(event.text if ends else f"{event.text}\n"))
            case events.OutputTextMissing():
                prose(no_text(event))
            case events.Response() if event.exit_code:
                if event.status is None:
                    prose(f"{event.response_id} has no status.")
                else:
                    prose(f"The status of {event.response_id} is {event.status}.")
                for action in actions(event):
                    stop = "" if action.endswith((".", "!", "?")) else "."
                    prose(f"{action[0].upper()}{action[1:]}{stop}")
                if step := next_step(event):
                    prose(step)
            case events.Warning():
                prose(f"Warning: {event.message}")
            case events.Error():
                _print_error(event)


def _is_routine(event: events.Event) -> bool:
    """Whether an event of one of several jobs says nothing that the summary won't say."""
    is_planned = isinstance(event, _ROUTINE) or (isinstance(event, events.Final) and event.ok)
    return is_planned and events.exit_code_of(event) is None


def _is_shown_once(error: events.Error) -> bool:
    """Whether to print an error only as prose: on a terminal, a person would read it twice."""
    return error.exit_code == ExitCode.USAGE and is_one_terminal()


def _print_error(error: events.Error) -> None:
    words = for_people if os.isatty(2) else str
    prose(f"Error: {words(error.message)}")
    if hint := words(error.hint or ""):
        prose(hint)
