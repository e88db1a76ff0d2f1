"""Decides when to retry and when to give up, for every loop with a growing delay."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeVar

from oaibg.contract.errors import CallFailed, Unavailable
from oaibg.engine.hints import passing_hint
from oaibg.engine.look_verdicts import is_surely_missing, refuses_look
from oaibg.engine.verdicts import (
    CERTIFICATE,
    access_error,
    cannot_retrieve,
    is_missing,
    is_transient,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.base.clock import Clock
    from oaibg.contract.errors import OaibgError

T = TypeVar("T")

BLOCKED_AFTER = 60.0
"""Seconds from the process's start without a successful request after which the network counts as
blocked: an agent must not hang on it."""

NOT_FOUND_COUNT, NOT_FOUND_SECONDS = 3, 15.0
"""A retrieve soon after the create may briefly get a 404, and gateways sometimes send bare 404s. A
404 is believed after this many in a row, over at least this many seconds; so is a 405 or a 501."""

_GONE_AGAIN = 2, 3.0
"""As above, for a job that the local state has recorded as not found: that may have been too early.
"""

_BARE_GONE = 10, 300.0
"""As above, for bare 404s of a job that the API had: the gateway may have lost the server."""

UNTRUSTED_COUNT = 3
"""How many requests in a row may meet a certificate that can't be verified."""

REQUEST_TIMEOUT = 30.0

REPLY_GRACE = 5.0
"""Seconds to wait for a create's reply after a signal or the wait limit, so that a paid ID is not
lost."""

MIN_RETRIEVE_SECONDS = 1.0
"""Minimum timeout of a job's first retrieve, even if the wait limit was reached before it began."""

RETRY_SECONDS = 20.0
"""Seconds after which a single retrieve or a cancel is no longer retried."""

BACKOFF_MAX = 30.0
"""Maximum seconds between two attempts, unless the server or the poll interval asks for more."""

_LEAST_TIMEOUT, _TIMEOUT_MAX = 5.0, 600.0
_RETRY_AFTER_MAX = 600.0
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")

_CUT_REPLIES_MAX = 4
"""After this many timeouts in a row that cut off a reply, there are no extra attempts."""

_BARE_404S = 2
"""How many 404s without the API's envelope, as gateways send, a single retrieve ignores."""


class Patience:
    """Counts the failures in a row of one loop's requests, and decides what follows from them.

    `deadline` is when the wait limit is reached; `give_up` is when the failures have lasted too
    long, and a success sets it to infinity. Both are times on the monotonic clock. `existed` is
    whether the API is known to have had the job.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        deadline: float = math.inf,
        give_up: float = math.inf,
        existed: bool = False,
    ) -> None:
        self._clock = clock
        self._existed = existed
        self.deadline = deadline
        self.give_up = give_up
        self.failures = 0
        """The number of failures in a row."""
        self.last: CallFailed | None = None
        self._has_answered = False
        self._missing, self._unretrievable = Streak(is_missing), Streak(cannot_retrieve)
        self._cut_short = Streak(lambda failure: failure.begun)
        self._refused = Streak(lambda failure: access_error(failure) is not None)
        self._rejected = Streak(refuses_look)
        self._surely_missing = Streak(is_surely_missing)
        self._resets = Streak(lambda failure: failure.code == "connection_error")
        self._streaks = (
            self._rejected,
            self._surely_missing,
            self._resets,
            self._missing,
            self._unretrievable,
            self._cut_short,
            self._refused,
        )

    @property
    def limit(self) -> float:
        """When to stop at the latest, on the monotonic clock."""
        return min(self.deadline, self.give_up)

    def remaining(self) -> float:
        """Seconds until `limit`."""
        return self.limit - self._clock.monotonic()

    def give_up_at(self, moment: float) -> None:
        """Set when the failures have lasted too long."""
        self.give_up = moment

    def answered(self) -> None:
        """Note a success, which resets everything."""
        self.failures, self._has_answered = 0, True
        self.last, self.give_up = None, math.inf
        for streak in self._streaks:
            streak.end()

    def failed(self, failure: CallFailed) -> None:
        """Count one more failure."""
        self.failures += 1
        self.last = failure
        for streak in self._streaks:
            streak.note(failure, self._clock.monotonic())

    @property
    def refusal(self) -> OaibgError | None:
        """The error to report if access was refused twice in a row, else None."""
        if self.last is None or self._refused.count < 2:
            return None
        return access_error(self.last, resumable=True)

    @property
    def is_denied(self) -> bool:
        """Whether the last failure says that the response can't be had, so that few more matter."""
        refused = self._rejected.count or self._unretrievable.count
        return bool(self._missing.count or (refused and not self._has_answered))

    @property
    def found_nothing(self) -> bool:
        """Whether every request so far got the API's own 404."""
        return 0 < self.failures == self._surely_missing.count and not self._has_answered

    @property
    def is_gone(self) -> bool:
        """Whether enough 404s came over a long enough time to believe them.

        Once the API had the job, bare 404s, as gateways send, are believed much later.
        """
        now = self._clock.monotonic()
        bare = _BARE_GONE if self._existed or self._has_answered else ()
        return self._surely_missing.is_believed(now) or self._missing.is_believed(now, *bare)

    @property
    def is_gone_again(self) -> bool:
        """Whether there were enough 404s to believe that a job is still gone."""
        return self._surely_missing.is_believed(self._clock.monotonic(), *_GONE_AGAIN)

    @property
    def is_unretrievable(self) -> bool:
        """Whether the server has no retrieve, as far as the last failures show."""
        now = self._clock.monotonic()
        return not self._has_answered and self._unretrievable.is_believed(now)

    @property
    def is_rejected(self) -> bool:
        """Whether the server refused every retrieve, and often enough to believe it."""
        return not self._has_answered and self._rejected.is_believed(self._clock.monotonic())

    @property
    def has_resets(self) -> bool:
        """Whether connections broke several times in a row; one may break by chance."""
        return self._resets.count > 1

    @property
    def is_untrusted(self) -> bool:
        """Whether several requests in a row met a certificate that can't be verified."""
        failure = self.last
        untrusted = failure is not None and failure.code == CERTIFICATE
        return untrusted and self.failures >= UNTRUSTED_COUNT

    @property
    def doubts_last(self) -> bool:
        """Whether the last failure was a 404 from a gateway, which a single retrieve ignores."""
        failure = self.last
        bare = failure is not None and failure.http_status == 404 and not failure.envelope
        return bare and self.failures <= _BARE_404S

    def is_over(self, delay: float) -> bool:
        """Whether to give up instead of retrying after `delay` seconds.

        A reply that was arriving when its time was up gets extra attempts.
        """
        if 0 < self._cut_short.count < _CUT_REPLIES_MAX:
            return False
        return self._clock.monotonic() + delay >= self.give_up

    def delay(self, first: float = 1.0, longest: float = BACKOFF_MAX) -> float:
        """Seconds until the next attempt; they double with each failure, and have some jitter.

        `Retry-After` may ask for more than `longest`.
        """
        grown = min(first * 2.0 ** min(self.failures - 1, 30), longest)
        return max(grown * (0.75 + self._clock.random() / 2), self.retry_after() or 0.0)

    def retry_after(self) -> float | None:
        """The `Retry-After` seconds of the last failure; None without the header."""
        header = self.last.retry_after if self.last is not None else None
        return retry_after(header, self._clock.now())

    def timeout(self, remaining: float = math.inf) -> float:
        """The timeout in seconds of the next request, given those that remain to the wait limit.

        It grows while replies are cut short: a large result on a slow line takes longer. A request
        that hangs leaves time for another one.
        """
        grown = min(REQUEST_TIMEOUT * 2.0 ** min(self._cut_short.count, 10), _TIMEOUT_MAX)
        return max(min(grown, remaining, max(remaining / 2, _LEAST_TIMEOUT)), 0.01)


