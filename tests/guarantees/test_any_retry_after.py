"""Any `Retry-After` header: a wait of at most ten minutes, or the default."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import count
from oaibg.engine.patience import retry_after
from strategies import ANY_TEXT, http_dates, slow

if TYPE_CHECKING:
    from collections.abc import Iterator


ZONES = ("UTC0", "EST5EDT,M3.2.0,M11.1.0", "<+0545>-5:45", "<+14>-14", "<-11>11")


HEADER_TEXT = st.one_of(
    ANY_TEXT,
    st.text("0123456789.+-eE_ infaINFA\u0661", max_size=8),
    st.lists(
        st.sampled_from(["Sun,", "Sunday,", "Nov", "06", "6", "1994", "94", "0", "99999", "-1"])
        | st.sampled_from(["08:49:37", "24:61:61", "8.49", ":", "GMT", "+9999", "-0000", ",", "-"])
        | st.sampled_from(["06-Nov-94", "AM", "PM", "\0", "Z", "(", ")"]),
        max_size=8,
    ).map(" ".join),
)


@contextmanager
def time_zone(zone: str) -> Iterator[None]:
    """Set the time zone for a `with` block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


@slow(max_examples=500)
@given(header=HEADER_TEXT, now=st.floats(0, 4e9))
def test_any_retry_after(header: str, now: float) -> None:
    """Any header gives no delay, or one of at most ten minutes, and never an exception."""
    count("fuzzed")
    seconds = retry_after(header, now)
    assert seconds is None or 0 < seconds <= 600


@pytest.mark.parametrize(
    "header", ["1e309", "1e3", "9e99", "inf", "nan", "1_000", "0x10", "\u0661\u0662", "5 seconds"]
)
def test_numbers_that_are_no_seconds(header: str) -> None:
    """A number that is not written in plain digits counts as absent."""
    assert retry_after(header, 0.0) is None


@slow(max_examples=100)
@given(
    now=st.integers(978_307_200, 2_840_140_800),  # 2001 to 2059: RFC 850 dates have two-digit years
    wait=st.integers(1, 900) | st.integers(-10_000_000, 100_000_000),
    zone=st.sampled_from(ZONES),
)
def test_retry_after_in_all_forms(now: int, wait: int, zone: str) -> None:
    """Seconds and all kinds of dates give the same delay in every time zone."""
    count("fuzzed")
    wait = min(wait, 2_840_140_800 - now)
    with time_zone(zone):
        delays = [retry_after(text, now) for text in (str(wait), *http_dates(now + wait))]
    expected = min(wait, 600) if wait > 0 else None
    assert delays == [expected] * 4
