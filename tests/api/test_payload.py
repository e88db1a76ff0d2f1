"""What oaibg reads from a response."""

from __future__ import annotations

from typing import Any

import pytest

from harness import response, with_text
from oaibg.api.payload import Payload

CALL = {"type": "function_call", "name": "f", "arguments": "{}"}
REFUSED = [{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]


@pytest.mark.parametrize(
    ("emptier", "fuller"),
    [
        (response("completed"), with_text("a")),
        (response("completed", output=None), with_text("")),
        (response("completed", output=[]), response("completed", output=[CALL])),
        (with_text(""), with_text("a")),
        (with_text("a part"), with_text("a part and the rest")),
        (response("completed", output=[{"type": "message"}]), response("x", output=REFUSED)),
        (with_text("a longer text"), response("completed", output=[CALL, CALL])),
    ],
)
def test_emptier(emptier: dict[str, Any], fuller: dict[str, Any]) -> None:
    """A payload with fewer output items or less text is emptier; an equal one is not."""
    assert Payload.of(emptier).is_emptier_than(Payload.of(fuller))
    for one in (emptier, fuller):
        assert not Payload.of(one).is_emptier_than(Payload.of(one))


@pytest.mark.parametrize("output", [7, "x", {}, [7, None], [{"content": 7}]])
def test_odd_output_is_not_fuller(output: Any) -> None:
    """An output that the API would not send counts at most as items without text."""
    odd = Payload.of(response("completed", output=output))
    assert not with_answer().is_emptier_than(odd)
    assert odd.is_emptier_than(with_answer())


def with_answer() -> Payload:
    """A response with a text."""
    return Payload.of(with_text("ok"))
