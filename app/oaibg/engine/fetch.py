"""One look at a job: as the API has it, or its local copy if the API can't or won't say."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from oaibg.contract.errors import ApiRefused, CallFailed, NotFound, OaibgError, Unavailable
from oaibg.engine.patience import LEAST_LOOK, ask, unasked
from oaibg.engine.persist import local_copy
from oaibg.engine.verdicts import is_missing
from oaibg.state.commits import patiently
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

Source = Literal["api", "local"]

_GLANCE_SECONDS = 10.0
"""Timeout in seconds for asking the API when there is a local copy."""


async def fetch(job: Job, context: Context) -> tuple[Payload, Source]:
    """A job as the API has it, or its local copy if the API can't or won't say.

    Raises:
        NotFound: the API has no such response.
        AuthRefused, Unavailable, ApiRefused: the API could not be asked, or refuses to answer.
    """
    api = await context.connect()
    response_id = str(job.response_id)
    try:
        return await ask(lambda seconds: api.retrieve(response_id, seconds), context.clock), "api"
    except (CallFailed, Unavailable) as failure:
        local = await kept_copy(job, context)
        if local is not None:
            return local, "local"
        if isinstance(failure, Unavailable):
            raise
        if is_missing(failure):
            raise not_found(failure) from failure
        if failure.http_status in (403, 407):
            raise unasked(failure) from failure
        raise ApiRefused.of(failure) from failure


async def fetch_ended(job: Job, context: Context) -> tuple[Payload | None, Source]:
    """What is kept of a job that has ended; None if nothing is.

    A job that was cancelled may still turn out to have completed: the API is asked once more.
    """
    local = await kept_copy(job, context)
    if local is not None and may_have_changed(local):
        left = context.deadline - context.clock.monotonic()
        seconds = min(_GLANCE_SECONDS, max(left, LEAST_LOOK))
        with suppress(CallFailed, OaibgError):
            api = await context.connect()
            payload = await api.retrieve(str(job.response_id), seconds)
            context.note_answer(job)
            job.note_status(payload.status)
            return payload, "api"
    return local, "local"


def may_have_changed(local: Payload) -> bool:
    """Whether a job may have ended otherwise than its local copy says."""
    return local.status == "cancelled"


async def kept_copy(job: Job, context: Context) -> Payload | None:
    """The result that was kept of the job; None if there is none that can be read."""
    try:
        return await patiently(lambda: local_copy(job, context), context.clock)
    except StateError:
        return None


def not_found(failure: CallFailed) -> NotFound:
    """The error for an id that the API does not have, and of which no local copy is kept."""
    return NotFound.of(
        failure,
        f"No such response: {failure.message}",
        hint="Check the id, OPENAI_BASE_URL and the key's project; `oaibg show --list` has the "
        "jobs that were submitted here.",
    )
