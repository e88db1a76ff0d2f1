"""Outputs of responses, and a sandbox whose retrieves return them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from oaibg.sandbox.server import Sandbox

Item = dict[str, Any]

IMAGE: Item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": ""}
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
PICTURE: Item = IMAGE | {"result": base64.b64encode(PNG).decode()}
"""An image with the bytes of `PNG`."""

REASONING: Item = {"type": "reasoning", "id": "rs_1", "summary": []}
CALL: Item = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city":"Paris"}',
    "status": "completed",
}
APPROVAL: Item = {
    "type": "mcp_approval_request",
    "id": "mcpr_1",
    "name": "delete",
    "server_label": "files",
    "arguments": "{}",
}


def message(*parts: str | Item, phase: str | None = None) -> Item:
    """Return a message with these texts or content parts."""
    content = [
        {"type": "output_text", "text": part, "annotations": []} if isinstance(part, str) else part
        for part in parts
    ]
    more = {} if phase is None else {"phase": phase}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content, **more}


def refusal(text: str = "I can't help with that.") -> Item:
    """Return a message that refuses."""
    return message({"type": "refusal", "refusal": text})


def completed(*output: Item, **more: Any) -> dict[str, Any]:
    """Return a completed response with this output."""
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-5.2",
        "output": list(output),
        **more,
    }


def bring(sandbox: Sandbox, body: dict[str, Any], *, times: int = 0) -> None:
    """Make the next retrieves, or all of them, return this response."""
    sandbox.script(Fault(kind="raw", on="retrieve", times=times, body=body))
