"""The promises that every run must keep, whatever the server does."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING

import jsonschema

from oaibg.api.payload import TERMINAL
from oaibg.base.json_text import json_line
from oaibg.contract.events import (
    CancelResult,
    Detached,
    Error,
    Event,
    Final,
    Interrupted,
    Poll,
    PollError,
    Response,
    SubmitError,
    Submitted,
    Timeout,
    exit_code_of,
)
from oaibg.contract.events import Warning as WarningEvent
from oaibg.contract.schema import event_schema
from scripted_server import FOREVER, asked_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.contract.errors import CallFailed
    from scenarios import Run
    from scripted_server import Call
    from world import World


TOLERANCE = 0.002
"""In seconds; times in lines are rounded to milliseconds."""


@dataclass
class Emitted:
    """An event, its time, and the number of calls before it."""

    event: Event
    at: float
    calls: int


@dataclass
class Played:
    """A run that ended. Times are the fake clock's; calls are this run's."""

    run: Run
    started: float
    events: list[Emitted]
    calls: list[Call]

    @property
    def last(self) -> Event:
        """The event that ended the run."""
        return self.events[-1].event

    @property
    def elapsed(self) -> float:
        """Seconds from the run's start to its end."""
        return self.events[-1].at - self.started

    def called(self, name: str) -> list[Call]:
        """Return the run's calls of a name."""
        return [call for call in self.calls if call.name == name]

    def warnings(self) -> list[str]:
        """Return the codes of the run's warnings."""
        return [one.event.code for one in self.events if isinstance(one.event, WarningEvent)]


@cache
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    """Return the schema's validator for each event."""
    return {
        schema["properties"]["event"]["const"]: jsonschema.Draft202012Validator(schema)
        for schema in event_schema()["oneOf"]
    }


def check_line(event: Event) -> None:
    """An event is one line of ASCII JSON that matches the schema."""
    line = json_line(event.to_dict("2026-11-22T09:00:00.112Z"))
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    validators()[event.event].validate(json.loads(line))


def check_stream(played: Played) -> None:
    """Only the last line has an exit code, and it is not that of a bug."""
    codes = [exit_code_of(one.event) for one in played.events]
    assert codes[-1] in (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 143)
    assert codes[:-1] == [None] * (len(codes) - 1)
    assert not isinstance(played.last, Error) or played.last.code != "internal"


def check_identity(played: Played, world: World) -> None:
    """All lines are about one job; without a known job, a job key sends nothing."""
    ids = {one.event.response_id for one in played.events}
    if played.run.command == "submit":
        assert ids <= {None, world.response_id}
    elif played.run.by == "id" or world.key is None or world.known == "created":
        assert ids == {world.response_id}
    else:
        assert exit_code_of(played.last) == (6 if world.known == "unknown" else 5)
        assert not played.calls


def check_deadline(played: Played) -> None:
    """A run ends at its wait limit; the reply to a create has five more seconds."""
    run, limit = played.run, played.run.wait.max_wait_seconds
    if isinstance(played.last, Interrupted):
        return
    if run.command in ("show", "cancel"):
        long = any(call.failure is not None and call.failure.begun for call in played.calls)
        bound = 1000 if long else 60  # one retrieve; a cancel is one call and at most six retrieves
        assert played.elapsed <= run.late + bound * (1 if run.command == "show" else 7)
    elif limit is not None:
        deadline = played.started + limit
        created = played.called("create")
        grace = 5 if any(call.at <= deadline < call.end for call in created) else 0
        retrieves = played.called("retrieve")
        # The first retrieve has at least one second.
        first = retrieves[0].at - played.started + 1 if retrieves else 0
        assert played.elapsed <= max(limit, run.late, first) + grace + 0.02
    if isinstance(played.last, Timeout):
        assert limit is not None
        assert played.elapsed >= limit - TOLERANCE


def check_pace(played: Played) -> None:
    """No call comes earlier than announced or than the server allows."""
    answered = False
    for place, emitted in enumerate(played.events):
        event, call = emitted.event, played.calls[emitted.calls - 1] if emitted.calls else None
        answered = answered or any(call.payload for call in played.calls[: emitted.calls])
        promise = 0.0
        if isinstance(event, PollError | SubmitError):
            assert call is not None
            failure = check_failure(event, call, played)
            promise = event.retry_in_seconds
            delay = asked_for(failure.retry_after, 1_700_000_000 + emitted.at)
            limit = played.run.wait.max_wait_seconds or FOREVER
            limit = limit if answered or isinstance(event, SubmitError) else min(limit, 60)
            assert promise >= min(max(delay, 0.5), played.started + limit - emitted.at) - TOLERANCE
        elif isinstance(event, Poll):
            assert call is not None
            assert call.payload is not None
            assert event.status == call.payload.status
            promise = event.next_poll_seconds or 0
        elif isinstance(event, Submitted) and not event.reattached:
            promise = played.run.wait.poll_seconds
        following = played.events[place + 1 :]
        if following and not isinstance(following[0].event, Interrupted):
            later = [call.at for call in played.calls[emitted.calls :]]
            assert not later or later[0] >= emitted.at + promise - TOLERANCE


