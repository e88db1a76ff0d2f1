"""The keys, IDs and models in the local state, read fast and silently; for shell completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.cli import environment
from oaibg.contract.errors import OaibgError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.state.known_names import Ids

_OFFERED = 100
"""Maximum number of names that are offered."""


def names(incomplete: str) -> list[str]:
    """Return the keys that begin with a text, then the IDs, each newest first.

    A job with a key is offered by its ID only once the ID has been begun.
    """
    from oaibg.api.payload import OWN_PREFIXES

    return _offered(incomplete, known("all" if incomplete.startswith(OWN_PREFIXES) else "unkeyed"))


def keys(incomplete: str) -> list[str]:
    """Return the keys that begin with a text, newest first."""
    return _offered(incomplete, known("none"))


def models(incomplete: str) -> list[str]:
    """Return the models of earlier jobs that begin with a text, newest first."""
    from oaibg.state.known_names import known_models

    return _offered(incomplete, _read(known_models))


def known(ids: Ids = "all") -> list[str]:
    """Return the keys, then the IDs, in the local state; none if it can't be read."""
    from oaibg.state.known_names import known_names

    return _read(lambda folder, base_url: known_names(folder, base_url, ids))


def _read(find: Callable[[str, str], list[str]]) -> list[str]:
    try:
        base_url = environment.without_credentials(environment.base_url())
        return find(environment.state_folder(), base_url)
    except (OaibgError, OSError):
        return []


def _offered(incomplete: str, found: list[str]) -> list[str]:
    return [name for name in found if name.startswith(incomplete)][:_OFFERED]
