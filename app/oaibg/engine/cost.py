"""Estimates what a job costs, from the price list of the extra `cost` (the package genai-prices).

The price list is imported when the first cost is needed. It is the one that was installed: its
package could download newer prices, but nothing here asks it to.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from oaibg.state.rows import BATCH_WINDOW

if TYPE_CHECKING:
    from types import ModuleType

_WINDOWS = {"2h": 0.7, "8h": 0.6}
"""The part of the standard price that jobs with these completion windows cost."""

_OPEN_WEIGHTS = "gpt-oss"
"""The models that anyone can run: OpenAI's API does not have them, so it has no price for them."""

_COST_MAX = 1e12
"""Higher costs come from a server's mistake. They are unknown, and can't spoil a sum."""


def cost_of(
    usage: dict[str, Any] | None,
    model: str | None,
    service_tier: str | None,
    completion_window: str | None,
) -> float | None:
    """Return the estimated cost in US dollars, by OpenAI's list price; None if it is unknown.

    The base URL does not matter: gateways pass jobs on to OpenAI. A model must have exactly the
    name that it has at OpenAI. Calls of tools that have a price of their own are not included.
    """
    if usage is None or model is None or model.startswith(_OPEN_WEIGHTS):
        return None
    prices = _price_list()
    if prices is None:
        return None
    try:
        used = prices.extract_usage({"usage": usage}, provider_id="openai", api_flavor="responses")
        price = prices.calc_price(
            used.usage,
            model,
            provider_id="openai",
            price_context=_rates(service_tier, completion_window),
        )
        cost = float(price.total_price) * _WINDOWS.get(completion_window or "", 1.0)
    except Exception:  # noqa: BLE001 - an estimate must not end a run that has been paid for
        return None
    return round(cost, 9) if cost < _COST_MAX else None


def is_priced(model: str | None) -> bool:
    """Whether the price of a model is known."""
    return cost_of({"input_tokens": 0, "output_tokens": 0}, model, None, None) is not None


def has_prices() -> bool:
    """Whether the extra `cost` is installed."""
    return _price_list() is not None


def _rates(service_tier: str | None, completion_window: str | None) -> dict[str, str]:
    """Return what selects the rates in the price list; it ignores tiers that it doesn't know."""
    if completion_window == BATCH_WINDOW:
        return {"processing": "batch"}
    return {} if service_tier is None else {"service_tier": service_tier}


@cache
def _price_list() -> ModuleType | None:
    """Import the price list; None if it is not installed."""
    try:
        import genai_prices
    except ImportError:
        return None
    return genai_prices
