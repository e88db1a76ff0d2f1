"""Judges failed retrieves of a job: whether the server refuses them, or is down for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import LookRefused, NotRetrievable
from oaibg.engine import wording
from oaibg.engine.hints import LOOK_HINT, NO_RETRIEVE_HINT
from oaibg.engine.verdicts import access_error, cannot_retrieve, is_missing, is_transient

if TYPE_CHECKING:
    from oaibg.contract.errors import CallFailed

_OWN_ERRORS = frozenset({404, 407, 410})
"""4xx that say nothing about the look itself: the job is gone, or a proxy wants a password."""


def refuses_look(failure: CallFailed) -> bool:
    """Whether the server finds fault with the request for the job itself, as with a bad ID."""
    status = failure.http_status
    if status is None or not 400 <= status < 500 or status in _OWN_ERRORS:
        return False
    if is_transient(failure) or is_missing(failure) or cannot_retrieve(failure):
        return False
    if access_error(failure) is not None or (status == 403 and not failure.envelope):
        return False
    names_other = wording.names_upstream(failure.code, failure.kind)
    return not names_other and not wording.mentions_upstream(failure.message)


def is_surely_missing(failure: CallFailed) -> bool:
    """Whether it is the API itself that does not have the job; gateways send bare 404s, too."""
    names = (failure.code, failure.kind)
    own = failure.envelope or wording.says_missing(failure.message, *names)
    return own and is_missing(failure)


def look_refused(failure: CallFailed) -> LookRefused:
    """The error for a job of which the server refuses every retrieve."""
    return LookRefused.of(
        failure,
        f"The server refuses to return the job: {failure.message}",
        hint=LOOK_HINT,
    )


def not_retrievable(failure: CallFailed) -> NotRetrievable:
    """The error for a job on a server that has no retrieve."""
    return NotRetrievable.of(
        failure,
        f"The job's answer can't be retrieved, because this server does not return background "
        f"jobs: {failure.message}",
        hint=NO_RETRIEVE_HINT,
    )


def is_outage(failure: CallFailed) -> bool:
    """Whether the server itself was not reached: it is down, or behind a gateway that says so."""
    gateway = failure.http_status in (502, 503, 504) and not failure.envelope
    return gateway or failure.code in ("connect_error", "connect_timeout")
