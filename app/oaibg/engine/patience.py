"""When to ask again, and when to stop: one `Patience` for every loop whose tries grow rarer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from oaibg.contract.errors import CallFailed, Unavailable
from oaibg.engine.verdicts import auth_error, is_auth, is_missing, is_transient, passing_hint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.base.clock import Clock

T = TypeVar("T")

BLOCKED_AFTER = 60.0
"""Seconds from the process's start without any successful answer, after which the network counts
as blocked: an agent must not hang on it."""

NOT_FOUND_COUNT, NOT_FOUND_SECONDS = 3, 15.0
"""A retrieve soon after the create may answer 404 for a moment, and gateways answer bare 404s now
and then: a 404 is believed after this many in a row, over at least this long."""

REQUEST_TIMEOUT = 30.0

REPLY_GRACE = 5.0
"""Seconds that a create's reply is waited for after a signal or a deadline, so that a paid id is
not thrown away."""

LEAST_LOOK = 1.0
"""Seconds that a look takes at least, even if the wait was over before it began."""

ASK_SECONDS = 20.0
"""Seconds after which a single look or a cancel is not tried again."""

BACKOFF_MAX = 30.0
"""Seconds between two tries at most, if neither the server nor the poll interval asks for more."""

_LEAST_TIMEOUT, _TIMEOUT_MAX = 5.0, 600.0
_RETRY_AFTER_MAX = 600.0

_LONG_ANSWERS = 4
"""Extra tries end after this many timeouts in mid-answer in a row; each try doubles the time."""

_BARE_404S = 2
"""Answers of 404 without the API's envelope, as gateways give now and then, that a single look
does not believe."""


class Patience:
    """How often asking has failed in a row, and what follows from that.

    `deadline` is when the run's wait is over, and `give_up` when asking in vain has gone on for
    too long: times on the monotonic clock. An answer lifts the latter.
    """

    def __init__(
        self, clock: Clock, *, deadline: float = math.inf, give_up: float = math.inf
    ) -> None:
        self._clock = clock
        self.deadline = deadline
        self.give_up = give_up
        self.failures = 0
        """Failures in a row."""
        self.last: CallFailed | None = None
        self.missing = 0
        """How many of the last ones said that there is no such response."""
        self._missing_since = 0.0
        self._cut_short = 0
        self._refused = 0

    @property
    def limit(self) -> float:
        """When to stop asking at the latest, on the monotonic clock."""
        return min(self.deadline, self.give_up)

    def left(self) -> float:
        """Seconds until then."""
        return self.limit - self._clock.monotonic()

    def give_up_at(self, moment: float) -> None:
        """Set when asking in vain has gone on for too long."""
        self.give_up = moment

    def answered(self) -> None:
        """Start afresh: there was an answer."""
        self.failures = self.missing = self._cut_short = self._refused = 0
        self.last, self.give_up = None, math.inf

    def failed(self, failure: CallFailed) -> None:
        """Count one more failure."""
        self.failures += 1
        self.last = failure
        self._cut_short = self._cut_short + 1 if failure.begun else 0
        self._refused = self._refused + 1 if is_auth(failure) else 0
        self.missing = self.missing + 1 if is_missing(failure) else 0
        if self.missing == 1:
            self._missing_since = self._clock.monotonic()

    @property
    def is_refused(self) -> bool:
        """Whether the key was refused twice in a row."""
        return self._refused >= 2

    @property
    def is_gone(self) -> bool:
        """Whether enough 404s came, over a time that is long enough, to believe them."""
        since = self._clock.monotonic() - self._missing_since
        return self.missing >= NOT_FOUND_COUNT and since >= NOT_FOUND_SECONDS

    @property
    def doubts_last(self) -> bool:
        """Whether a single look should not believe the last answer: a 404 from a gateway."""
        failure = self.last
        bare = failure is not None and failure.http_status == 404 and not failure.envelope
        return bare and self.failures <= _BARE_404S

    def is_over(self, delay: float) -> bool:
        """Whether there is no use in asking again after `delay` seconds.

        A long answer that had begun when its time was over gets more tries.
        """
        if 0 < self._cut_short < _LONG_ANSWERS:
            return False
        return self._clock.monotonic() + delay >= self.give_up

    def delay(self, first: float = 1.0, longest: float = BACKOFF_MAX) -> float:
        """Seconds until the next try: twice as many with each failure, and some jitter.

        `Retry-After` may ask for more than the `longest`.
        """
        grown = min(first * 2.0 ** min(self.failures - 1, 30), longest)
        return max(grown * (0.75 + self._clock.random() / 2), self.retry_after() or 0.0)

    def retry_after(self) -> float | None:
        """The seconds that the last failure asks for, if it does."""
        header = self.last.retry_after if self.last is not None else None
        return retry_after(header, self._clock.now())

    def timeout(self, remaining: float = math.inf) -> float:
        """Seconds that the next request may take in all, of those that remain to the deadline.

        A large result on a slow line needs more with each try. A request that hangs leaves some for
        another one.
        """
        grown = min(REQUEST_TIMEOUT * 2.0 ** min(self._cut_short, 10), _TIMEOUT_MAX)
        return max(min(grown, remaining, max(remaining / 2, _LEAST_TIMEOUT)), 0.01)


async def ask(call: Callable[[float], Awaitable[T]], clock: Clock) -> T:
    """Make a call that may be repeated, until it is answered or patience ends.

    `call` takes the seconds that it may last.

    Raises:
        AuthRefused: the key is refused.
        Unavailable: no answer for too long.
        CallFailed: the API answered with an error that a retry would not change.
    """
    patience = Patience(clock, give_up=clock.monotonic() + ASK_SECONDS)
    while True:
        try:
            return await call(patience.timeout())
        except CallFailed as failure:
            patience.failed(failure)
            if is_auth(failure):
                raise auth_error(failure) from failure
            if not patience.doubts_last and not is_transient(failure):
                raise
            delay = patience.delay()
            if patience.is_over(delay):
                raise unasked(failure) from failure
        await clock.sleep(delay)


def unasked(failure: CallFailed) -> Unavailable:
    """The error if the API could not be reached."""
    message = f"The API could not be asked: {failure.message}"
    return Unavailable.of(failure, message, hint=passing_hint(failure))


def retry_after(header: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3), at most ten minutes.

    It has seconds, or an HTTP date in any of its three forms (which all are in UTC); anything else
    counts as absent. `now` is in Unix seconds.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = float(text) if text[:1].isdecimal() else _http_date(text) - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(seconds, _RETRY_AFTER_MAX) if seconds > 0 else None


def _http_date(text: str) -> float:
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    date = parsedate_to_datetime(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