def check_failure(event: PollError | SubmitError, call: Call, played: Played) -> CallFailed:
    """An error event has the call's failure, and their number in a row; return the failure."""
    failure = call.failure
    assert failure is not None
    assert (event.error.code, event.error.http_status) == (failure.code, failure.http_status)
    if isinstance(event, PollError):
        calls = played.called("retrieve")
        before = calls[: calls.index(call) + 1]
        good = [place for place, one in enumerate(before) if one.failure is None]
        assert event.consecutive == len(before) - (good[-1] + 1 if good else 0)
    return failure


def check_reasons(played: Played) -> None:
    """A run ends early only if the API key is refused, the job is missing, or no call succeeds."""
    retrieves = played.called("retrieve")
    if played.run.command not in ("submit", "monitor") or not retrieves:
        return
    code = exit_code_of(played.last)
    failed = [call.failure for call in retrieves]
    if "local_copy" in played.warnings():
        last = retrieves[-1].payload
        lacks_output = last is not None and last.ended and not last.answer.types
        assert any(failed) or lacks_output
    elif code == 5:
        row = last_row(failed, is_missing)
        lasted = retrieves[-1].end - retrieves[-row].end
        message = str(getattr(played.last, "message", ""))
        if "no longer has this job: " in message:  # an earlier command had found that it is gone
            assert row >= 2
            assert lasted >= 3 - TOLERANCE
        elif not (row >= 3 and lasted >= 15 - TOLERANCE):
            # The wait limit came first, and neither the state nor the server ever knew the ID.
            assert message.startswith("No such response")
            assert played.run.wait.max_wait_seconds is not None
            assert row == len(failed)
    elif code == 1:
        row = last_row(failed, cannot_retrieve)
        assert row >= 3
        assert retrieves[-1].end - retrieves[-row].end >= 15 - TOLERANCE
    elif code == 8:
        refused = [one is not None and is_refused(one) for one in failed[-2:]]
        assert refused == [True, True]
    elif code == 7:
        assert all(failed)
        assert played.elapsed >= 60 - TOLERANCE
    else:
        assert not isinstance(played.last, Error)


def last_row(failed: list[CallFailed | None], is_one: Callable[[CallFailed | None], bool]) -> int:
    """Return how many of the last calls in a row failed in one way."""
    return len(list(takewhile(is_one, reversed(failed))))


def cannot_retrieve(failure: CallFailed | None) -> bool:
    """Return whether a failure may mean that the server never returns the job."""
    status = None if failure is None else failure.http_status
    if status is None or status in (401, 404, 408, 410, 429):
        return False
    return status == 501 or 400 <= status < 500


def is_missing(failure: CallFailed | None) -> bool:
    """Return whether a failure may mean that the job does not exist."""
    return failure is not None and failure.http_status in (200, 400, 404, 410)


def is_refused(failure: CallFailed) -> bool:
    """Return whether a failure means that the API key is refused."""
    own = failure.envelope and failure.code != "model_not_found"
    return failure.http_status == 401 or (failure.http_status == 403 and own)


def check_end(played: Played, response_id: str) -> None:
    """The exit code matches the job's status, and `next` is the command that continues."""
    last = played.last
    code = exit_code_of(last)
    if isinstance(last, Final | Response) and last.status in TERMINAL:
        completed = 9 if "write_failed" in played.warnings() else 0
        needs_text = played.run.show_text or played.run.text_folder is not None
        if needs_text and not last.output_text_bytes:
            completed = 10
        assert code == (completed if last.status == "completed" else 4)
    elif isinstance(last, Response):
        assert code == 3
    following: str | None = None
    if isinstance(last, Timeout | Detached):
        following = "monitor"
    elif isinstance(last, Final):
        following = "show" if code == 9 else None
    elif isinstance(last, Response):
        following = ("show" if code == 9 else None) if last.status in TERMINAL else "monitor"
    elif isinstance(last, CancelResult):
        following = None if code in (0, 4) else "monitor"
        assert last.cancelled == (last.status == "cancelled") == (code == 0)
    elif isinstance(last, Interrupted):
        runs = last.response_id is not None and not last.job_cancelled
        following = "monitor" if runs else None
    elif isinstance(last, Error):
        stays = last.outcome == "created" or (played.run.command == "monitor" and code in (7, 8))
        following = "monitor" if stays and code not in (1, 5) else None  # 1: no retrieve will do
        assert last.retryable == (code == 7)
    check_next(getattr(last, "next", None), following, response_id, played.run)


def check_next(argv: list[str] | None, name: str | None, response_id: str, run: Run) -> None:
    """`next` is a complete command with this run's wait options."""
    if argv is None or name is None:
        assert (argv, name) == (None, None)
        return
    at = argv.index(name)
    assert argv[:at] in (["oaibg"], [sys.executable, "-m", "oaibg"])
    assert argv[-1] == response_id
    assert (argv[-2] == "--") == response_id.startswith("-")
    if name == "monitor":
        limit = run.wait.max_wait_seconds
        assert ("--max-wait-seconds" in argv) == (limit is not None)
        assert ("--cancel-on-interrupt" in argv) == run.wait.cancel_on_interrupt
        assert ("--output-json-file" in argv) == (run.json_folder is not None)
