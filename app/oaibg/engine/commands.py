"""submit, monitor, cancel, show: async generators of events. The heart.

Clock, client and store are passed in. A job function never prints, exits or reads a real clock,
and always ends with the one event that has an exit code, whatever happens to it: errors and a
cancelled task (a signal) included.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeVar

from oaibg.base.record import Record
from oaibg.base.text import timestamp
from oaibg.contract.errors import (
    ApiRefused,
    CallFailed,
    ExitCode,
    Internal,
    NotFound,
    OaibgError,
    OutcomeUnknown,
    Unavailable,
    UsageError,
)
from oaibg.contract.events import Event, ListedJob, Response, Summary
from oaibg.engine import retry as polling
from oaibg.engine.context import (
    insist,
    is_cancellation,
    local_copy,
    remember_seen,
    state_error,
    state_warning,
)
from oaibg.engine.follow import finish, follow, hand_out, not_found
from oaibg.engine.verdicts import auth_error, is_auth, is_missing, is_passing, passing_hint
from oaibg.state.file import StateError
from oaibg.state.store import line_key, lock_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from oaibg.api.calls import Calls
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Warning  # noqa: A004 - the contract's name
    from oaibg.engine.context import Tools
    from oaibg.engine.create import Submission
    from oaibg.engine.job import Job
    from oaibg.state.store import Row

T = TypeVar("T")
Source = Literal["api", "local"]

CANCEL_CONFIRMS = 5
"""Retrieves, one second apart, in which a server may confirm a cancel."""

_CANCEL_SECONDS = 5.0
"""Seconds in which a cancel that a signal asks for is made and confirmed."""

_CANCEL_INTERVAL, _CANCEL_TIMEOUT = 0.5, 2.0

_ASK_SECONDS = 20.0
"""Seconds after which a single look or a cancel is not tried again."""

_GLANCE_SECONDS = 10.0
"""Seconds for asking the API where a local copy could answer as well."""

_LONG_ANSWERS = 4
"""Answers in a row that had begun when their time was over; each try gives twice as much."""

_BARE_404S = 2
"""Answers of 404 without the API's envelope, as gateways give now and then, that are not believed
by a single look."""


class Target(Record):
    """Which job is meant: an id, a job key, or (for show) neither: the newest submit."""

    response_id: str | None = None
    job_key: str | None = None


def submit(submission: Submission, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """Submit a job and follow it to its end (or not, with `detach`)."""
    return told(_submit(submission, job, tools), job, tools)


def monitor(target: Target, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """Follow a job that was submitted before, to its end."""
    return told(_monitor(target, job, tools), job, tools)


def cancel(target: Target, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """Cancel a job and tell its true status."""
    return told(_cancel(target, job, tools), job, tools)


def show(target: Target, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """One look at a job, from the local copy where it is kept."""
    return told(_show(target, job, tools), job, tools)


def show_list(limit: int | None, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """The jobs that the local state knows, newest first."""
    return told(_show_list(limit, job, tools), job, tools)


async def told(events: AsyncIterator[Event], job: Job, tools: Tools) -> AsyncIterator[Event]:
    """The events, whatever breaks them off as the last one, and before each its warnings."""
    try:
        async for event in _ended(events, job, tools):
            while job.untold:
                yield job.untold.pop(0)
            yield event
    finally:
        if job.stream is not None:
            await job.stream.close()


async def _ended(events: AsyncIterator[Event], job: Job, tools: Tools) -> AsyncIterator[Event]:
    try:
        async for event in events:
            yield event
    except OaibgError as error:
        yield job.error(error)
    except StateError as error:
        yield job.error(state_error(error))
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes an event
        yield job.error(Internal.from_bug(error))
    except BaseException as error:
        if not is_cancellation(error):
            raise
        yield await _interrupted(job, tools)


async def _interrupted(job: Job, tools: Tools) -> Event:
    """A signal ended the wait; cancel the job where that was asked for, in bounded time."""
    cancelled = False
    asked = job.wait.cancel_on_interrupt and not job.run.abandoned
    if asked and job.response_id is not None:
        try:
            payload = await _cancel_now(job, tools)
        except OaibgError:
            payload = None  # `job_cancelled` is false, which says it
        if payload is not None:
            job.status = payload.status
            cancelled = payload.status == "cancelled"
            await remember_seen(payload, job, tools)
    return job.interrupted(tools.signum(), cancelled=cancelled)


async def _cancel_now(job: Job, tools: Tools) -> Payload | None:
    """Cancel a job and look until it has ended; what was seen last when the time is over."""
    api, clock, response_id = await tools.connect(), tools.clock, str(job.response_id)
    give_up = clock.monotonic() + _CANCEL_SECONDS
    call: Callable[[str, float], Awaitable[Payload | None]] = api.cancel
    seen: Payload | None = None
    refusal: CallFailed | None = None
    while True:
        try:
            left = give_up - clock.monotonic()
            seen = await call(response_id, min(_CANCEL_TIMEOUT, left)) or seen
            call = api.retrieve
        except CallFailed as failure:
            if not is_passing(failure):
                # A refusal may mean that the job has ended already: the retrieve tells the truth.
                call, refusal = api.retrieve, failure
        if seen is not None and seen.ended:
            return seen
        if seen is not None and refusal is not None:
            job.untold.append(_refused(job, refusal))
            return seen
        if clock.monotonic() + _CANCEL_INTERVAL >= give_up:
            return seen
        await clock.sleep(_CANCEL_INTERVAL)


async def _submit(submission: Submission, job: Job, tools: Tools) -> AsyncIterator[Event]:
    from oaibg.engine.create import create_once

    problem = tools.state_problem
    if problem is not None:
        # After a corrupt file there is a new one, and the job key is judged by what was lost.
        keyed = submission.job_key is not None and problem.code != "state_corrupt"
        if keyed or problem.code == "state_newer":
            raise state_error(problem)
        yield state_warning(job, problem)
    async for event in create_once(submission, job, tools):
        yield event
    async for event in see_through(job, tools, detach=submission.detach):
        yield event


async def see_through(
    job: Job, tools: Tools, *, detach: bool = False, one_of_many: bool = False
) -> AsyncIterator[Event]:
    """From the id of a job that was submitted to its end, or no further with `detach`."""
    reattached = job.payload is None
    ended, source = (job.payload, "api") if not reattached else await _kept(job, tools)
    job.payload = None  # the job may take hours
    # What a stream begins with may be less than the whole of a job that has ended.
    if ended is not None and ended.ended and (job.stream is None or ended.is_whole):
        if reattached and not one_of_many:
            yield job.warning(
                "job_key_ended",
                "The job of this job key has completed before, and is told again."
                if ended.succeeded
                else f"The job of this job key has ended before, as {ended.status}; a new attempt "
                "needs a new key.",
            )
        events = finish(ended, job, tools, local=source == "local")
    elif detach:
        yield job.detached()
        return
    else:
        now = tools.clock.monotonic()
        delay = 0.0 if reattached else job.next_poll(now, now) - now
        events = follow(job, tools, delay=delay)
    async for event in events:
        yield event


async def _monitor(target: Target, job: Job, tools: Tools) -> AsyncIterator[Event]:
    async for warning in _resolve(target, job, tools):
        yield warning
    async for event in follow(job, tools, delay=job.delay):
        yield event


async def _cancel(target: Target, job: Job, tools: Tools) -> AsyncIterator[Event]:
    async for warning in _resolve(target, job, tools):
        yield warning
    api = await tools.connect()
    refusal: CallFailed | None = None
    try:
        taken = await ask(api.cancel, job, tools)
    except CallFailed as failure:
        # A refusal may mean that the job has ended already: the retrieve tells the truth.
        refusal, taken = failure, None
    payload = taken or (await _look(api, job, tools))[0]
    for _ in range(CANCEL_CONFIRMS if refusal is None else 0):
        if payload.ended:
            break
        await tools.clock.sleep(1.0)
        payload, _ = await _look(api, job, tools)
    job.status = payload.status
    await remember_seen(payload, job, tools)
    if payload.status == "cancelled":
        code = ExitCode.OK
    elif payload.ended:
        code = ExitCode.UNSUCCESSFUL
    elif refusal is not None:
        code = ExitCode.ERROR
        yield _refused(job, refusal)
    else:
        code = ExitCode.STILL_RUNNING
    yield job.cancel_result(code)


def _refused(job: Job, refusal: CallFailed) -> Warning:
    words = refusal.message.rstrip(".")
    return job.warning("cancel_refused", f"The server refuses to cancel: {words}.")


async def _show(target: Target, job: Job, tools: Tools) -> AsyncIterator[Event]:
    async for warning in _resolve(target, job, tools):
        yield warning
    payload, source = await _kept(job, tools)
    if payload is None:
        payload, source = await _look(await tools.connect(), job, tools)
    job.status = payload.status
    if source == "api":
        await remember_seen(payload, job, tools)
    async for event in hand_out(payload, job):
        yield event
    output = job.output
    handed_out = output.json_file or output.text_file or output.show_output_text
    yield Response(
        response_id=job.response_id,
        status=payload.status,
        source=source,
        response=None if handed_out else payload.data,
        exit_code=job.end_code(payload) if payload.ended else ExitCode.STILL_RUNNING,
        next=None if payload.ended else job.monitor_command(),
    )


async def _show_list(limit: int | None, job: Job, tools: Tools) -> AsyncIterator[Event]:
    problem = tools.state_problem
    if problem is not None:
        if problem.code != "state_corrupt":
            raise state_error(problem)  # what can't be read is not an empty list
        yield state_warning(job, problem)
    counts: dict[str, int] = {}
    for row in await insist(lambda: tools.store.jobs(limit), tools):
        status = row.status if row.response_id is not None else "outcome_unknown"
        counted = status or "unknown"
        counts[counted] = counts.get(counted, 0) + 1
        yield ListedJob(
            response_id=row.response_id,
            custom_id=row.custom_id,
            job_key=row.job_key and row.job_key.partition("\n")[0],
            model=row.model,
            status=status,
            created_at=timestamp(row.created_at),
            updated_at=timestamp(row.updated_at),
            base_url=row.base_url,
        )
    yield Summary(
        response_id=None,
        counts=counts,
        elapsed_seconds=tools.elapsed(),
        exit_code=ExitCode.OK,
        next=None,
    )


async def _resolve(target: Target, job: Job, tools: Tools) -> AsyncIterator[Event]:
    """Find the job that is meant, into `job`; what there is to say of it as warnings.

    Raises:
        NotFound: no such job key, or nothing was submitted here.
        OutcomeUnknown: the job has no id that is known.
        UsageError: it takes the state to find the job, and that can't be used.
    """
    store, base_url, problem = tools.store, tools.base_url, tools.state_problem
    response_id, job_key = target.response_id, target.job_key
    if response_id is not None:
        job.response_id = response_id
        try:
            if problem is not None:
                raise problem
            known = await insist(lambda: store.by_id(base_url, response_id), tools)
            other = known or await insist(lambda: store.elsewhere(base_url, response_id), tools)
        except StateError as error:
            if not job.run.state_warned:
                yield state_warning(job, error)  # an id is enough to go on with
            return
        if other is not None and other.base_url != base_url:
            yield job.warning(
                "other_base_url",
                f"This id was submitted to {other.base_url}, and {base_url} is asked now. "
                "Set OPENAI_BASE_URL to the former.",
            )
        return
    if problem is not None:
        raise state_error(problem)
    if job_key is not None:
        row = await _row_of_key(job_key, tools)
        if row is None and (jobs := store.of_run(base_url, job_key)):
            raise UsageError(
                f"The key {job_key!r} is that of a run of {len(jobs):,} jobs.",
                hint="The same submit goes on with it. `oaibg show --list` has its jobs' ids; "
                "`oaibg monitor -` and `oaibg cancel -` take ids from stdin.",
            )
    else:
        row = await insist(lambda: store.newest(base_url), tools)
        if row is not None and row.job_key is not None:
            row = await _row_of_key(row.job_key, tools)
    job.response_id = _id_of(row, target, base_url)
    job.status = row.status if row is not None else None


async def _row_of_key(job_key: str, tools: Tools) -> Row | None:
    """The job of a key, once no other process is submitting it."""
    store, base_url = tools.store, tools.base_url
    give_up = tools.clock.monotonic() + _GLANCE_SECONDS
    while True:
        row = await insist(lambda: store.by_key(base_url, job_key), tools)
        if row is None:  # a run's batch, perhaps
            return await insist(lambda: store.by_key(base_url, line_key(job_key, "")), tools)
        if row.step != "sending":
            return row
        lock = store.lock(base_url, lock_key(job_key))
        if lock is not None:
            store.unlock(lock)
            return await insist(lambda: store.by_key(base_url, job_key), tools)
        if tools.clock.monotonic() >= give_up:
            raise Unavailable(
                f"Another process is submitting the job key {job_key!r} right now.",
                code="job_key_busy",
            )
        await tools.clock.sleep(0.1)


def _id_of(row: Row | None, target: Target, base_url: str) -> str:
    if row is None or row.step == "intent":
        what = "No job" if target.job_key is None else f"No job with the key {target.job_key!r}"
        raise NotFound(
            f"{what} was submitted to {base_url} from here.",
            hint="`oaibg show --list` has the jobs that were.",
        )
    if row.response_id is None:
        raise OutcomeUnknown(
            "A request was sent, and its answer was never stored: the job may be running and may "
            "be billed.",
            hint="Do not blindly submit again. With --job-key, --resubmit-unknown decides for it.",
        )
    return row.response_id


async def _kept(job: Job, tools: Tools) -> tuple[Payload | None, Source]:
    """What is kept of a job that has ended.

    One that was cancelled may still turn out to have completed: the API is asked once more.
    """
    local = await local_copy(job, tools)
    if local is not None and local.status == "cancelled":
        left = tools.deadline(job) - tools.clock.monotonic()
        with suppress(CallFailed, OaibgError):
            api = await tools.connect()
            seconds = min(_GLANCE_SECONDS, max(left, polling.LEAST_LOOK))
            payload = await api.retrieve(str(job.response_id), seconds)
            job.answered, job.status = True, payload.status
            return payload, "api"
    return local, "local"


async def _look(api: Calls, job: Job, tools: Tools) -> tuple[Payload, Source]:
    """A job as the API has it, or its local copy where the API can't or won't tell."""
    try:
        return await ask(api.retrieve, job, tools), "api"
    except (CallFailed, Unavailable) as failure:
        local = await local_copy(job, tools)
        if local is not None:
            return local, "local"
        if isinstance(failure, Unavailable):
            raise
        if is_missing(failure):
            raise not_found(job, failure) from failure
        if failure.http_status in (403, 407):
            raise _unasked(failure) from failure
        raise ApiRefused(
            failure.message,
            code=failure.code,
            http_status=failure.http_status,
            request_id=failure.request_id,
        ) from failure


async def ask(call: Callable[[str, float], Awaitable[T]], job: Job, tools: Tools) -> T:
    """A call that may be repeated, until it is answered or patience ends.

    Raises:
        AuthRefused: the key is refused.
        Unavailable: no answer, and it was asked for long enough.
        CallFailed: the API answered, and says no.
    """
    give_up = tools.clock.monotonic() + _ASK_SECONDS
    attempt = cut_short = 0
    while True:
        attempt += 1
        try:
            return await call(str(job.response_id), polling.request_timeout(cut_short, math.inf))
        except CallFailed as failure:
            cut_short = cut_short + 1 if failure.begun else 0
            if is_auth(failure):
                raise auth_error(failure) from failure
            bare = failure.http_status == 404 and not failure.envelope and attempt <= _BARE_404S
            if not bare and not is_passing(failure):
                raise
            asked = polling.retry_after(failure.retry_after, tools.clock.now())
            delay = polling.create_delay(attempt, asked, tools.clock.random())
            patient = 0 < cut_short < _LONG_ANSWERS
            if tools.clock.monotonic() + delay >= give_up and not patient:
                raise _unasked(failure) from failure
        await tools.clock.sleep(delay)


def _unasked(failure: CallFailed) -> Unavailable:
    return Unavailable(
        f"The API could not be asked: {failure.message}",
        http_status=failure.http_status,
        request_id=failure.request_id,
        hint=passing_hint(failure),
    )
