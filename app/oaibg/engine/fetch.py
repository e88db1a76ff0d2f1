"""Retrieves a job once, with its local copy as the fallback."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from oaibg.contract.errors import ApiRefused, CallFailed, NotFound, OaibgError, Unavailable
from oaibg.engine.patience import MIN_RETRIEVE_SECONDS, no_usable_reply, with_retries
from oaibg.engine.persist import local_copy
from oaibg.engine.verdicts import cannot_retrieve, is_missing, not_retrievable
from oaibg.state.commits import patiently
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

Source = Literal["api", "local"]

_RECHECK_TIMEOUT = 10.0
"""Timeout in seconds of a retrieve that only checks whether a local copy is up to date."""


async def fetch(job: Job, context: Context) -> tuple[Payload, Source]:
    """Return the job as the API has it, or its local copy if the API gives no usable reply.

    Raises:
        NotFound: neither the API nor the local state has the response.
        AuthRefused: the API refused the key; a local copy is not used then.
        Unavailable, ApiRefused: the API gave no usable reply, and there is no local copy.
    """
    api = await context.connect()
    response_id = str(job.response_id)
    try:
        payload = await with_retries(lambda s: api.retrieve(response_id, s), context.clock)
    except (CallFailed, Unavailable, ApiRefused) as failure:
        local = await readable_copy(job, context)
        if local is not None:
            return local, "local"
        if not isinstance(failure, CallFailed):
            raise
        if is_missing(failure):
            raise not_found(failure) from failure
        if cannot_retrieve(failure):
            raise not_retrievable(failure) from failure
        if failure.http_status in (403, 407):
            raise no_usable_reply(failure) from failure
        raise ApiRefused.of(failure) from failure
    return payload, "api"


async def fetch_ended(job: Job, context: Context) -> tuple[Payload | None, Source]:
    """Return the local copy of a job that has ended; None if there is none.

    A cancelled job may still turn out to have completed, so it is retrieved once more.
    """
    local = await readable_copy(job, context)
    if local is not None and may_have_changed(local):
        remaining = context.deadline - context.clock.monotonic()
        seconds = min(_RECHECK_TIMEOUT, max(remaining, MIN_RETRIEVE_SECONDS))
        with suppress(CallFailed, OaibgError):
            api = await context.connect()
            payload = await api.retrieve(str(job.response_id), seconds)
            context.note_answer(job)
            job.note_status(payload.status)
            return payload, "api"
    return local, "local"


def may_have_changed(local: Payload) -> bool:
    """Whether the job's final status may differ from its local copy."""
    return local.status == "cancelled"


async def readable_copy(job: Job, context: Context) -> Payload | None:
    """The job's local copy; None if there is none, or if the local state can't be read."""
    try:
        return await patiently(lambda: local_copy(job, context), context.clock)
    except StateError:
        return None


def not_found(failure: CallFailed) -> NotFound:
    """The error for an ID that the API does not have, if there is no local copy."""
    return NotFound.of(
        failure,
        f"No such response: {failure.message}",
        hint="Check the ID, OPENAI_BASE_URL and the key's project. `oaibg show --list` lists the "
        "jobs in the local state.",
    )
