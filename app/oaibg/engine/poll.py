"""Follows a job to its end: polls it, and reads its stream between two polls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from oaibg.api.payload import RUNNING
from oaibg.contract.errors import CallFailed
from oaibg.engine import report
from oaibg.engine.fetch import is_known_gone, not_found, retrieve
from oaibg.engine.hints import is_openai
from oaibg.engine.look_verdicts import (
    is_outage,
    is_surely_missing,
    look_refused,
    not_retrievable,
)
from oaibg.engine.near_names import resembles_key
from oaibg.engine.outage import blocked, may_be_lost, no_answer
from oaibg.engine.patience import BLOCKED_AFTER, MIN_RETRIEVE_SECONDS, Patience
from oaibg.engine.persist import may_have_changed, readable_copy, remember_payload
from oaibg.engine.verdicts import is_missing

if TYPE_CHECKING:
    from oaibg.api.calls import Stream
    from oaibg.api.payload import Payload
    from oaibg.base.clock import Clock
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.engine.listen import Listener

HEARTBEAT = 60.0
"""Seconds between two `poll` events with `--events changes` while nothing changes."""

_BACKOFF_MAX, _OUTAGE_MAX = 60.0, 20.0
"""Maximum seconds between two failed polls. The second applies while the server is down: it may
have lost the job when it is up again."""

_CONFIRM_INTERVAL = 5.0
"""Maximum seconds between two retrieves that only confirm that the job can't be had."""

_START_MAX = 5.0
"""At most this many seconds before the first poll count towards `BLOCKED_AFTER`."""


class End(NamedTuple):
    """A job's last payload, and whether it is the local copy."""

    payload: Payload
    is_local: bool = False


class PollTimes:
    """When a job is polled: the seconds between two polls, and the seconds before the first one.

    `spread` is the fraction of an interval after which the first regular poll comes. In a run it
    distributes the jobs' polls evenly over the interval.
    """

    def __init__(self, interval: float, *, first: float = 0.0, spread: float | None = None) -> None:
        self.interval, self.first, self._spread = interval, first, spread

    def next(self, began: float, now: float) -> float:
        """The time of the next poll, after a poll that began at `began` and ended at `now`."""
        if self._spread is None:
            return now + self.interval
        # Counted from the last poll's beginning; otherwise the polls of many jobs would bunch up.
        due = began + self.interval * self._spread
        self._spread = 1.0
        return max(due, now + self.interval / 2) if due < now else due

    async def sleep(self, clock: Clock, seconds: float, limit: float) -> None:
        """Wait for the next poll, which was due in `seconds`, but for at most `limit`."""
        await clock.sleep(max(min(seconds, limit), 0.0))

    def note_end(self, seconds: float | None, now: float) -> None:
        """Note that the job has ended, by the API after `seconds`, which are whole ones."""

    def forget(self) -> None:
        """Note that the job is no longer polled."""


async def follow(
    job: Job, context: Context, times: PollTimes, *, delay: float, stream: Stream | None = None
) -> End | None:
    """Poll until the job ends; return None if the wait limit is reached first.

    A failed poll is never the job's failure. With `--stream`, the stream is read between two polls,
    which reports most ends sooner; `stream` is the one that the create opened.

    Raises:
        NotFound: the API does not have the job, and there is no local copy.
        AuthRefused, ApiRefused: the key or the place was refused twice in a row.
        NotRetrievable: the server has no retrieve, or refuses every retrieve of the job.
        Unavailable: no request succeeded in the first minute, or none can.
    """
    api = await context.connect()
    if not job.streams:
        return await _Poller(job, context, times, None).run(delay)
    from oaibg.engine.listen import Listener

    listener = Listener(job, context, api, stream)
    try:
        return await _Poller(job, context, times, listener).run(delay)
    finally:
        await listener.close()


