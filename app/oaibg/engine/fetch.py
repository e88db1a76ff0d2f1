"""Retrieves a job once, with its local copy as the fallback."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from oaibg.contract.advice import OTHER_STATE
from oaibg.contract.errors import ApiRefused, CallFailed, NotFound, OaibgError, Unavailable
from oaibg.engine.look_verdicts import is_surely_missing, not_retrievable
from oaibg.engine.near_names import hint_for_unknown
from oaibg.engine.patience import MIN_RETRIEVE_SECONDS, no_usable_reply, with_retries
from oaibg.engine.persist import commit, may_have_changed, readable_copy, warn_of_state
from oaibg.engine.recap import had_completed
from oaibg.engine.verdicts import cannot_retrieve, is_missing
from oaibg.state.commits import patiently
from oaibg.state.database import StateError
from oaibg.state.rows import NOT_FOUND

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.state.store import Row

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
    try:
        payload = await with_retries(lambda seconds: retrieve(job, context, seconds), context.clock)
    except (CallFailed, Unavailable, ApiRefused) as failure:
        local = await readable_copy(job, context)
        if local is not None:
            return local, "local"
        if not isinstance(failure, CallFailed):
            raise
        if is_missing(failure):
            raise await not_found(
                failure, job, context, certain=is_surely_missing(failure)
            ) from failure
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
            payload = await retrieve(job, context, seconds)
            context.note_answer(job)
            job.note_status(payload.status)
            return payload, "api"
    return local, "local"


async def retrieve(job: Job, context: Context, seconds: float) -> Payload:
    """Retrieve a job once; raises `CallFailed` also if the reply is about another known job.

    On some servers, the ID in a reply is always a new one.
    """
    api, own, store = await context.connect(), str(job.response_id), context.store
    payload = await api.retrieve(own, seconds, job.include, is_batch=job.is_batch)
    if payload.id not in (own, None):
        with suppress(StateError):
            row = store.by_id(context.base_url, str(payload.id))
            if row is not None and row.step == "submitted":
                raise CallFailed("bad_reply", f"the reply is about another job, {payload.id}")
    return payload


async def not_found(
    failure: CallFailed, job: Job, context: Context, *, certain: bool = True
) -> NotFound:
    """Return the error for an ID that the API does not have, if there is no local copy.

    If the local state has the job, it records that the API no longer has it, if that is `certain`.
    """
    store, base_url, response_id = context.store, context.base_url, str(job.response_id)

    def note() -> Row | None:
        row = store.by_id(base_url, response_id)
        if row is not None and certain:
            store.note_status(base_url, response_id, NOT_FOUND, None)
        return row

    row: Row | None = None
    try:
        row = await commit(note, context)
    except StateError as error:
        await warn_of_state(error, job, context)
    if row is None and job.status is None:
        message = f"No such response: {failure.message}"
        known = f"The local state in {store.place} has no such ID or key."
        if not store.is_durable:
            known = "The local state can't be used, so no job key is known."
        otherwise = f"{_UNKNOWN_HINT} {known} {OTHER_STATE}"
        hint = hint_for_unknown(job.suggestion, otherwise)
        return NotFound.of(failure, message, hint=hint)
    before = job.status or (row and row.status)
    seen = "" if before in (None, NOT_FOUND) else f" (it was {before} before)"
    had = row is not None and had_completed(row)
    message = f"The server no longer has this job{seen}: {failure.message}"
    return NotFound.of(failure, message, hint=f"{_COMPLETED if had else _NEW_ATTEMPT} {_KEY_HINT}")


async def is_known_gone(job: Job, context: Context) -> bool:
    """Whether the local state has recorded that the API no longer has the job."""
    store, base_url, response_id = context.store, context.base_url, str(job.response_id)
    with suppress(StateError):
        row = await patiently(lambda: store.by_id(base_url, response_id), context.clock)
        return row is not None and row.status == NOT_FOUND
    return False


_UNKNOWN_HINT = (
    "Check the ID, OPENAI_BASE_URL and the project of the API key. `oaibg show --list` lists the "
    "jobs in the local state."
)

_NEW_ATTEMPT = (
    "A new attempt is billed again: repeat the submit command with its --job-key or --jobs-file, "
    "and add --retry-failed."
)

_COMPLETED = (
    "The job had completed, so --retry-failed does not submit it again. A new attempt is billed "
    "again: use a new --job-key, or in a jobs file a new custom_id."
)

_KEY_HINT = "If OPENAI_API_KEY now belongs to a different project than before, use the earlier key."
