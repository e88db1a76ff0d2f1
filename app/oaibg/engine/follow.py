"""From an id to the end: polling, and what is done with the result."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from oaibg.api.payload import RUNNING
from oaibg.base.files import save
from oaibg.base.text import has_surrogates, utf8
from oaibg.contract.errors import CallFailed, NotFound, Unavailable
from oaibg.contract.events import OutputText, OutputTextMissing, Poll, WroteJson, WroteText
from oaibg.engine import retry as polling
from oaibg.engine.context import in_thread, local_copy, remember_seen
from oaibg.engine.verdicts import auth_error, is_auth, is_missing, passing_hint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oaibg.api.calls import Calls
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.context import Tools
    from oaibg.engine.job import Job, Results
    from oaibg.engine.listen import Listener

HEARTBEAT = 60.0
"""Seconds between poll lines with `--events changes` while nothing changes."""

_MISSING_INTERVAL = 5.0
_LEAST_ASKING = 5.0
"""Seconds of a start that count as asking."""


async def follow(job: Job, tools: Tools, *, delay: float) -> AsyncIterator[Event]:
    """Poll until the end. A failed poll is never the job's failure.

    With `--stream` the time between two polls is spent listening, which brings most ends sooner.
    """
    api = await tools.connect()
    if not job.streams:
        async for event in _poll(job, tools, api, None, delay):
            yield event
        return
    from oaibg.engine.listen import Listener

    listener = Listener(job, tools, api)
    try:
        async for event in _poll(job, tools, api, listener, delay):
            yield event
    finally:
        await listener.close()


async def _poll(
    job: Job, tools: Tools, api: Calls, listener: Listener | None, delay: float
) -> AsyncIterator[Event]:
    clock, deadline = tools.clock, tools.deadline(job)
    faults, told = _Faults(), _Told(job)
    attempt, warned = 0, False
    # From the start of the process; but who had to wait for its turn has not asked yet.
    asking = max(tools.started, clock.monotonic() - _LEAST_ASKING)
    while True:
        blocked = math.inf if job.run.answered else asking + polling.BLOCKED_AFTER
        limit = min(deadline, blocked)
        answer: Payload | None = None
        if listener is None:
            await clock.sleep(max(min(delay, limit - clock.monotonic()), 0.0))
        else:
            async for event in listener.listen(delay, limit):
                yield event
            if listener.ended is not None:
                async for event in finish(listener.ended, job, tools):
                    yield event
                return
            if listener.heard:
                faults, limit, blocked = _Faults(), deadline, math.inf
            answer = listener.answer
        # A start that took the whole wait budget still leaves one look at a job.
        if clock.monotonic() >= deadline and (attempt or job.answered):
            yield job.timeout(tools.elapsed())
            return
        if clock.monotonic() >= blocked:
            raise _blocked(faults.last)
        attempt, began = attempt + 1, clock.monotonic()
        left = max(limit - clock.monotonic(), polling.LEAST_LOOK if attempt == 1 else 0.0)
        try:
            payload = answer or await api.retrieve(
                str(job.response_id), polling.request_timeout(faults.cut_short, left)
            )
        except CallFailed as failure:
            faults.count(failure, clock.monotonic())
            if faults.is_gone(clock.monotonic()):
                break
            if clock.monotonic() >= deadline:
                continue
            asked = polling.retry_after(failure.retry_after, clock.now())
            interval = faults.interval(job)
            delay = polling.poll_delay(interval, faults.consecutive, asked, clock.random())
            yield job.poll_error(
                failure,
                attempt=attempt,
                elapsed=tools.elapsed(),
                consecutive=faults.consecutive,
                delay=max(min(delay, limit - clock.monotonic()), 0.0),
            )
            continue
        faults, job.answered = _Faults(), True
        due = job.next_poll(began, clock.monotonic())
        delay = max(min(due, deadline) - clock.monotonic(), 0.0)
        changed, job.status = payload.status != job.status, payload.status
        if changed and not payload.ended:
            await remember_seen(payload, job, tools)
        if told.is_due(payload, clock.monotonic()):
            yield Poll(
                response_id=job.response_id,
                attempt=attempt,
                status=payload.status,
                elapsed_seconds=tools.elapsed(),
                next_poll_seconds=None if payload.ended else round(delay, 3),
            )
        if payload.ended:
            if listener is not None:
                async for event in listener.rest(deadline):
                    yield event
            async for event in finish(payload, job, tools):
                yield event
            return
        if payload.status not in RUNNING and not warned:
            warned = True
            yield job.warning(
                "unknown_status",
                f"The status {payload.status!r} is unknown; it is taken for still running.",
            )
        del payload, answer  # until the next poll they would only take memory
    async for event in _gone(job, tools, faults.last):
        yield event


class _Told:
    """Which polls are told: all, or with `changes` the news and a heartbeat."""

    def __init__(self, job: Job) -> None:
        self._all = job.wait.events == "all"
        self._at, self._status = -math.inf, ""

    def is_due(self, payload: Payload, now: float) -> bool:
        """Whether to tell this one; taken as told then."""
        news = payload.ended or payload.status != self._status
        if self._all or news or now >= self._at + HEARTBEAT:
            self._at, self._status = now, str(payload.status)
            return True
        return False


class _Faults:
    """Failed polls in a row, and what they come to."""

    def __init__(self) -> None:
        self.consecutive = self.cut_short = self.missing = self.refused = 0
        self.last: CallFailed | None = None
        self._missing_since = 0.0

    def count(self, failure: CallFailed, now: float) -> None:
        """Take one more; raises `AuthRefused` where the key is refused twice in a row."""
        self.consecutive += 1
        self.last = failure
        self.cut_short = self.cut_short + 1 if failure.begun else 0
        self.refused = self.refused + 1 if is_auth(failure) else 0
        if not is_missing(failure):
            self.missing = 0
        else:
            self.missing += 1
            if self.missing == 1:
                self._missing_since = now
        if self.refused >= 2:
            raise auth_error(failure, resumable=True)

    def interval(self, job: Job) -> float:
        """The interval from which the next delay grows: short while it is no use to be patient."""
        if self.missing:
            return min(job.wait.poll_seconds, _MISSING_INTERVAL)
        return job.wait.poll_seconds if job.answered else min(job.wait.poll_seconds, 10.0)

    def is_gone(self, now: float) -> bool:
        """Whether enough 404s came over a time that is long enough."""
        return (
            self.missing >= polling.NOT_FOUND_COUNT
            and now - self._missing_since >= polling.NOT_FOUND_SECONDS
        )


def _blocked(failure: CallFailed | None) -> Unavailable:
    reason = f": {failure.message}" if failure else ""
    return Unavailable(
        f"No successful answer in the first {polling.BLOCKED_AFTER:.0f} s{reason}. "
        "The job is not affected.",
        http_status=failure.http_status if failure else None,
        request_id=failure.request_id if failure else None,
        hint=passing_hint(failure),
        resumable=True,
    )


async def _gone(job: Job, tools: Tools, failure: CallFailed | None) -> AsyncIterator[Event]:
    """The API has let go of the job: its end from the local copy, or the news."""
    payload = await local_copy(job, tools)
    if payload is None:
        raise not_found(job, failure)
    job.status = payload.status
    yield job.warning("local_copy", "The API no longer has this response; this is the local copy.")
    async for event in finish(payload, job, tools, local=True):
        yield event


def not_found(job: Job, failure: CallFailed | None) -> NotFound:
    """The error for an id that the API does not have, and of which no local copy is kept."""
    return NotFound(
        f"No such response: {failure.message if failure else job.response_id}",
        http_status=failure.http_status if failure else None,
        request_id=failure.request_id if failure else None,
        hint="Check the id, OPENAI_BASE_URL and the key's project; `oaibg show --list` has the "
        "jobs that were submitted here.",
    )


async def finish(
    payload: Payload, job: Job, tools: Tools, *, local: bool = False
) -> AsyncIterator[Event]:
    """Keep the result, hand it out as asked, and tell the end. Partial output counts too."""
    if not local:
        await remember_seen(payload, job, tools)
    job.payload = payload
    async for event in hand_out(payload, job):
        yield event
    yield job.final(payload, tools.elapsed())


async def hand_out(payload: Payload, job: Job) -> AsyncIterator[Event]:
    """Write the files that were asked for and tell the text; what fails is a warning."""
    output = job.output
    if job.results is not None:
        async for warning in _add_result(job.results, payload, job):
            yield warning
    if output.json_file is not None:
        yield await _write_file(output.json_file, payload.raw, WroteJson, job)
    if output.text_file is None and not output.shows_text:
        return
    text = payload.text
    if not text:
        yield OutputTextMissing(response_id=job.response_id, status=payload.status)
        return
    data = utf8(text)
    if output.text_file is not None:
        if has_surrogates(text):
            yield job.warning(
                "text_replaced", "The text has lone surrogates; they are U+FFFD in the text file."
            )
        yield await _write_file(output.text_file, data, WroteText, job)
    if output.shows_text:
        yield OutputText(response_id=job.response_id, text=text, bytes=len(data))


async def _add_result(results: Results, payload: Payload, job: Job) -> AsyncIterator[Event]:
    try:
        await results.add_payload(str(job.custom_id), payload)
    except OSError as error:
        yield job.not_written(results.path, error)


async def _write_file(
    path: str, data: bytes, wrote: type[WroteJson | WroteText], job: Job
) -> Event:
    try:
        await in_thread(save, path, data)
    except OSError as error:
        return job.not_written(path, error)
    return wrote(
        response_id=job.response_id,
        path=path,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
