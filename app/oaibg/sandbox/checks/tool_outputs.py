"""Checks that a create answers every open call, and nothing that is not a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oaibg.sandbox.job.items import Item


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of call, the type of its output, and which key of each has the ID of the call."""

    call: str
    call_key: str
    output: str
    output_key: str
    unanswered: str
    unknown: str


_KINDS = (
    _Kind(
        *("function_call", "call_id", "function_call_output", "call_id"),
        "No tool output found for function call {}.",
        "No tool call found for function call output with call_id {}.",
    ),
    _Kind(
        *("custom_tool_call", "call_id", "custom_tool_call_output", "call_id"),
        "No tool output found for custom tool call {}.",
        "No tool call found for custom tool call output with call_id {}.",
    ),
    _Kind(
        *("mcp_approval_request", "id", "mcp_approval_response", "approval_request_id"),
        "No approval response found for MCP approval request {}.",
        "No approval request found for MCP approval response with approval_request_id {}.",
    ),
)


def check_tool_outputs(body: Mapping[str, Any], previous: Sequence[Item]) -> None:
    """Raise `FieldError` if a call lacks its output, or an output its call.

    `previous` is the output of the previous response. The body is valid apart from that. Outputs
    may belong to items that the sandbox doesn't know: those of a conversation or of a reference.
    """
    given: list[Item] = body["input"] if isinstance(body.get("input"), list) else []
    types = {item.get("type") for item in given}
    knows_all = body.get("conversation") is None and "item_reference" not in types
    for kind in _KINDS:
        calls = _ids([*previous, *given], kind.call, kind.call_key)
        outputs = _ids(given, kind.output, kind.output_key)
        unknown = [one for one in outputs if one not in calls] if knows_all else []
        if unknown:
            raise FieldError(kind.unknown.format(unknown[0]), "input")
        if unanswered := [one for one in calls if one not in outputs]:
            raise FieldError(kind.unanswered.format(unanswered[0]), "input")


def _ids(items: Sequence[Item], kind: str, key: str) -> list[str]:
    return [item[key] for item in items if item.get("type") == kind]
