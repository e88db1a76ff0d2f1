"""The keys and IDs in the local state, read fast and silently; also for shell completion."""

from __future__ import annotations

from oaibg.cli import environment
from oaibg.contract.errors import OaibgError

_OFFERED = 100
"""Maximum number of names that are offered."""


def names(incomplete: str) -> list[str]:
    """Return the keys and IDs that begin with a text, newest first."""
    return _offered(incomplete, keys_only=False)


def keys(incomplete: str) -> list[str]:
    """Return the keys that begin with a text, newest first."""
    return _offered(incomplete, keys_only=True)


def known(*, keys_only: bool = False) -> list[str]:
    """Return the keys and IDs in the local state, newest first; none if it can't be read."""
    from oaibg.state.known_names import known_names

    try:
        base_url = environment.without_credentials(environment.base_url())
        return known_names(environment.state_folder(), base_url, keys_only=keys_only)
    except (OaibgError, OSError):
        return []


def _offered(incomplete: str, *, keys_only: bool) -> list[str]:
    found = known(keys_only=keys_only)
    return [name for name in found if name.startswith(incomplete)][:_OFFERED]
