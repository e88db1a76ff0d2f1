"""Judges failed calls: whether a job may exist, and which error to report. Pure functions."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from oaibg.api.error_body import KNOWN_CODES
from oaibg.contract.errors import (
    ApiRefused,
    AuthRefused,
    OaibgError,
    OutcomeUnknown,
    Unavailable,
)
from oaibg.engine import wording
from oaibg.engine.hints import (
    KEY_HINT,
    REGION_HINT,
    passing_hint,
    refusal_hint,
    server_of,
    unknown_hint,
)

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

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
"""Error codes and types that waiting does not fix."""

CERTIFICATE = "certificate_error"
"""The code of a request that was not sent, because the server's certificate is not trusted."""

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

    Only a request that was not sent, or that the API itself refused, certainly created nothing. A
    5xx other than the documented overload, and a 4xx in another form than the API's, may come from
    a gateway whose upstream accepted the request.
    """
    status = failure.http_status
    if not failure.sent:
        return _UNSENT.get(failure.code, CreateVerdict.UNREACHABLE)
    if status is None or status in (303, 408):
        return CreateVerdict.UNKNOWN  # a 303 may follow an accepted request
    if is_busy(failure) or is_locked(failure):
        return CreateVerdict.BUSY
    if status >= 500:
        return CreateVerdict.UNKNOWN
    if is_auth(failure):
        return CreateVerdict.AUTH
    blocks = status in (403, 407) and not (failure.envelope or refuses_region(failure))
    if blocks and not wording.blames_upstream(failure.message):
        return CreateVerdict.BLOCKED
    return CreateVerdict.REFUSED if _is_refused(failure, status) else CreateVerdict.UNKNOWN


_UNSENT = {OUT_OF_TURN: CreateVerdict.BUSY, CERTIFICATE: CreateVerdict.BLOCKED}


def _is_refused(failure: CallFailed, status: int) -> bool:
    """Whether a reply below 500 certainly means that the request was refused."""
    if 300 <= status < 400 or status in _TOO_LARGE or status == 429 or refuses_region(failure):
        return True
    if is_exhausted(failure):
        return True
    if wording.names_upstream(failure.code, failure.kind):
        return False
    text = f"{failure.message} (field: {failure.param})" if failure.param else failure.message
    if not failure.envelope or _is_numbered(failure):
        blamed = status >= 400 and wording.blames_request(text)
        return blamed or is_wrong_address(failure)
    if failure.param is None and wording.blames_upstream(failure.message):
        return False
    if failure.kind in _OWN_KINDS or failure.code in KNOWN_CODES:
        return True
    is_clear = wording.blames_request(text) or not wording.mentions_upstream(failure.message)
    return status >= 400 and is_clear


def _is_numbered(failure: CallFailed) -> bool:
    """Whether the code or the type is a number, which the API's never is."""
    return any(name and name[0].isdecimal() for name in (failure.code, failure.kind))


_OWN_KINDS = frozenset(
    {"invalid_request_error", "not_found_error", "permission_error", "request_forbidden"}
)
"""Types of the API's errors that certainly mean a refusal."""

_TOO_LARGE = (413, 414, 431)


def is_busy(failure: CallFailed) -> bool:
    """Whether the API is too busy at the moment; the request had no effect."""
    if is_exhausted(failure) or is_too_large(failure):
        return False
    status = failure.http_status
    if status == 429 or (status == 503 and failure.code == "server_is_overloaded"):
        return True
    if wording.blames_upstream(failure.message):
        return False
    return failure.envelope and status is not None and status < 500 and _has(failure, _BUSY)


_BUSY = {
    *("rate_limit_exceeded", "rate_limit_error", "requests", "server_is_overloaded", "slow_down"),
    "tokens",
}


def is_exhausted(failure: CallFailed) -> bool:
    """Whether the quota, the credit or a spend limit is exhausted."""
    if failure.http_status == 402:
        return wording.demands_payment(failure.message)
    return (failure.http_status == 429 or failure.envelope) and _has(failure, QUOTA_EXHAUSTED)


def is_too_large(failure: CallFailed) -> bool:
    """Whether the request alone exceeds a rate limit, so that waiting does not help."""
    limited = failure.http_status == 429 or (failure.envelope and _has(failure, _BUSY))
    return limited and wording.exceeds_limit(failure.message)


def is_locked(failure: CallFailed) -> bool:
    """Whether something that the request needs is in use for a moment; nothing was created."""
    if not failure.envelope or failure.http_status not in (200, 400, 409, 423):
        return False
    if wording.names_upstream(failure.code, failure.kind):
        return False
    if wording.blames_upstream(failure.message):
        return False
    in_words = failure.http_status != 200 and wording.says_locked(failure.message)
    return in_words or wording.names_lock(failure.code)


def refuses_stream(failure: CallFailed) -> bool:
    """Whether a create was refused because it requested a stream, so that nothing was created."""
    text = f"{failure.code} {failure.message}"
    if failure.http_status not in (400, 404, 422, 501) or not _STREAM.search(text):
        return False
    if wording.names_upstream(failure.code, failure.kind):
        return False
    if wording.blames_upstream(failure.message):
        return False
    if failure.envelope and failure.http_status != 501 and not _is_numbered(failure):
        return failure.kind in _OWN_KINDS or failure.code in KNOWN_CODES
    return wording.blames_request(failure.message)


