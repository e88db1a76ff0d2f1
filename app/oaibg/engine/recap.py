"""What lists, totals and tables show of a job that has ended; the local state keeps it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oaibg.api.answer import TEXT_ITEMS
from oaibg.base.record import Record
from oaibg.contract.errors import ExitCode
from oaibg.contract.run_events import Unsuccessful
from oaibg.engine.cost import cost_of

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Final
    from oaibg.state.rows import Row

NEEDS_ACTION, REFUSED = "needs_action", "refused"
"""The statuses of completed jobs that exit with 10, and of jobs that the API did not create."""


class Recap(Record):
    """The end of a job, without its output."""

    status: str
    """The status under which a run counts the job."""
    model: str | None = None
    service_tier: str | None = None
    usage: dict[str, Any] | None = None
    """The API's `usage` object."""
    job_seconds: float | None = None
    code: str | None = None
    """Why the job did not succeed: the code, and the message if there is one."""
    message: str | None = None
    cost: float | None = None
    """The estimate that was made when the job ended, in US dollars; None if none was made."""

    @classmethod
    def of(cls, payload: Payload, code: ExitCode) -> Recap:
        """Return the recap of a job that ended with an exit code."""
        reason = _reason(
            payload.object("error"), payload.object("incomplete_details"), payload.answer.refusal
        )
        needs_action = code == ExitCode.NEEDS_ACTION
        if needs_action and reason == (None, None):
            reason = payload.answer.missing, None
        return cls(
            status=NEEDS_ACTION if needs_action else str(payload.status),
            model=payload.model,
            service_tier=payload.service_tier,
            usage=payload.object("usage"),
            job_seconds=payload.seconds,
            code=reason[0],
            message=reason[1],
        )

    @classmethod
    def of_row(cls, row: Row) -> Recap | None:
        """Return the recap in a row of the local state; None if there is none."""
        try:
            return cls(**json.loads(row.recap)) if row.recap else None
        except (ValueError, TypeError):  # written by another version
            return None

    def unsuccessful(self, custom_id: str | None, response_id: str | None) -> Unsuccessful | None:
        """Return the job's entry in a summary's `unsuccessful`; None if it completed."""
        if self.status == "completed":
            return None
        return Unsuccessful(
            custom_id=custom_id,
            response_id=response_id,
            status=self.status,
            code=self.code,
            message=self.message,
        )

    def text(self) -> str:
        """Return the recap as the local state stores it."""
        return json.dumps({key: value for key, value in self.values().items() if value is not None})

    def cost_usd(self, completion_window: str | None = None) -> float | None:
        """Return the estimated cost in US dollars; None if it is unknown."""
        if self.cost is not None:
            return self.cost
        return cost_of(self.usage, self.model, self.service_tier, completion_window)


def had_completed(row: Row) -> bool:
    """Return whether a job completed, even if the API no longer has it now."""
    recap = Recap.of_row(row)
    return recap is not None and recap.status in ("completed", NEEDS_ACTION)


def reason_of(final: Final) -> tuple[str | None, str | None]:
    """Return the code and the message that say why a job did not succeed."""
    code, message = _reason(final.error, final.incomplete_details, final.refusal)
    if (code, message) != (None, None) or final.ok or final.status != "completed":
        return code, message
    if final.calls:
        return "tool_calls", None
    return ("not_text" if final.output_types.keys() - TEXT_ITEMS else "empty"), None


def _reason(
    error: dict[str, Any] | None, incomplete: dict[str, Any] | None, refusal: str | None
) -> tuple[str | None, str | None]:
    if error is not None:
        code, message = error.get("code"), error.get("message")
        return code and str(code), message and str(message)
    if incomplete is not None:
        reason = incomplete.get("reason")
        return reason and str(reason), None
    return (None, None) if refusal is None else ("refusal", refusal)
