"""The sentences about a completed job that waits for something, or lacks an answer."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.contract.run_status import ALIVE

if TYPE_CHECKING:
    from oaibg.contract import events

_SHOWN = 120
"""Characters of a call's arguments that are shown."""

_APPROVAL = "mcp_approval_request"

_NO_TEXT = {
    "tool_calls": "The response has no text: it waits for tool results or an approval.",
    "refusal": "The response has no text: the model refused.",
    "not_text": "The response has no text; it has output of another kind.",
    "empty": "The response has no output text.",
}
"""The sentence for each `reason` of `output_text_missing`."""

_SEND = {
    frozenset({False}): "Send the results",
    frozenset({True}): "Send your decision",
    frozenset({False, True}): "Send the results and your decision",
}
"""What to do, by which of the calls are approval requests."""


def no_text(event: events.OutputTextMissing) -> str:
    """Return why there is no text, and which file was therefore not written."""
    sentence = _NO_TEXT[event.reason]
    if event.status in ALIVE:
        sentence = "The job has not ended, so there is no text yet."
    return sentence if event.path is None else f"{sentence} {event.path} was not written."


def actions(event: events.Final | events.Response) -> list[str]:
    """Return the refusal in the model's words, and the calls that wait, a clause each."""
    refused = [] if event.refusal is None else [f"the model refused: {event.refusal}"]
    return [*refused, *(f"waiting for {_awaited(call)}" for call in event.calls)]


def next_step(event: events.Event, *, saved: bool, name: str | None = None) -> str | None:
    """Return what to do after the last event of a job that needs action; None if it is unknown.

    `saved` is whether the job's images and files were saved, and `name` the job's ID or key.
    """
    name = name or event.response_id
    if getattr(event, "exit_code", None) != ExitCode.NEEDS_ACTION or name is None:
        return None
    if calls := getattr(event, "calls", None):
        what = _SEND[frozenset(call.type == _APPROVAL for call in calls)]
        argv = ["submit", "--continue", name, "--input-json-file", "PATH"]
    elif "image_generation_call" in getattr(event, "output_types", ()) and not saved:
        what = "To save its images and files"
        argv = ["show", name, "--artifacts-dir", "DIR"]
    else:
        return None
    return f"{what}: {shlex.join(['oaibg', *argv])}"


def _awaited(call: events.Call) -> str:
    details = call.details
    if len(details) > _SHOWN:
        details = f"{details[:_SHOWN]}…"
    what = "approval" if call.type == _APPROVAL else "the result"
    number = "" if call.id is None else f" ({call.id})"
    return f"{what} of {call.name or call.type}({details}){number}"
