"""The sentences about a completed job that waits for something, or that the model refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oaibg.contract import events

_SHOWN = 120
"""Characters of a call's arguments that are shown."""

NO_TEXT = {
    "tool_calls": "The response has no text: it waits for tool results or an approval.",
    "refusal": "The response has no text: the model refused.",
    "not_text": "The response has no text; it has output of another kind.",
    "empty": "The response has no output text.",
}
"""The sentence for each `reason` of `output_text_missing`."""


def actions(event: events.Final | events.Response) -> list[str]:
    """Return the refusal and the calls that wait, a clause each without a full stop."""
    refused = [] if event.refusal is None else [f"the model refused: {event.refusal.rstrip('.')}"]
    return [*refused, *(f"waiting for {_awaited(call)} ({call.id})" for call in event.calls)]


def _awaited(call: events.Call) -> str:
    details = call.details
    if len(details) > _SHOWN:
        details = f"{details[:_SHOWN]}…"
    what = "approval" if call.type == "mcp_approval_request" else "the result"
    return f"{what} of {call.name or call.type}({details})"