class Streak:
    """Counts the last failures of one kind in a row. Times are on the monotonic clock."""

    def __init__(self, is_one: Callable[[CallFailed], bool]) -> None:
        self._is_one = is_one
        self._since = 0.0
        self.count = 0
        """The number of these failures since the last success or other failure."""

    def note(self, failure: CallFailed, now: float) -> None:
        """Count a failure; one of another kind ends the streak."""
        self.count = self.count + 1 if self._is_one(failure) else 0
        if self.count == 1:
            self._since = now

    def end(self) -> None:
        """Note a success."""
        self.count = 0

    def is_believed(
        self, now: float, count: int = NOT_FOUND_COUNT, seconds: float = NOT_FOUND_SECONDS
    ) -> bool:
        """Whether there were at least so many of them over at least so many seconds."""
        return self.count >= count and now - self._since >= seconds


async def with_retries(
    call: Callable[[float], Awaitable[T]],
    clock: Clock,
    *,
    deadline: float = math.inf,
    may_pass: Callable[[CallFailed], bool] = is_transient,
) -> T:
    """Make a call that may be repeated, and retry it for about 20 s; `call` takes its timeout.

    Failures that `may_pass` are retried, and a few 404s of gateways.
    Nothing is retried after the `deadline`, and the first attempt then has only a second.

    Raises:
        AuthRefused, ApiRefused: the API refused the key or the place.
        Unavailable: no attempt got a usable reply.
        CallFailed: the API replied with an error that a retry would not change.
    """
    patience = Patience(clock, give_up=clock.monotonic() + RETRY_SECONDS)
    while True:
        remaining = max(deadline - clock.monotonic(), MIN_RETRIEVE_SECONDS)
        try:
            return await call(patience.timeout(remaining))
        except CallFailed as failure:
            patience.failed(failure)
            if (refusal := access_error(failure)) is not None:
                raise refusal from failure
            if failure.code == CERTIFICATE:
                raise no_usable_reply(failure) from failure
            if not patience.doubts_last and not may_pass(failure):
                raise
            delay = patience.delay()
            if patience.is_over(delay) or clock.monotonic() + delay >= deadline:
                raise no_usable_reply(failure) from failure
        await clock.sleep(delay)


def no_usable_reply(failure: CallFailed) -> Unavailable:
    """The error for a call that got no usable reply from the API."""
    message = f"The API gave no usable reply: {failure.message}"
    return Unavailable.of(failure, message, hint=passing_hint(failure))


def retry_after(header: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3), at most ten minutes.

    The header has seconds, or an HTTP date in any of its three forms (all in UTC); anything else
    counts as absent. `now` is in Unix seconds.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = float(text) if _SECONDS.fullmatch(text) else _http_date(text) - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(seconds, _RETRY_AFTER_MAX) if seconds > 0 else None


def _http_date(text: str) -> float:
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    date = parsedate_to_datetime(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
