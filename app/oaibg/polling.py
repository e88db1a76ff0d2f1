"""When to ask again, and what a failed call means. Pure functions: no clock, no network."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

from oaibg.errors import ApiRefused, AuthRefused, OaibgError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from oaibg.errors import CallFailed, Outcome

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

_BACKOFF_MAX = 60.0
_RETRY_AFTER_MAX = 600.0

SPENT = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
"""Codes of a 429 that no waiting mends."""


class CreateVerdict(Enum):
    """What a failed create means."""

    UNREACHABLE = auto()  # certainly not sent: try again
    BUSY = auto()  # certainly not created, the API asks to wait: try again
    REFUSED = auto()  # certainly not created, and another try would be refused too
    BLOCKED = auto()  # certainly not created: something before the API refused
    AUTH = auto()
    UNKNOWN = auto()  # it may have been created: never send it again


def judge_create(failure: CallFailed) -> CreateVerdict:
    """What is known of a job whose create failed.

    Only what the API itself, or nobody, has answered counts as certain. A 5xx other than the
    documented overload may come from a gateway whose upstream took the request.
    """
    status = failure.http_status
    if not failure.sent:
        return CreateVerdict.UNREACHABLE
    if status is None or status < 300 or status == 408:
        return CreateVerdict.UNKNOWN
    if status == 429:
        return CreateVerdict.REFUSED if failure.code in SPENT else CreateVerdict.BUSY
    if status == 503 and failure.code == "server_is_overloaded":
        return CreateVerdict.BUSY
    if status >= 500:
        return CreateVerdict.UNKNOWN
    if is_auth(failure):
        return CreateVerdict.AUTH
    return CreateVerdict.BLOCKED if status in (403, 407) else CreateVerdict.REFUSED


def is_auth(failure: CallFailed) -> bool:
    """Whether the API refused the key. A 403 without its envelope is a proxy's."""
    return failure.http_status == 401 or (failure.http_status == 403 and failure.envelope)


def create_error(failure: CallFailed) -> OaibgError:
    """The error that ends a submit whose create failed this way and is not tried again."""
    match judge_create(failure):
        case CreateVerdict.UNKNOWN:
            return OutcomeUnknown(
                f"The request was sent, but its answer was lost ({failure.message}). "
                "The job may be running and may be billed.",
                hint="Do not blindly submit again: that may pay twice. "
                "With --job-key, --resubmit-unknown decides for another submit.",
                outcome="unknown",
                http_status=failure.http_status,
                request_id=failure.request_id,
            )
        case CreateVerdict.AUTH:
            return auth_error(failure, outcome="not_created")
        case CreateVerdict.REFUSED:
            return ApiRefused(
                failure.message,
                code=failure.code,
                hint=_refusal_hint(failure),
                outcome="not_created",
                http_status=failure.http_status,
                request_id=failure.request_id,
            )
        case _:
            return Unavailable(
                f"The API could not take the request: {failure.message}",
                hint=UNREACHABLE_HINT,
                outcome="not_created",
                http_status=failure.http_status,
                request_id=failure.request_id,
            )


UNREACHABLE_HINT = (
    "Is outbound HTTPS to the API's host allowed here? Check OPENAI_BASE_URL and the proxy "
    "variables; in a sandbox, ask for network access."
)


def auth_error(
    failure: CallFailed, *, outcome: Outcome | None = None, resumable: bool = False
) -> AuthRefused:
    """The error for a refused key."""
    return AuthRefused(
        f"The API refused the key: {failure.message}",
        code=failure.code,
        http_status=failure.http_status,
        request_id=failure.request_id,
        hint="Check OPENAI_API_KEY, and OPENAI_ORG_ID and OPENAI_PROJECT_ID where they are set.",
        outcome=outcome,
        resumable=resumable,
    )


def is_passing(failure: CallFailed) -> bool:
    """Whether the same call may well be answered in a moment."""
    status = failure.http_status
    if status is None or status < 300 or status in (408, 429):
        return True
    return status >= 500 and status != 501


def _refusal_hint(failure: CallFailed) -> str | None:
    if failure.code in SPENT:
        return "Waiting does not help: add credit or raise the limit in the account's billing."
    if failure.code == "model_not_found":
        return "Name a model that this key may use with --model (or OAIBG_MODEL)."
    if failure.http_status in (404, 405) and not failure.envelope:
        return "Does OPENAI_BASE_URL name a Responses API? It usually ends in /v1."
    if failure.http_status is not None and 300 <= failure.http_status < 400:
        return "The server redirects; set OPENAI_BASE_URL to the address it redirects to."
    return None


def retry_after(header: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3).

    Args:
        header: seconds, or an HTTP date; anything else counts as absent.
        now: Unix time in seconds.

    Returns:
        At least 0 and at most ten minutes; None where it asks for nothing.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = (
            float(text) if text[:1].isdigit() else parsedate_to_datetime(text).timestamp() - now
        )
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(seconds, _RETRY_AFTER_MAX) if seconds > 0 else None


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


def request_timeout(consecutive_timeouts: int, remaining: float) -> float:
    """Seconds that one retrieve may take in all: more after each timeout, never past the end."""
    grown = min(REQUEST_TIMEOUT * 2.0 ** min(consecutive_timeouts, 10), REQUEST_TIMEOUT_MAX)
    return max(min(grown, remaining), 0.01)
