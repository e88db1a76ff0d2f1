"""Finds the job that a command names: by ID, by job key, or the newest one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.api.payload import is_api_id
from oaibg.base.record import Record
from oaibg.contract.advice import FIRST_JOB, OTHER_STATE
from oaibg.contract.errors import NotFound, OutcomeUnknown
from oaibg.engine import report
from oaibg.engine.hints import is_openai
from oaibg.engine.near_names import LIST_HINT, hint_for_unknown, suggestion
from oaibg.engine.persist import state_warnings
from oaibg.engine.recap import Recap
from oaibg.state.commits import patiently, patiently_blocking
from oaibg.state.database import KeyBusyError, StateError
from oaibg.state.rows import user_key
from oaibg.state.senders import pid_of_other
from oaibg.state.store import line_key, lock_key

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.state.store import Row, Store


class Target(Record):
    """The job that a command names: an ID, a job key, or neither: the newest."""

    response_id: str | None = None
    job_key: str | None = None
    custom_id: str | None = None
    """The job's name in a run."""


async def find(target: Target, job: Job, context: Context) -> None:
    """Find the target, set its ID on `job`, and emit warnings about it.

    Raises:
        NotFound: the local state has no job with this key, or no job at all.
        OutcomeUnknown: the job's ID is not known.
        StateError: only the local state has the job's ID, and it can't be used.
    """
    try:
        warnings = await patiently(lambda: _look_up(target, job, context), context.clock)
    except StateError as error:
        warnings = _without_state(error, target, job, context)
    for warning in warnings:
        await context.emit(warning)


def find_blocking(target: Target, job: Job, context: Context) -> list[Event]:
    """As `find`, for code without an event loop; returns the warnings."""
    try:
        return patiently_blocking(lambda: _look_up(target, job, context), context.clock)
    except StateError as error:
        return _without_state(error, target, job, context)


def _look_up(target: Target, job: Job, context: Context) -> list[Event]:
    """Read the local state once; raise `StateBusyError` if a retry may succeed."""
    store, base_url, response_id = context.store, context.base_url, target.response_id
    job.note_include(context.output.include)
    if target.job_key is not None:
        job.note_key(target.job_key)
    if response_id is not None:
        job.identify(response_id)
    if context.state_problem is not None:
        raise context.state_problem
    if response_id is None:
        row = _row(target, context)
        _note_request(row, job)
        job.identify(_id_of(row, target, context), row.status if row is not None else None)
        return []
    known = store.by_id(base_url, response_id)
    _note_request(known, job)
    other = store.at_other_base_url(base_url, response_id) if known is None else None
    if other is None:
        if known is None:
            _note_unknown(job, response_id, context)
        return []
    message = (
        f"This job was submitted to {other.base_url}, but this command sends requests to "
        f"{base_url}. Set OPENAI_BASE_URL to the first URL."
    )
    return [report.problem(job, "other_base_url", message)]


def _note_unknown(job: Job, response_id: str, context: Context) -> None:
    """Note that the local state lacks an ID; raise `NotFound` if the API can't have it either."""
    store, base_url = context.store, context.base_url

    def suggest() -> str:
        return suggestion(response_id, store, base_url) if context.shared.may_suggest() else ""

    if is_api_id(response_id):
        job.note_unknown("", suggest)
        return
    doubt = f"The local state in {store.place} has no job or run named {response_id!r} for"
    if is_openai(base_url):
        raise NotFound(
            f"{doubt} {base_url}, whose IDs begin with resp_ or batch_.",
            hint=hint_for_unknown(suggest(), f"{LIST_HINT} {OTHER_STATE}"),
        )
    job.note_unknown(f"{doubt} {base_url}.", suggest)


def _without_state(error: StateError, target: Target, job: Job, context: Context) -> list[Event]:
    """Raise the error, unless the target has an ID, which is enough to continue."""
    if target.response_id is None:
        raise error
    return state_warnings(error, job, context)


def _note_request(row: Row | None, job: Job) -> None:
    if row is not None:
        job.note_known()
        job.note_name(row.known_as, row.alias)
        job.note_batch(row.is_batch)
        job.note_include(row.included)
        job.note_window(row.completion_window)
        if row.job_key is not None:
            job.note_key(user_key(row.job_key))
        job.note_cost(recap.cost if (recap := Recap.of_row(row)) is not None else None)


def _row(target: Target, context: Context) -> Row | None:
    store, base_url = context.store, context.base_url
    if target.job_key is None:
        row = store.newest(base_url)
        return row if row is None or row.job_key is None else _by_key(row.job_key, base_url, store)
    return _by_key(target.job_key, base_url, store)


def _by_key(job_key: str, base_url: str, store: Store) -> Row | None:
    """The job of a key; raises `KeyBusyError` while another process is submitting it."""
    row = store.by_key(base_url, job_key)
    if row is None:  # perhaps the batch of a run
        return store.by_key(base_url, line_key(job_key, ""))
    if row.step != "sending":
        return row
    lock = store.lock(base_url, lock_key(job_key))
    if lock is not None:
        store.unlock(lock)
    if lock is None or pid_of_other(row.sender) is not None:
        message = f"Another process is submitting a job with the key {job_key!r}."
        raise KeyBusyError("job_key_busy", message)
    return store.by_key(base_url, job_key)


def _id_of(row: Row | None, target: Target, context: Context) -> str:
    if row is None or row.step == "intent":
        store, base_url, key = context.store, context.base_url, target.job_key
        if key is None:
            message = f"There are no jobs for {base_url} yet in {store.place}."
            raise NotFound(message, hint=f"{FIRST_JOB} {OTHER_STATE} {LIST_HINT}")
        raise NotFound(
            f"The local state in {store.place} has no job with the key {key!r} for {base_url}.",
            hint=hint_for_unknown(suggestion(key, store, base_url), f"{LIST_HINT} {OTHER_STATE}"),
        )
    if not row.response_id:
        raise OutcomeUnknown(
            "The request was sent, but no reply was stored. The job may be running and may be "
            "billed.",
            outcome="unknown",
        )
    return row.response_id
