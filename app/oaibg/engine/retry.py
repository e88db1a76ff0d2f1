"""When to ask again. Pure functions: no clock, no network."""

from __future__ import annotations

BLOCKED_AFTER = 60.0
"""Seconds from the process's start without any successful answer, after which the network counts
as blocked: an agent must not hang on it."""

BUSY_PATIENCE = 600.0
"""Seconds that a submit goes on trying while the API says that it is too busy to accept it."""

NOT_FOUND_COUNT, NOT_FOUND_SECONDS = 3, 15.0
"""A retrieve soon after the create may answer 404 for a moment, and gateways answer bare 404s now
and then: this many in a row, over at least this long, before it is believed."""

REQUEST_TIMEOUT, REQUEST_TIMEOUT_MAX = 30.0, 600.0
CREATE_TIMEOUT = 120.0

REPLY_GRACE = 5.0
"""Seconds that a create's reply is waited for after a signal or a deadline, so that a paid id is
not thrown away."""

LEAST_LOOK = 1.0
"""Seconds that a look takes at least, also where the wait was over before it began."""

_LEAST_TIMEOUT = 5.0

_BACKOFF_MAX = 60.0
_RETRY_AFTER_MAX = 600.0


def retry_after(header: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3).

    Args:
        header: seconds, or an HTTP date in any of its three forms (which all are in UTC); anything
            else counts as absent.
        now: Unix time in seconds.

    Returns:
        More than 0 and at most ten minutes; None where it asks for nothing.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = float(text) if text[:1].isdecimal() else _http_date(text) - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(seconds, _RETRY_AFTER_MAX) if seconds > 0 else None


def _http_date(text: str) -> float:
    """Unix seconds."""
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    date = parsedate_to_datetime(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def poll_delay(
    interval: float, consecutive: int, asked: float | None = None, jitter: float = 0.5
) -> float:
    """Seconds until the next poll.

    Args:
        interval: the poll interval.
        consecutive: failed polls in a row; 0 after a success, which gives the plain interval.
        asked: what the server asked for with `Retry-After`.
        jitter: a random number in [0, 1).
    """
    if not consecutive:
        return interval
    cap = max(interval, _BACKOFF_MAX)
    grown = min(interval * 2.0 ** min(consecutive - 1, 30), cap)
    return max(grown * (0.75 + jitter / 2), asked or 0.0)


def create_delay(attempt: int, asked: float | None = None, jitter: float = 0.5) -> float:
    """Seconds until the next try of a create that certainly created nothing."""
    grown = min(2.0 ** (attempt - 1), 30.0)
    return max(grown * (0.75 + jitter / 2), asked or 0.0)


def request_timeout(cut_short: int, remaining: float) -> float:
    """Seconds that one retrieve may take in all.

    Args:
        cut_short: answers in a row that had begun when their time was over: a large result on a
            slow line needs more with each try.
        remaining: seconds to the deadline; of more than 5 s, a request that hangs leaves some for
            another one.
    """
    grown = min(REQUEST_TIMEOUT * 2.0 ** min(cut_short, 10), REQUEST_TIMEOUT_MAX)
    return max(min(grown, remaining, max(remaining / 2, _LEAST_TIMEOUT)), 0.01)
