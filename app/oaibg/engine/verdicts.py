"""Judges failed calls: whether a job may exist, and which error to report. Pure functions."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from oaibg.contract.errors import ApiRefused, AuthRefused, OaibgError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from oaibg.contract.errors import CallFailed, Outcome

QUOTA_EXHAUSTED = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
"""Error codes of a 429 that waiting does not fix."""

OUT_OF_TURN = "busy"
"""The code of a request that was held back because the API asked this run to slow down."""


class CreateVerdict(Enum):
    """What a failed create means."""

    UNREACHABLE = auto()  # certainly not sent: retry
    BUSY = auto()  # certainly not created, and the API asks to wait: retry
    REFUSED = auto()  # certainly not created, and a retry would be refused too
    BLOCKED = auto()  # certainly not created: a proxy or gateway refused
    AUTH = auto()
    UNKNOWN = auto()  # it may have been created: never repeat the request


def judge_create(failure: CallFailed) -> CreateVerdict:
    """Judge whether a create that failed may have created a job.

    Only a request that was not sent or was refused certainly created nothing. A 5xx other than the
    documented overload may come from a gateway whose upstream accepted the request.
    """
    status = failure.http_status
    if not failure.sent:
        out_of_turn = failure.code == OUT_OF_TURN
        return CreateVerdict.BUSY if out_of_turn else CreateVerdict.UNREACHABLE
    if status is None or status < 300 or status in (303, 408):
        return CreateVerdict.UNKNOWN  # a 303 may follow an accepted request
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
    """Whether the API is too busy at the moment; the request had no effect."""
    if failure.http_status == 429:
        return failure.code not in QUOTA_EXHAUSTED
    return failure.http_status == 503 and failure.code == "server_is_overloaded"


def refuses_stream(failure: CallFailed) -> bool:
    """Whether a create was refused because it requested a stream, so that nothing was created."""
    text = f"{failure.code} {failure.message}"
    return failure.http_status in (400, 404, 422, 501) and _STREAM.search(text) is not None


_STREAM = re.compile(r"(?<![a-z])stream", re.IGNORECASE)  # but not "upstream"


def is_auth(failure: CallFailed) -> bool:
    """Whether the API refused the key. A 403 without the API's envelope comes from a proxy."""
    return failure.http_status == 401 or (failure.http_status == 403 and failure.envelope)


def is_missing(failure: CallFailed) -> bool:
    """Whether a server reports that the response does not exist; some do so with a 400.

    A 400 counts only if its message mentions a response: keys and deployments can be missing too.
    """
    if failure.http_status == 400:
        return _MISSING.search(f"{failure.code} {failure.message}") is not None
    return failure.http_status in (404, 410)


_MISSING = re.compile(
    r"\bresponse.*(not.?found|n[o']t exist|unknown|expired)"
    r"|(no such|no|unknown|invalid)\W+(response|id\b)",
    re.IGNORECASE | re.DOTALL,
)


def create_error(failure: CallFailed) -> OaibgError:
    """The error that ends a submit whose create failed and is not retried."""
    match judge_create(failure):
        case CreateVerdict.UNKNOWN:
            return OutcomeUnknown.of(
                failure,
                f"The request was sent, but the reply was lost ({failure.message.rstrip('.')}). "
                "The job may be running and may be billed.",
                hint=RESUBMIT_HINT,
                outcome="unknown",
            )
        case CreateVerdict.AUTH:
            return auth_error(failure, outcome="not_created")
        case CreateVerdict.REFUSED:
            return ApiRefused.of(failure, hint=_refusal_hint(failure), outcome="not_created")
        case _:
            return Unavailable.of(
                failure,
                f"The API did not accept the request, so no job was created: {failure.message}",
                hint=UNREACHABLE_HINT,
                outcome="not_created",
            )


RESUBMIT_HINT = (
    "If you submit it again, you may pay twice. To do so anyway, repeat the submit command with "
    "the same --job-key or --jobs-file, and add --resubmit-unknown."
)

BUSY_HINT = "Wait until the other process has finished, and run the same command again."

UNREACHABLE_HINT = (
    "Check OPENAI_BASE_URL, the proxy variables, and whether outbound HTTPS to the API's host is "
    "allowed. In a restricted environment, request network access."
)


def passing_hint(failure: CallFailed | None) -> str:
    """The hint for a call that got no usable reply."""
    if failure is None or failure.http_status in (None, 403, 407):
        return UNREACHABLE_HINT
    return "The API is reachable, but busy or failing. Run the same command again later."


def auth_error(
    failure: CallFailed, *, outcome: Outcome | None = None, resumable: bool = False
) -> AuthRefused:
    """The error for a key that the API refused."""
    return AuthRefused.of(
        failure,
        f"The API refused the key: {failure.message}",
        hint="Check OPENAI_API_KEY, and OPENAI_ORG_ID and OPENAI_PROJECT_ID if they are set.",
        outcome=outcome,
        resumable=resumable,
    )


def is_transient(failure: CallFailed) -> bool:
    """Whether a retry of the same call may succeed."""
    status = failure.http_status
    if status is None or status < 300 or status in (408, 429):
        return True
    return status >= 500 and status != 501


def is_wrong_address(failure: CallFailed | ApiRefused) -> bool:
    """Whether the address is wrong rather than the request."""
    return failure.http_status in (404, 405) and failure.code == f"http_{failure.http_status}"


def _refusal_hint(failure: CallFailed) -> str | None:
    if failure.code in QUOTA_EXHAUSTED:
        return "Waiting does not help. Add credit, or raise the limit in the billing settings."
    unknown_model = failure.http_status == 404 and "model" in failure.message.lower()
    if failure.code == "model_not_found" or unknown_model:
        return "Use --model (or OAIBG_MODEL) to choose a model that this key can access."
    if is_wrong_address(failure) or (failure.http_status in (404, 405) and not failure.envelope):
        return "Check that OPENAI_BASE_URL names a Responses API. It usually ends in /v1."
    if failure.http_status is not None and 300 <= failure.http_status < 400:
        return "The server redirects requests. Set OPENAI_BASE_URL to the new address."
    if failure.http_status in (400, 422):
        return "To see the request, run the same command with --dry-run."
    return None
