"""The values that shell completion offers: the keys and IDs in the local state, and statuses.

It is fast, and silent if the local state can't be read.
"""

from __future__ import annotations

from oaibg.cli import environment
from oaibg.contract.errors import OaibgError

_OFFERED = 100
"""Maximum number of names that are offered."""

_STATUSES = (
    *("queued", "in_progress", "completed", "needs_action", "failed", "incomplete", "cancelled"),
    *("expired", "not_submitted", "outcome_unknown"),
)
"""The statuses that `show --list` can have."""


def names(incomplete: str) -> list[str]:
    """Return the keys and IDs that begin with a text, newest first."""
    return _known(incomplete, keys_only=False)


def keys(incomplete: str) -> list[str]:
    """Return the keys that begin with a text, newest first."""
    return _known(incomplete, keys_only=True)


def statuses(incomplete: str) -> list[str]:
    """Return the statuses that begin with a text."""
    return [status for status in _STATUSES if status.startswith(incomplete)]


def _known(incomplete: str, *, keys_only: bool) -> list[str]:
    from oaibg.state.known_names import known_names

    try:
        base_url = environment.without_credentials(environment.base_url())
        found = known_names(environment.state_folder(), base_url, keys_only=keys_only)
    except (OaibgError, OSError):
        return []
    return [name for name in found if name.startswith(incomplete)][:_OFFERED]
