"""What a failed call means: whether a job may exist, and what to report. Pure functions."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from oaibg.contract.errors import ApiRefused, AuthRefused, OaibgError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from oaibg.contract.errors import CallFailed, Outcome

SPENT = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
"""Codes of a 429 that waiting does not fix."""

OUT_OF_TURN = "busy"
"""The code of a request whose turn has not come, because the API has asked to slow down."""


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

    Only an unsent or a refused request certainly created nothing. A 5xx other than the documented
    overload may come from a gateway whose upstream accepted the request.
    """
    status = failure.http_status
    if not failure.sent:
        out_of_turn = failure.code == OUT_OF_TURN
        return CreateVerdict.BUSY if out_of_turn else CreateVerdict.UNREACHABLE
    if status is None or status < 300 or status in (303, 408):
        return CreateVerdict.UNKNOWN  # a 303 is how a server answers what it has accepted
    if is_busy(failure):
        return CreateVerdict.BUSY
    if status == 429:
        return CreateVerdict.REFUSED
    if status >= 500:
        return CreateVerdict.UNKNOWN
    if is_auth(failure):
        return CreateVerdict.AUTH
    return CreateVerdict.BLOCKED if status in (403, 407) else CreateVerdict.REFUSED


def is_busy(failure: CallFailed) -> bool:
    """Whether the API is too busy for now; the request had no effect."""
    if failure.http_status == 429:
        return failure.code not in SPENT
    return failure.http_status == 503 and failure.code == "server_is_overloaded"


def refuses_stream(failure: CallFailed) -> bool:
    """Whether a create was refused because it asked for a stream, so that nothing was created."""
    words = f"{failure.code} {failure.message}"
    return failure.http_status in (400, 404, 422, 501) and _SAYS_STREAM.search(words) is not None


_SAYS_STREAM = re.compile(r"(?<![a-z])stream", re.IGNORECASE)  # and not upstream


def is_auth(failure: CallFailed) -> bool:
    """Whether the API refused the key. A 403 without its envelope is a proxy's."""
    return failure.http_status == 401 or (failure.http_status == 403 and failure.envelope)


def is_missing(failure: CallFailed) -> bool:
    """Whether a server says that it has no such response; some say so with a 400.

    Of a 400 only words about a response count: a key or a deployment may be not found, too.
    """
    if failure.http_status == 400:
        return _SAYS_MISSING.search(f"{failure.code} {failure.message}") is not None
    return failure.http_status in (404, 410)


_SAYS_MISSING = re.compile(
    r"\bresponse.*(not.?found|n[o']t exist|unknown|expired)"
    r"|(no such|no|unknown|invalid)\W+(response|id\b)",
    re.IGNORECASE | re.DOTALL,
)


def create_error(failure: CallFailed) -> OaibgError:
    """The error that ends a submit whose create failed this way and is not tried again."""
    match judge_create(failure):
        case CreateVerdict.UNKNOWN:
            return OutcomeUnknown.of(
                failure,
                f"The request was sent, but its answer was lost ({failure.message.rstrip('.')}). "
                "The job may be running and may be billed.",
                hint="Do not blindly submit again: that may pay twice. "
                "With --job-key, --resubmit-unknown decides for another submit.",
                outcome="unknown",
            )
        case CreateVerdict.AUTH:
            return auth_error(failure, outcome="not_created")
        case CreateVerdict.REFUSED:
            return ApiRefused.of(failure, hint=_refusal_hint(failure), outcome="not_created")
        case _:
            return Unavailable.of(
                failure,
                f"The API could not take the request: {failure.message}",
                hint=UNREACHABLE_HINT,
                outcome="not_created",
            )


UNREACHABLE_HINT = (
    "Is outbound HTTPS to the API's host allowed here? Check OPENAI_BASE_URL and the proxy "
    "variables; in a sandbox, ask for network access."
)


def passing_hint(failure: CallFailed | None) -> str:
    """What to do about a call that was not answered as it should be."""
    if failure is None or failure.http_status in (None, 403, 407):
        return UNREACHABLE_HINT
    return "The API is there, but busy or broken: run the same command again later."


def auth_error(
    failure: CallFailed, *, outcome: Outcome | None = None, resumable: bool = False
) -> AuthRefused:
    """The error for a refused key."""
    return AuthRefused.of(
        failure,
        f"The API refused the key: {failure.message}",
        hint="Check OPENAI_API_KEY, and OPENAI_ORG_ID and OPENAI_PROJECT_ID where they are set.",
        outcome=outcome,
        resumable=resumable,
    )


def is_transient(failure: CallFailed) -> bool:
    """Whether a retry of the same call may well succeed."""
    status = failure.http_status
    if status is None or status < 300 or status in (408, 429):
        return True
    return status >= 500 and status != 501


def is_wrong_address(failure: CallFailed | ApiRefused) -> bool:
    """Whether the address is wrong, not the request."""
    return failure.http_status in (404, 405) and failure.code == f"http_{failure.http_status}"


def _refusal_hint(failure: CallFailed) -> str | None:
    if failure.code in SPENT:
        return "Waiting does not help: add credit or raise the limit in the account's billing."
    unknown_model = failure.http_status == 404 and "model" in failure.message.lower()
    if failure.code == "model_not_found" or unknown_model:
        return "Name a model that this key may use with --model (or OAIBG_MODEL)."
    if is_wrong_address(failure) or (failure.http_status in (404, 405) and not failure.envelope):
        return "Does OPENAI_BASE_URL name a Responses API? It usually ends in /v1."
    if failure.http_status is not None and 300 <= failure.http_status < 400:
        return "The server redirects; set OPENAI_BASE_URL to the address it redirects to."
    return None
