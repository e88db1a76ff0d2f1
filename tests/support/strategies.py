"""What the property tests share: Hypothesis settings, texts, response IDs and HTTP dates."""

from __future__ import annotations

import time
from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

slow = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])
shared = partial(
    settings,
    deadline=None,
    # Examples may share a function-scoped fixture: `run` starts anew with every call.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

ANY_TEXT = st.text(st.characters(codec=None), max_size=12)
"""Including control characters, NUL and lone surrogates."""

UTF8_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=.:+~"


def is_plain_id(text: str) -> bool:
    """Return whether the contract allows a response ID: 1 to 1,024 characters, not only dots."""
    fits = 1 <= len(text) <= 1024 and all(char in ID_CHARACTERS for char in text)
    return fits and any(char != "." for char in text)


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_dates(instant: int) -> list[str]:
    """Format a time as the three kinds of HTTP dates: IMF-fixdate, RFC 850 and asctime."""
    when = time.gmtime(instant)
    day, month = DAYS[when.tm_wday], MONTHS[when.tm_mon - 1]
    clock = f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}"
    return [
        f"{day[:3]}, {when.tm_mday:02} {month} {when.tm_year} {clock} GMT",
        f"{day}, {when.tm_mday:02}-{month}-{when.tm_year % 100:02} {clock} GMT",
        f"{day[:3]} {month} {when.tm_mday:2} {clock} {when.tm_year}",
    ]


def imf_fixdate(offset: float) -> str:
    """Format the date `offset` seconds after the fake clock's start, as most servers write it."""
    return http_dates(START + int(offset))[0]


START = 1_700_001_000
"""Unix time at the fake clock's start."""
