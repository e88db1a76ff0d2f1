"""The command that continues, in a line that says what it does."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from oaibg.contract import events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SKIPPED = "--starting-after"
"""An option with a value that people don't need: without it, they see the whole answer."""

_COST_LIMIT = "--max-cost-usd"

LIMITS = ("cost_limit", "price_unknown")
"""The codes of warnings that a run can't continue with its cost limit."""

_API_IDS = ("resp_", "batch_")


def next_line(
    event: events.Event,
    argv: Sequence[str],
    names: Mapping[str, str],
    *,
    several: bool,
    limit: str | None = None,
) -> str:
    """Return what the command does, and the command with `names` in place of IDs.

    The names come before the options, as people write them. `limit` is which of `LIMITS` makes the
    command fail unless its cost limit is changed.
    """
    verb = next((word for word in argv if word in ("monitor", "submit", "cancel", "show")), None)
    match verb:
        case "monitor":
            is_first = isinstance(event, events.Detached | events.Response)
            does = "Wait for it" if is_first else "Wait for it again"
            does = "Wait for the jobs" if several else does
        case "submit":
            does = "Continue the run"
        case "cancel":
            does = "Cancel the other jobs"
        case "show":
            does = "Save it again"
        case _:
            return f"Next: {shlex.join(argv)}"
    words = list(argv)
    if limit is not None and _COST_LIMIT in words:
        at = words.index(_COST_LIMIT)
        if limit == "cost_limit":
            does, words[at + 1] = f"To continue, raise {_COST_LIMIT}", "N"
        else:
            does = "To continue without a cost limit"
            del words[at : at + 2]
    if _SKIPPED in words:
        at = words.index(_SKIPPED)
        del words[at : at + 2]
    if "--" not in words:
        after = words.index(verb) + 1
        words[after:] = [
            *(names[word] for word in words[after:] if word in names),
            *(word for word in words[after:] if word not in names),
        ]
    return f"{does}: {shlex.join(words)}"


def name_of(response_id: str, key: str | None) -> str:
    """Return the key that a command may use in place of an ID; else the ID."""
    if key is None or not key.isprintable() or key.startswith((*_API_IDS, "-")):
        return response_id
    return key
