"""The usage and the cost of several jobs together."""

from __future__ import annotations

from typing import Any

_NUMBER_MAX = 1e15
"""Larger numbers in a `usage` are a server's mistake, and left out: no sum can overflow."""

_DIGITS = 9
"""Decimal places of a sum of costs, so that it doesn't end in a binary fraction."""


class Totals:
    """Sums of what is known: `usage` and `cost_usd` are None until something is."""

    def __init__(self) -> None:
        self.usage: dict[str, Any] | None = None
        self.cost_usd: float | None = None
        self.priced = 0
        """The number of jobs whose cost is known."""

    def add(self, usage: dict[str, Any] | None, cost_usd: float | None, *, priced: int = 1) -> None:
        """Add a job's usage, as the API sent it, and its cost; or those of `priced` jobs."""
        if usage is not None:
            self.usage = _sum(self.usage or {}, usage)
        if cost_usd is not None:
            self.cost_usd = round((self.cost_usd or 0.0) + cost_usd, _DIGITS)
            self.priced += priced

    def include(self, other: Totals) -> None:
        """Add other totals."""
        self.add(other.usage, other.cost_usd, priced=other.priced)


def _sum(sums: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return the sums of the numbers of two objects, at every level; other values are left out."""
    for key, value in more.items():
        before = sums.get(key)
        if isinstance(value, dict):
            sums[key] = _sum(before if isinstance(before, dict) else {}, value)
        elif type(value) in (int, float) and abs(value) <= _NUMBER_MAX:
            sums[key] = value + (before if isinstance(before, int | float) else 0)
    return sums
