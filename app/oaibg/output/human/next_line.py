"""The command that continues, in a line that says what it does."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from oaibg.contract import events

if TYPE_CHECKING:
    from collections.abc import Sequence

_SKIPPED = "--starting-after"
"""An option with a value that people don't need: without it, they see the whole answer."""

_API_IDS = ("resp_", "batch_")


def next_line(event: events.Event, argv: Sequence[str], key: str | None, *, several: bool) -> str:
    """Return what the command does, and the command; with the job's key, if it stands for its ID.

    Names come before the options, as people write them.
    """
    verb = next((word for word in argv if word in ("monitor", "submit", "cancel", "show")), None)
    match verb:
        case "monitor":
            them = "them" if several else "it"
            is_first = isinstance(event, events.Detached | events.Response)
            does = f"Wait for {them}" if is_first else f"Wait for {them} again"
        case "submit":
            does = "Continue the run"
        case "cancel":
            does = "Cancel the other jobs"
        case "show":
            does = "Save it again"
        case _:
            return f"Next: {shlex.join(argv)}"
    words = list(argv)
    if words[-1] == event.response_id and "--" not in words:
        words.insert(words.index(verb) + 1, named(str(words.pop()), key))
    if _SKIPPED in words:
        at = words.index(_SKIPPED)
        del words[at : at + 2]
    return f"{does}: {shlex.join(words)}"


def named(response_id: str, key: str | None) -> str:
    """Return the key that a command may use in place of an ID; else the ID."""
    if key is None or not key.isprintable() or key.startswith((*_API_IDS, "-")):
        return response_id
    return key