_STREAM = re.compile(r"(?<![a-z])stream", re.IGNORECASE)  # but not "upstream"


def is_auth(failure: CallFailed) -> bool:
    """Whether the API refused the key. A 403 without the API's envelope comes from a proxy."""
    status = failure.http_status
    if status == 401:
        return True
    if not failure.envelope or status is None or status >= 500:
        return False
    if _has(failure, _AUTH):
        return True
    is_other = refuses_region(failure) or failure.code == "model_not_found"
    if status != 403 or is_other or wording.blames_upstream(failure.message):
        return False
    return not wording.names_upstream(failure.code, failure.kind)


_AUTH = {"invalid_api_key", "authentication_error", "account_deactivated"}


def refuses_region(failure: CallFailed) -> bool:
    """Whether the API does not serve the place that the request comes from."""
    status = failure.http_status
    if status is None or status >= 500 or failure.param is not None:
        return False
    words = failure.message if status in (400, 403, 404, 451) else ""
    return not wording.blames_upstream(words) and wording.refuses_region(f"{failure.code} {words}")


def is_missing(failure: CallFailed) -> bool:
    """Whether a server reports that the response does not exist; some do so with a 400 or a 200."""
    status, names = failure.http_status, (failure.code, failure.kind)
    if status not in (200, 400, 404, 410) or cannot_retrieve(failure):
        return False
    if wording.says_missing(failure.message, *names):
        return True
    is_upstream = wording.names_upstream(*names) or wording.blames_upstream(failure.message)
    return status in (404, 410) and not is_upstream


def cannot_retrieve(failure: CallFailed) -> bool:
    """Whether a retrieve failed as on a server that has none."""
    status = failure.http_status
    if status in (405, 501):
        return True
    if status == 404 and wording.says_no_route(failure.message):
        return True
    return status in (400, 404, 422) and wording.says_no_retrieve(failure.message)


def _has(failure: CallFailed, names: AbstractSet[str]) -> bool:
    return failure.code in names or failure.kind in names


def create_error(failure: CallFailed, *, in_run: bool = False) -> OaibgError:
    """The error that ends a submit whose create failed and is not retried.

    `in_run` marks the create of a run over a jobs file.
    """
    match judge_create(failure):
        case CreateVerdict.UNKNOWN:
            lost = failure.http_status is None
            why = "the reply was lost" if lost else "the reply does not say whether a job exists"
            stop = "" if failure.message.endswith((".", "!", "?")) else "."
            return OutcomeUnknown.of(
                failure,
                f"The request was sent, but {why}: {failure.message}{stop} "
                "The job may be running and may be billed.",
                hint=unknown_hint(failure),
                outcome="unknown",
            )
        case CreateVerdict.AUTH:
            return auth_error(failure, outcome="not_created")
        case CreateVerdict.REFUSED:
            return _refusal(failure, in_run=in_run)
        case _:
            refused = f"{server_of(failure)} did not accept the request, so no job was created"
            return Unavailable.of(
                failure,
                f"{refused if failure.sent else 'No job was created'}: {failure.message}",
                hint=passing_hint(failure),
                outcome="not_created",
            )


def _refusal(failure: CallFailed, *, in_run: bool) -> ApiRefused:
    exhausted, address = is_exhausted(failure), is_wrong_address(failure)
    region = refuses_region(failure)
    hint = refusal_hint(
        failure,
        exhausted=exhausted,
        too_large=is_too_large(failure),
        region=region,
        address=address,
        in_run=in_run,
    )
    refused = ApiRefused.of(failure, hint=hint, outcome="not_created")
    if exhausted or address or region:
        refused.note_general()
    return refused


def auth_error(
    failure: CallFailed, *, outcome: Outcome | None = None, resumable: bool = False
) -> AuthRefused:
    """The error for a key that the API refused."""
    return AuthRefused.of(
        failure,
        f"{server_of(failure)} refused the API key: {failure.message}",
        hint=KEY_HINT,
        outcome=outcome,
        resumable=resumable,
    )


def access_error(failure: CallFailed, *, resumable: bool = False) -> OaibgError | None:
    """The error for a read that the API refuses because of the key or of the place; else None."""
    if refuses_region(failure):
        return ApiRefused.of(failure, hint=REGION_HINT, resumable=resumable)
    return auth_error(failure, resumable=resumable) if is_auth(failure) else None


def is_transient(failure: CallFailed) -> bool:
    """Whether a retry of the same call may succeed."""
    status = failure.http_status
    if status is None:
        return failure.code != CERTIFICATE
    if status < 300:
        return not is_missing(failure)
    return is_locked(failure) or may_pass(status)


def may_pass(status: int) -> bool:
    """Whether an HTTP status of 300 or more doesn't blame the request, which may succeed later."""
    return status in (408, 429) or (status >= 500 and status != 501)


def is_error_in_200(failure: CallFailed) -> bool:
    """Whether a server reported an error in a successful reply."""
    return failure.http_status is not None and failure.http_status < 300


def is_wrong_address(failure: CallFailed) -> bool:
    """Whether the address is wrong rather than the request: it has no Responses API."""
    if failure.http_status not in (404, 405):
        return False
    if failure.is_json or failure.envelope:
        return wording.says_no_api(failure.message)
    return not wording.blames_upstream(failure.message) and not wording.blames_request(
        failure.message
    )
