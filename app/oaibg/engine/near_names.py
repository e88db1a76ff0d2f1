"""Suggests what a user may have meant by a name that the local state does not know."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oaibg.state.database import StateError

if TYPE_CHECKING:
    from oaibg.state.store import Store

LIST_HINT = "`oaibg show --list` lists the jobs and runs of the local state."

_ALIKE = 0.75
"""How similar a name must be, from 0 to 1, as `difflib` measures it."""


def suggestion(name: str, store: Store, base_url: str) -> str:
    """Return a sentence with the name that was probably meant; empty if there is none."""
    try:
        labelled = store.with_label(base_url, name)
        names = store.names(base_url)
    except StateError:
        return ""
    if labelled is not None:
        return f"That is the label of {labelled}."
    near = _nearest(name, names)
    return "" if near is None else f"Did you mean {near}?"


def resembles_key(name: str, store: Store, base_url: str) -> bool:
    """Whether a name is like a key or a label; a server's IDs may all be like each other."""
    try:
        keys = store.names(base_url, "none")
        return store.with_label(base_url, name) is not None or _nearest(name, keys) is not None
    except StateError:
        return False


def hint_for_unknown(suggestion: str, otherwise: str) -> str:
    """Return the hint for an unknown name: the suggestion, or if it is empty, the other text."""
    return f"{suggestion} {LIST_HINT}" if suggestion else otherwise


def _nearest(name: str, names: list[str]) -> str | None:
    """Return the name that begins with a text or is most similar to it, apart from its case.

    The path of a run's file is also found by its last part.
    """
    from difflib import get_close_matches

    known: dict[str, str] = {}
    for one in names:
        for form in (one, os.path.basename(one)):  # noqa: PTH119
            known.setdefault(form.lower(), one)
    text = name.lower()
    longer = next((form for form in known if len(text) > 2 and form.startswith(text)), None)
    found = [longer] if longer else get_close_matches(text, known, n=1, cutoff=_ALIKE)
    return known[found[0]] if found else None
