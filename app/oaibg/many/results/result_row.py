"""The row of a job in a results table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from oaibg.api.answer import APPROVAL
from oaibg.base.json_text import value_at
from oaibg.base.text import utf8
from oaibg.contract.events import Error
from oaibg.contract.run_status import run_status
from oaibg.engine.recap import NEEDS_ACTION

if TYPE_CHECKING:
    from oaibg.api.answer import Answer, Call
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.recap import Recap
    from oaibg.many.results.result_line import Ending

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""The start of a text that a spreadsheet takes for a formula, or that was guarded against that."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


class ResultRow(NamedTuple):
    """The cells of a job that oaibg adds to a table; the fields are the names of the columns.

    `status` is that under which the run counts the job.
    """

    custom_id: str
    status: str
    output_text: str | None = None
    response_id: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    error: str | None = None
    """Why there is no answer, or what the job waits for, in words."""

    @classmethod
    def of_result(cls, custom_id: str, ending: Ending, completion_window: str | None) -> Self:
        """Return the row of a job that has ended."""
        payload, recap = ending.payload, ending.recap
        return cls(
            custom_id,
            recap.status,
            output_text=None if payload is None else payload.text,
            response_id=None if payload is None else payload.id,
            model=recap.model,
            input_tokens=_whole(value_at(recap.usage, "input_tokens")),
            output_tokens=_whole(value_at(recap.usage, "output_tokens")),
            cost_usd=recap.cost_usd(completion_window),
            error=_reason(payload, recap),
        )

    @classmethod
    def of_event(cls, custom_id: str, event: Event) -> Self:
        """Return the row of a job without a result, by the event that ended it in this run."""
        error = event.message if isinstance(event, Error) else None
        return cls(custom_id, run_status(event), response_id=event.response_id, error=error)


def safe(text: str) -> str:
    """Return a text that is safe in a cell: no spreadsheet runs it, and UTF-8 can encode it.

    A text that looks like a formula begins with an additional `'`. Numbers are unchanged.
    """
    text = utf8(text).decode().replace("\0", "\ufffd")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _reason(payload: Payload | None, recap: Recap) -> str | None:
    if payload is not None and recap.status == NEEDS_ACTION:
        return _awaited(payload.answer) or "the answer has no text"
    return recap.message or recap.code


def _awaited(answer: Answer) -> str:
    """Return the model's refusal, and the calls that wait for the user."""
    refused = [] if answer.refusal is None else [f"the model refused: {answer.refusal}"]
    return "; ".join([*refused, *map(_call, answer.calls)])


def _call(call: Call) -> str:
    what = "approval" if call.type == APPROVAL else "the result"
    number = "" if call.id is None else f" ({call.id})"
    return f"waiting for {what} of {call.name or call.type}{number}"


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None