class _Poller:
    def __init__(
        self, job: Job, context: Context, times: PollTimes, listener: Listener | None
    ) -> None:
        self._job, self._context, self._times = job, context, times
        self._listener = listener
        self._attempt = 0
        self._line_at, self._line_status = -math.inf, ""
        """When the last `poll` event was emitted, and with which status."""
        self._out_since: float | None = None
        """When the server was found to be down, until that is reported."""
        self._warned: bool | None = None
        """Whether the last warning of an unknown status said that there is output."""
        # Counted from the start of the process, except for a job that had to wait for its turn.
        clock = context.clock
        since = max(context.started, clock.monotonic() - _START_MAX)
        self._patience = Patience(
            clock,
            deadline=context.deadline,
            give_up=since + BLOCKED_AFTER,
            existed=job.answered or job.is_known,
        )

    async def run(self, delay: float) -> End | None:
        """As `follow`; the first poll comes after `delay` seconds."""
        job, context, patience = self._job, self._context, self._patience
        clock = context.clock
        while True:
            if self._is_streaming() or context.shared.answered:
                patience.give_up_at(math.inf)
            reply: Payload | None = None
            if self._listener is None and not patience.failures:
                await self._times.sleep(clock, delay, patience.remaining())
            elif self._listener is None:
                await clock.sleep(max(min(delay, patience.remaining()), 0.0))
            else:
                end = await self._listener.listen(delay, patience.limit)
                if end is not None:
                    return End(await self._listener.completed(end))
                if self._listener.received:
                    patience.answered()
                reply = self._listener.reply
            # Even if the start took until the wait limit, the job is retrieved once.
            if clock.monotonic() >= patience.deadline and (self._attempt or job.answered):
                await self._check_unanswered()
                return None
            if clock.monotonic() >= patience.give_up:
                raise blocked(patience.last)
            self._attempt, began = self._attempt + 1, clock.monotonic()
            try:
                least = MIN_RETRIEVE_SECONDS if self._attempt == 1 else 0.0
                timeout = patience.timeout(max(patience.remaining(), least))
                payload = reply or await retrieve(job, context, timeout)
            except CallFailed as failure:
                patience.failed(failure)
                if (last := await self._end_after(failure)) is not None:
                    return last
                delay = await self._report_failure(failure, delay)
                continue
            patience.answered()
            context.note_answer(job)
            context.shared.note_retrieved()
            if not payload.ended:
                due = self._times.next(began, clock.monotonic())
                delay = max(min(due, patience.deadline) - clock.monotonic(), 0.0)
            await self._report(payload, delay)
            await self._warn_after_outage(payload)
            if payload.ended:
                if self._listener is not None:
                    await self._listener.read_rest(patience.deadline)
                    payload = await self._listener.completed(payload)
                return End(payload)
            del payload, reply  # they would only take memory until the next poll

    def _is_streaming(self) -> bool:
        """Whether the job's stream shows that the job exists, whatever its retrieves say."""
        return self._listener is not None and self._listener.is_alive()

    async def _end_after(self, failure: CallFailed) -> End | None:
        """Return the end, or raise the error that ends the wait; None if polling continues."""
        patience = self._patience
        if patience.refusal is not None:
            raise patience.refusal from failure
        if self._is_streaming():
            return None
        local = await readable_copy(self._job, self._context)
        is_lost = is_missing(failure) or patience.is_unretrievable
        if local is not None and (is_lost or not may_have_changed(local)):
            return await self._local_end(local, failure)
        if (
            self._is_mistyped(failure)
            or patience.is_gone
            or (patience.is_gone_again and await self._was_gone())
        ):
            streamed = await self._streamed_end()
            if streamed is None:
                certain = is_surely_missing(failure)
                raise await not_found(failure, self._job, self._context, certain=certain)
            return streamed
        if patience.is_unretrievable or patience.is_rejected:
            streamed = await self._streamed_end()
            if streamed is None:
                refused = not_retrievable if patience.is_unretrievable else look_refused
                raise refused(failure) from failure
            return streamed
        if patience.is_untrusted and patience.give_up < math.inf:
            raise blocked(failure) from failure
        return None

    async def _report_failure(self, failure: CallFailed, delay: float) -> float:
        """Emit a `poll_error`; return the seconds until the next poll."""
        patience, now = self._patience, self._context.clock.monotonic()
        self._line_status = ""  # so that the next success is reported
        if now >= patience.deadline:
            return delay
        interval, longest = self._times.interval, _BACKOFF_MAX
        if is_outage(failure):
            longest = _OUTAGE_MAX
        if is_outage(failure) or patience.has_resets:
            self._out_since = self._out_since or now
        if patience.is_denied:  # a 404 or 405 is confirmed soon
            interval, longest = min(interval, _CONFIRM_INTERVAL), _CONFIRM_INTERVAL
        elif not self._job.answered:
            interval = min(interval, 10.0)
        delay = patience.delay(interval, max(interval, longest))
        event = report.poll_error(
            failure,
            self._job,
            self._context,
            attempt=self._attempt,
            consecutive=patience.failures,
            delay=min(delay, patience.remaining()),
        )
        await self._context.emit(event)
        return delay

    async def _report(self, payload: Payload, delay: float) -> None:
        job, context = self._job, self._context
        changed = payload.status != job.status
        job.note_status(payload.status)
        if job.is_run:
            job.note_counts(payload.object("request_counts"))
        if changed and not payload.ended:
            await remember_payload(payload, job, context)
        if self._is_due(payload):
            following = None if payload.ended else delay
            event = report.poll(job, context, attempt=self._attempt, next_poll=following)
            await context.emit(event)
        if not payload.ended and payload.status not in RUNNING:
            await self._warn_of_status(payload)

    async def _warn_of_status(self, payload: Payload) -> None:
        """Warn once of an unknown status, and once more when there is output."""
        has_output = bool(payload.answer.types)
        if self._warned == has_output or self._warned:
            return
        self._warned = has_output
        job, status = self._job, payload.status
        what = "no status" if status is None else f"the unknown status {status!r}"
        message = f"The response has {what}; the job counts as running."
        if has_output:
            command = f"oaibg show {job.response_id} --output-text"
            message += f" Its output is already there: `{command}` prints it."
        await self._context.emit(report.problem(job, "unknown_status", message))

    async def _warn_after_outage(self, payload: Payload) -> None:
        """Warn once that the job may be lost, if it runs on after the server was down."""
        since, base_url = self._out_since, self._context.base_url
        if since is None or payload.ended or is_openai(base_url):
            return
        self._out_since = None
        if not self._context.shared.is_first("may_be_lost"):
            return
        seconds = self._context.clock.monotonic() - since
        await self._context.emit(may_be_lost(self._job, payload, seconds))

    async def _check_unanswered(self) -> None:
        """Warn if no request succeeded before the wait limit, or raise `NotFound`."""
        failure, shared = self._patience.last, self._context.shared
        if failure is None or self._job.answered:
            return
        if self._job.is_unknown and self._patience.found_nothing:
            raise await not_found(failure, self._job, self._context)
        if not shared.answered and shared.is_first("no_answer"):
            await self._context.emit(no_answer(self._job, failure))

    def _is_due(self, payload: Payload) -> bool:
        now = self._context.clock.monotonic()
        news = payload.ended or payload.status != self._line_status
        if self._context.wait.events == "all" or news or now >= self._line_at + HEARTBEAT:
            self._line_at, self._line_status = now, str(payload.status)
            return True
        return False

    def _is_mistyped(self, failure: CallFailed) -> bool:
        """Whether the ID is a mistyped key, so that the job will not appear in a moment."""
        job, context = self._job, self._context
        if not (job.doubt and is_surely_missing(failure) and job.suggestion):
            return False
        return resembles_key(str(job.response_id), context.store, context.base_url)

    async def _was_gone(self) -> bool:
        """Whether the 404s only confirm what the local state has recorded."""
        return await is_known_gone(self._job, self._context)

    async def _local_end(self, local: Payload, failure: CallFailed) -> End:
        job = self._job
        job.note_status(local.status)
        lost = "The API no longer has this response"
        why = lost if is_missing(failure) else f"The API gave no usable reply ({failure.message})"
        message = f"{why}; the local copy of the result follows."
        await self._context.emit(report.warning(job, "local_copy", message))
        return End(local, is_local=True)

    async def _streamed_end(self) -> End | None:
        """The result that the stream's last event had, if nothing else can be had."""
        payload = await self._listener.last_resort() if self._listener is not None else None
        if payload is None:
            return None
        self._job.note_status(payload.status)
        return End(payload)
