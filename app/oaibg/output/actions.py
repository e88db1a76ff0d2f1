"""The sentences about a completed job that waits for something, or lacks an answer."""

from __future__ import annotations

from oaibg.contract import events
from oaibg.contract.errors import ExitCode
from oaibg.contract.run_status import ALIVE

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


def next_step(event: events.Event) -> str | None:
    """Return what to do after the end of a job without the requested answer; None for any other."""
    if not isinstance(event, events.Final | events.Response):
        return None
    is_without = event.exit_code in (ExitCode.UNSUCCESSFUL, ExitCode.NEEDS_ACTION)
    return event.hint if is_without else None


def _awaited(call: events.Call) -> str:
    details = call.details
    if len(details) > _SHOWN:
        details = f"{details[:_SHOWN]}…"
    what = "approval" if call.type == _APPROVAL else "the result"
    number = "" if call.id is None else f" ({call.id})"
    return f"{what} of {call.name or call.type}({details}){number}"
