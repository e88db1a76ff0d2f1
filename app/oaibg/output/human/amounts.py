"""Numbers and times in words."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from math import floor, log10
from typing import Any

from oaibg.base.json_text import value_at


def duration(seconds: float) -> str:
    """Format seconds as `1.2 s`, `12 s`, `3 min 05 s` or `2 h 03 min`."""
    return f"{seconds:.1f} s" if seconds < 10 else clock(seconds)


def clock(seconds: float) -> str:
    """Format whole seconds, for displays that count: `2 s`, `3 min 05 s` or `2 h 03 min`."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(count: int) -> str:
    """Format a size as `812 bytes`, `12.3 KB` or `4.0 MB`."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def local_time(moment: Any) -> str:
    """Format ISO 8601 or Unix seconds as local date and minute; empty for other values."""
    with suppress(ValueError, TypeError, OverflowError, OSError):
        is_iso = isinstance(moment, str)
        then = datetime.fromisoformat(moment) if is_iso else datetime.fromtimestamp(moment, UTC)
        return then.astimezone().strftime("%Y-%m-%d %H:%M")
    return ""


def number_at(data: object, *path: str) -> int | None:
    """Return a whole number at a path of keys; None if there is none."""
    value = value_at(data, *path)
    return value if type(value) is int else None


def tokens(usage: object) -> str:
    """Format the total of a usage as `1,234 tokens`; empty if it is unknown."""
    total = number_at(usage, "total_tokens")
    return "" if total is None else f"{total:,} tokens"


def cost(usd: float | None) -> str:
    """Format an estimate as `about $1.23` or `about $0.0012`; empty if it is unknown."""
    return "" if usd is None else f"about {dollars(usd)}"


def dollars(usd: float) -> str:
    """Format US dollars with cents; small amounts with two digits that are not zero."""
    digits = 2 if usd >= 1 or usd <= 0 else max(1 - floor(log10(usd)), 2)
    return f"${usd:,.{digits}f}"


def ago(moment: Any, now: float) -> str:
    """Format the time since ISO 8601 as `5 min ago`; returns other values as they are."""
    try:
        passed = max(now - datetime.fromisoformat(moment).timestamp(), 0)
    except (ValueError, TypeError, OverflowError, OSError):
        return str(moment)
    for unit, seconds, most in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 172_800)):
        if passed < most:
            return f"{passed // seconds:.0f} {unit} ago"
    return f"{passed // 86_400:.0f} days ago"


def rate(per_minute: float | None) -> str:
    """Format a rate as `41 a minute` or `12 an hour`; empty if it is unknown."""
    if per_minute is None:
        return ""
    return f"{per_minute:,.0f} a minute" if per_minute >= 1 else f"{per_minute * 60:.0f} an hour"


def time_left(seconds: float | None) -> str:
    """Format an estimate as `about 36 minutes left`; empty if it is unknown."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes >= 90:
        return f"about {clock(minutes * 60)} left"
    whole = max(round(seconds), 1)
    number, unit = (minutes, "minute") if whole >= 60 else (whole, "second")
    return f"about {number} {unit}{'' if number == 1 else 's'} left"
