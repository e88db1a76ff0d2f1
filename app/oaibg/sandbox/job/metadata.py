"""The entries of a request's `metadata` that choose what its job does.

- `sandbox_seconds`: how long it takes in all, such as "0.5"
- `sandbox_outcome`: completed, failed, incomplete, cancelled, expired, or stuck (never ends)
- `sandbox_text`: the exact output text
- `sandbox_bytes`: an output text of that many bytes
- `sandbox_empty`: any value but "false": it completes without an output text
- `sandbox_tools`: how often it searches the web before it answers, such as "3" (default: never)

All functions raise `FieldError` if an entry makes no sense.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from oaibg.sandbox.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OUTCOMES = ("completed", "failed", "incomplete", "cancelled", "expired", "stuck")
_MOST_BYTES = 1_000_000_000
_MOST_SEARCHES = 1000
_FILLER = "The sandbox repeats this line until the text is as long as was asked.\n"


def outcome_in(metadata: Mapping[str, str]) -> str:
    """Return how the job ends."""
    outcome = metadata.get("sandbox_outcome", "completed")
    if outcome not in _OUTCOMES:
        raise bad_entry(f"sandbox_outcome must be one of {', '.join(_OUTCOMES)}")
    return outcome


def seconds_in(metadata: Mapping[str, str], default: float) -> float:
    """Return how long the job or the batch takes."""
    return _number(metadata, "sandbox_seconds", math.inf, default)


def text_in(metadata: Mapping[str, str]) -> str | None:
    """Return the output text that is asked for; None if none is."""
    if "sandbox_bytes" in metadata:
        size = int(_number(metadata, "sandbox_bytes", _MOST_BYTES, 0))
        return (_FILLER * (size // len(_FILLER) + 1))[:size]
    return metadata.get("sandbox_text")


def searches_in(metadata: Mapping[str, str]) -> int:
    """Return how many web searches come before the answer."""
    value = metadata.get("sandbox_tools", "0")
    digits = value.isascii() and value.isdigit() and len(value) < 16
    if not (digits and int(value) <= _MOST_SEARCHES):
        raise bad_entry(f"sandbox_tools must be a whole number, 0 to {_MOST_SEARCHES}")
    return int(value)


def bad_entry(message: str) -> FieldError:
    """Return the error for an entry that makes no sense."""
    return FieldError(message, "metadata", "invalid_value")


def _number(metadata: Mapping[str, str], name: str, highest: float, default: float) -> float:
    if name not in metadata:
        return default
    try:
        number = float(metadata[name])
    except ValueError:
        number = math.nan
    if not (0 <= number <= highest and number < math.inf):
        raise bad_entry(f"{name} must be a number, 0 or more")
    return number
