"""The `metadata` entries that choose what a job or a batch does.

The functions that read an entry raise `FieldError` if its value is invalid.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from oaibg.sandbox.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("completed", "failed", "incomplete", "cancelled", "expired", "stuck")

OUTCOMES: Mapping[str, str] = {
    "completed": "an answer",
    "failed": "the status `failed` with an error",
    "incomplete": "the status `incomplete` with the first half of the answer",
    "cancelled": "the status `cancelled`",
    "expired": "the status `expired`",
    "stuck": "nothing: it never ends",
    "function_call": "a call of the first function in `tools` (default: `get_weather`), without "
    "an answer",
    "custom_tool_call": "a call of the first custom tool in `tools` (default: `run_code`), without "
    "an answer",
    "approval": "a request to approve a tool of the first MCP server in `tools` (default: "
    "`files`), without an answer",
    "refusal": "a message in which the model refuses",
    "image": "a generated PNG image, without an answer",
    "commentary": "a message with the phase `commentary`, then the answer, a `final_answer`",
    "summary": "a summary of the reasoning, then the answer",
    "file": "code that writes `chart.csv` in a container, then an answer that cites the file",
}
"""How a job can end; all outcomes but those in `STATUSES` end with the status `completed`."""

ENTRIES: Mapping[str, str] = {
    "sandbox_seconds": 'the duration of the job or batch in seconds, such as "0.5"; for a line of '
    "a batch, counted from the create of the batch",
    "sandbox_outcome": "how the job ends: one of the outcomes (default: completed); for a batch, "
    "only failed is allowed (at the limit of enqueued tokens)",
    "sandbox_failures": "the number of jobs with this request that fail before the others, such as "
    '"1" (default: 0); not for lines of a batch',
    "sandbox_text": "the output text",
    "sandbox_bytes": "the size of the output text in bytes, in place of `sandbox_text`",
    "sandbox_empty": 'any value except "false": the job has no output text',
    "sandbox_tools": 'the number of web searches before the answer, such as "3" (default: 0)',
    "sandbox_container": '"expired": the container of the outcome `file` expires at once, not '
    "20 minutes after its last use",
    "sandbox_status": "for a line of a batch: the HTTP status of an error that replaces its "
    'response, such as "500"',
}
"""The entries and what each means, for responses, batches and the lines of batches."""

_MOST_BYTES = 1_000_000_000
_MOST = 1000
_FILLER = "The sandbox repeats this line until the text has the requested size.\n"


def outcome_in(metadata: Mapping[str, str]) -> str:
    """Return how the job ends."""
    outcome = metadata.get("sandbox_outcome", "completed")
    if outcome not in OUTCOMES:
        raise bad_entry(f"sandbox_outcome must be one of {', '.join(OUTCOMES)}")
    return outcome


def seconds_in(metadata: Mapping[str, str], default: float) -> float:
    """Return the duration of the job or the batch."""
    return _number(metadata, "sandbox_seconds", math.inf, default)


def text_in(metadata: Mapping[str, str]) -> str | None:
    """Return the output text that the metadata sets; None if it sets none."""
    if "sandbox_bytes" in metadata:
        size = int(_number(metadata, "sandbox_bytes", _MOST_BYTES, 0))
        return (_FILLER * (size // len(_FILLER) + 1))[:size]
    return metadata.get("sandbox_text")


def searches_in(metadata: Mapping[str, str]) -> int:
    """Return the number of web searches before the answer."""
    return _whole_number(metadata, "sandbox_tools")


def failures_in(metadata: Mapping[str, str]) -> int:
    """Return the number of jobs with this request that fail before the others."""
    return _whole_number(metadata, "sandbox_failures")


def container_expired_in(metadata: Mapping[str, str]) -> bool:
    """Return whether the container of the job expires at once."""
    if metadata.get("sandbox_container", "expired") != "expired":
        raise bad_entry("sandbox_container can only be expired")
    return "sandbox_container" in metadata


def bad_entry(message: str) -> FieldError:
    """Return the error for an invalid entry."""
    return FieldError(message, "metadata", "invalid_value")


def _whole_number(metadata: Mapping[str, str], name: str) -> int:
    value = metadata.get(name, "0")
    digits = value.isascii() and value.isdigit() and len(value) < 16
    if not (digits and int(value) <= _MOST):
        raise bad_entry(f"{name} must be a whole number from 0 to {_MOST}")
    return int(value)


def _number(metadata: Mapping[str, str], name: str, highest: float, default: float) -> float:
    if name not in metadata:
        return default
    try:
        number = float(metadata[name])
    except ValueError:
        number = math.nan
    if not (0 <= number <= highest and number < math.inf):
        limits = "of at least 0" if highest == math.inf else f"from 0 to {highest}"
        raise bad_entry(f"{name} must be a number {limits}")
    return number
