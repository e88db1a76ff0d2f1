"""A server on a fake clock: its replies come from scripts, and it logs every call."""

from __future__ import annotations

import asyncio
import calendar
import json
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from harness import FakeClient, FakeClock, response
from oaibg.api.payload import Payload
from oaibg.contract.errors import CallFailed
from strategies import is_plain_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence


FOREVER = 1e9
OWN_CODES = frozenset(
    {"server_is_overloaded", "insufficient_quota", "rate_limit_exceeded", "model_not_found"}
)
CERTAIN = frozenset({401, 403, 404, 405, 407, 413, 414, 429, 431})
"""Statuses that create nothing, whoever sent them: the texts here are not JSON."""


Raising = partial[CallFailed]


@dataclass(frozen=True)
class Answer:
    """The result of one call: bytes or a failure, after seconds of connecting and of waiting."""

    brings: bytes | Raising
    connecting: float = 0.0
    answering: float = 0.0
    begun: bool = False
    """Whether the reply had begun to arrive when the call timed out."""


@dataclass
class Call:
    """A call in the server's log; times are the fake clock's."""

    name: str
    at: float
    end: float = 0.0
    sent: bool = False
    failure: CallFailed | None = None
    payload: Payload | None = None

    @property
    def may_have_created(self) -> bool:
        """Whether a job may exist after this create, because no reply rules it out."""
        failure = self.failure
        if not self.sent or failure is None:
            return self.sent
        status = failure.http_status
        if status is None or status in (303, 408):
            return True
        if failure.code in OWN_CODES and failure.envelope and status < 500:
            return False
        if status < 300 or status >= 500:
            return not (status == 503 and failure.code == "server_is_overloaded")
        # A server between may have passed the request on before it sent a 4xx of its own.
        # A 404 or 405 that speaks of an overloaded server is not just a wrong address.
        is_other = status in (404, 405) and failure.code == "server_is_overloaded"
        is_certain = status in CERTAIN and not is_other
        return status >= 400 and not failure.envelope and not is_certain


class Clock(FakeClock):
    """A fake clock with an alarm, for events in the middle of a call or a wait."""

    def __init__(self) -> None:
        super().__init__()
        self.alarm_at = FOREVER
        self.alarm: Callable[[], object] | None = None

    async def sleep(self, seconds: float) -> None:
        """Advance the time without waiting."""
        self.time += seconds
        if self.alarm is not None and self.time >= self.alarm_at:
            alarm, self.alarm = self.alarm, None
            alarm()
        await asyncio.sleep(0)


class Server(FakeClient):
    """A client that replies from endless scripts and rejects what the real client rejects."""

    def __init__(self, clock: FakeClock, **scripts: Iterator[Answer]) -> None:
        super().__init__(clock)
        self.scripts = scripts
        self.log: list[Call] = []

    async def create(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> Payload:
        """Return a payload with a valid ID."""
        assert body["background"] is True
        with self._call("create") as call:
            payload = _read(await self._bring(call, timeout, on_sending))
            if payload is None or payload.id is None or not is_plain_id(payload.id):
                raise CallFailed("bad_reply", "no id", http_status=200)
            call.payload = payload
            return payload

    async def retrieve(
        self,
        response_id: str,
        timeout: float,
        include: Sequence[str] = (),
        *,
        is_batch: bool = False,
    ) -> Payload:
        """Return a payload with a status."""
        assert not is_batch
        assert is_plain_id(response_id)
        self.includes.append(tuple(include))
        with self._call("retrieve") as call:
            payload = _read(await self._bring(call, timeout))
            if payload is None or payload.status is None:
                raise CallFailed("bad_reply", "no status", http_status=200)
            call.payload = payload
            return payload

    async def cancel(  # type: ignore[override] # the real client may return None, too
        self, response_id: str, timeout: float, *, is_batch: bool = False
    ) -> Payload | None:
        """Return a payload with a status, or None."""
        assert not is_batch
        assert is_plain_id(response_id)
        with self._call("cancel") as call:
            payload = _read(await self._bring(call, timeout))
            call.payload = payload if payload and payload.status is not None else None
            return call.payload

    @contextmanager
    def _call(self, name: str) -> Iterator[Call]:
        call = Call(name, self.clock.time)
        self.log.append(call)
        try:
            yield call
        except CallFailed as failure:
            call.failure = failure
            raise
        finally:
            call.end = self.clock.time

    async def _bring(
        self, call: Call, timeout: float, on_sending: Callable[[], Awaitable[None]] | None = None
    ) -> bytes:
        answer = next(self.scripts[call.name])
        raising = answer.brings if isinstance(answer.brings, partial) else None
        await self.clock.sleep(min(answer.connecting, timeout))
        if raising is not None and not raising.keywords["sent"]:
            raise raising()
        left = timeout - answer.connecting
        if left <= 0:
            raise CallFailed("connect_timeout", "no connection", sent=False)
        if on_sending is not None:
            await on_sending()
        call.sent = True
        await self.clock.sleep(min(answer.answering, left))
        if answer.answering >= left:
            raise CallFailed("timeout", "no answer", begun=answer.begun)
        if raising is not None:
            raise raising()
        assert isinstance(answer.brings, bytes)
        return answer.brings


def _read(raw: bytes) -> Payload | None:
    try:
        return Payload(raw, "req_1")
    except ValueError:
        return None


def asked_for(header: str | None, now: float) -> float:
    """Return the delay that a well-formed `Retry-After` asks for, else 0."""
    if header is None or not header.isascii():
        return 0
    if header.isdigit():
        return min(int(header), 600)
    with suppress(ValueError):
        date = calendar.timegm(time.strptime(header, "%a, %d %b %Y %H:%M:%S GMT"))
        return min(max(date - now, 0), 600)
    return 0


def payload_answer(status: str) -> Answer:
    """Return an answer: a response with a status."""
    return Answer(json.dumps(response(status, id="resp_day")).encode())
