"""The fault table: a row, a test. The README's section "What you can rely on" has the same rows.

Everything is over real HTTP, but for what takes minutes: that runs on a clock of its own.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from forkserver import IoFault
from harness import (
    FakeClient,
    FakeClock,
    Result,
    await_line,
    fake_context,
    monitor,
    parsed,
    response,
    submit,
    wait_until,
    with_text,
)
from ledger import COUNTS, PASSED, audit, count, rows_of, tally
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Error, Event
from oaibg.engine.claim import Submission
from oaibg.engine.run_options import Wait
from oaibg.request.body import Request
from oaibg.sandbox import Fault, Personality
from oaibg.state.database import FILE
from places import README

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Command, Step
    from oaibg.sandbox import Sandbox

# A jobs file is open as long as the process that reads it, which here is that of the tests.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROWS: dict[str, str] = {}
"""The faults, and what is expected, in order."""

FAST = ("--poll-seconds", "0.03")
LONG = ("--metadata", "sandbox_seconds=600")
KEYED = ("submit", "--prompt", "x", "--job-key", "k")
OVERLOADED = {"error": {"message": "overloaded", "code": "server_is_overloaded"}}


def row(fault: str, expected: str) -> Callable[[Any], Any]:
    """A test that proves a row of the table; several may."""
    assert ROWS.setdefault(fault, expected) == expected
    return pytest.mark.row(fault)


@pytest.fixture(autouse=True)
def _counted(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[None]:
    """Count the row where its test has passed, and the requests."""
    yield
    marker = request.node.get_closest_marker("row")
    if marker is not None and request.node.stash.get(PASSED, False):
        COUNTS[f"row {marker.args[0]}"] += 1
        tally(sandbox)


@row("kill -9 before the POST", "the same job key submits")
def test_killed_before_the_post(command: Command, sandbox: Sandbox, state: Path) -> None:
    argv = (*KEYED, "--detach")
    process = command.start(*argv, fresh=True)
    await_line(process, "submit_start")
    process.kill()
    process.wait(10)
    assert {step for step, _ in rows_of(state)} <= {"intent"}
    assert command.run(*argv).code == 0
    assert len(sandbox.posts) == 1


@row(
    "kill -9 after the request was sent, before its reply was stored",
    "the same job key gives 6 (`outcome_unknown`), and sends nothing",
)
@pytest.mark.parametrize("kind", ["hang_before", "hang_after"])
def test_killed_before_the_reply(
    command: Command, sandbox: Sandbox, state: Path, kind: str
) -> None:
    sandbox.script(Fault(on="create", kind=kind))
    process = command.start(*KEYED)
    wait_until(lambda: sandbox.posts)
    process.kill()
    process.wait(10)
    assert rows_of(state) == [("sending", None)]
    result = command.run(*KEYED)
    assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert "--resubmit-unknown" in result.last["hint"]
    assert len(sandbox.posts) == 1


@row("kill -9 after the id was stored", "the same job key goes on with it; one POST in all")
def test_killed_after_the_id(command: Command, sandbox: Sandbox) -> None:
    argv = (*KEYED, "--metadata", "sandbox_seconds=0.5")
    process = command.start(*argv)
    submitted, _ = await_line(process, "submitted")
    process.kill()
    process.wait(10)
    again = command.run(*argv, "--poll-seconds", "0.1")
    assert (again.code, again.id) == (0, submitted["response_id"])
    assert len(sandbox.posts) == 1


@row(
    "connection refused or DNS failure on create",
    "tried again for a minute, then 7, `not_created`",
)
@pytest.mark.parametrize("host", ["127.0.0.1:9", ".".join(["no-such-host" * 5] * 5)])
def test_unreachable(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    import oaibg.api.client  # noqa: F401 - its import would be most of the wait

    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    result = run(*KEYED, "--max-wait-seconds", "2.5")
    assert (result.code, result.last["outcome"]) == (7, "not_created")
    assert result.last["retryable"]
    errors = [line for line in result.lines if line["event"] == "submit_error"]
    assert [error["error"]["code"] for error in errors] == ["connect_error"] * len(errors)
    assert errors
    assert run("show", "--list").last["counts"] == {}


@row(
    "connection refused or DNS failure on create",
    "tried again for a minute, then 7, `not_created`",
)
def test_unreachable_for_a_minute() -> None:
    refused = CallFailed("connect_error", "refused", sent=False)
    events, client = submitted([refused])
    error = last_error(events)
    assert (error.exit_code, error.outcome, error.next) == (7, "not_created", None)
    assert client.times("create") == [0, 1, 3, 7, 15, 31, 60]


@row(
    "reset, timeout, 500, 502, 504, a broken reply or one without an id, on create",
    "one POST, 6, the intent is kept",
)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="create", kind="reset_before"),
        Fault(on="create", kind="reset_after"),
        Fault(on="create", kind="status", status=303, headers={"location": "/v1/responses/resp_7"}),
        Fault(on="create", kind="status", status=408),
        Fault(on="create", kind="status", status=500),
        Fault(on="create", kind="status", status=502),
        Fault(on="create", kind="status", status=503, body="no upstream"),
        Fault(on="create", kind="status", status=504),
        Fault(on="create", kind="html"),
        Fault(on="create", kind="truncate"),
        Fault(on="create", kind="raw", body="{}"),
        Fault(on="create", kind="raw", body='{"id": ""}'),
        Fault(on="create", kind="raw", body="[1]"),
        Fault(on="create", kind="raw", body='{"id": "..", "status": "queued"}'),
        Fault(on="create", kind="raw", body='{"id": "a/b", "status": "queued"}'),
        Fault(on="create", kind="raw", body=r'{"id": "resp_\ud800", "status": "queued"}'),
        Fault(on="create", kind="raw", body=""),
        Fault(on="create", kind="hang_after"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{str(fault.body)[:12]}",
)
def test_lost_reply(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, fault: Fault
) -> None:
    sandbox.script(fault)
    # Where nothing comes, the reply is waited for until 5 s after the deadline.
    waits = ("--max-wait-seconds", "0.5") if fault.kind == "hang_after" else ()
    result = run(*KEYED, *waits)
    assert (result.code, result.last["outcome"], result.last["next"]) == (6, "unknown", None)
    again = run(*KEYED)
    assert (again.code, again.last["code"], again.last["outcome"]) == (
        6,
        "outcome_unknown",
        "unknown",
    )
    assert len(sandbox.posts) == 1
    assert run("show").code == 6
    assert run("show", "--list").last["counts"] == {"outcome_unknown": 1}
    audit(sandbox, state)
    decided = run(*KEYED, "--resubmit-unknown", "--detach")
    assert (decided.code, len(sandbox.posts)) == (0, 2)
    assert run("show", "--job-key", "k").id == decided.id


@row("429 with `Retry-After`, 503 overloaded, on create", "waits, tries again; one job")
@pytest.mark.parametrize(
    ("fault", "delay"),
    [
        (Fault(on="create", kind="status", status=429, headers={"retry-after": "7"}), 7),
        (Fault(on="create", kind="status", status=429, headers={"retry-after-ms": "2500"}), 2.5),
        (Fault(on="create", kind="status", status=429, times=2), 0),
        (Fault(on="create", kind="status", status=503, body=OVERLOADED), 0),
    ],
)
def test_busy(
    run: Callable[..., Result],
    sandbox: Sandbox,
    state: Path,
    instant_sleep: None,
    fault: Fault,
    delay: float,
) -> None:
    sandbox.script(fault)
    result = run(*KEYED, "--detach")
    tries = ["submit_error"] * fault.times
    assert result.events == ["submit_start", *tries, "submitted", "detached"]
    assert result.lines[1]["error"]["http_status"] == fault.status
    assert result.lines[1]["retry_in_seconds"] == (delay or pytest.approx(1, abs=0.26))
    assert len(sandbox.jobs) == 1
    audit(sandbox, state)


@row("429 for a quota or a spend limit", "1 at once, with the code and what to do")
@pytest.mark.parametrize(
    "code",
    [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    ],
)
def test_spent(run: Callable[..., Result], sandbox: Sandbox, code: str) -> None:
    body = {"error": {"message": "You exceeded it.", "code": code}}
    sandbox.script(Fault(on="create", kind="status", status=429, body=body))
    result = run(*KEYED)
    assert (result.code, result.last["code"], result.last["outcome"]) == (1, code, "not_created")
    assert "credit" in result.last["hint"]
    assert len(sandbox.posts) == 1


@row("400, 404 `model_not_found`, on create", "1, with the API's message and field")
@pytest.mark.parametrize(
    ("options", "code", "told", "hint"),
    [
        (("--model", "missing-model"), "model_not_found", "does not exist", "--model"),
        (("--metadata", "sandbox_outcome=x"), "invalid_value", "(field: metadata)", None),
    ],
)
def test_refused(
    run: Callable[..., Result],
    sandbox: Sandbox,
    options: tuple[str, ...],
    code: str,
    told: str,
    hint: str | None,
) -> None:
    result = run(*KEYED, *options)
    assert (result.code, result.last["code"], result.last["outcome"]) == (1, code, "not_created")
    assert told in result.last["message"]
    assert hint is None or hint in result.last["hint"]
    assert len(sandbox.posts) == 1
    assert run("show", "--list").last["counts"] == {}
    assert run(*KEYED, "--detach").code == 0, "the key is free"


@row("401, 403, no key", "8, nothing is tried again")
@pytest.mark.parametrize("command", ["submit", "monitor", "cancel", "show"])
@pytest.mark.parametrize("fault", [401, 403, None])
def test_refused_key(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    fault: int | None,
    instant_sleep: None,
) -> None:
    if fault is None:
        monkeypatch.delenv("OPENAI_API_KEY")
    else:
        sandbox.script(Fault(kind="status", status=fault, times=0))
    result = run(*(KEYED if command == "submit" else (command, "resp_1")))
    assert (result.code, result.last["http_status"]) == (8, fault)
    # A monitor believes it when it is said twice in a row, and tells how to go on.
    tries = 0 if fault is None else 2 if command == "monitor" else 1
    assert len(sandbox.requests) == tries
    assert (result.last["next"] is not None) == (tries == 2)


@row("several processes submit one job key at the same moment", "one POST, all follow the same id")
def test_racers(command: Command, sandbox: Sandbox, state: Path) -> None:
    sandbox.script(Fault(on="create", kind="delay", seconds=0.5))
    racers = [command.start(*KEYED, "--poll-seconds", "0.1") for _ in range(12)]
    results = [command.end(racer) for racer in racers]
    assert [result.code for result in results] == [0] * 12
    assert {result.id for result in results} == set(sandbox.jobs)
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


@row("one job key, another request", "2, nothing is sent")
def test_reused_key(run: Callable[..., Result], sandbox: Sandbox) -> None:
    run(*KEYED, "--detach")
    result = run("submit", "--prompt", "y", "--job-key", "k")
    assert (result.code, result.last["code"]) == (2, "job_key_reused")
    assert result.last["outcome"] == "not_created"
    assert len(sandbox.posts) == 1


@row("one job key, another request", "2, nothing is sent")
def test_reused_key_of_unknown_outcome(run: Callable[..., Result], sandbox: Sandbox) -> None:
    sandbox.script(Fault(on="create", kind="reset_after"))
    assert run(*KEYED).code == 6
    result = run("submit", "--prompt", "y", "--job-key", "k", "--resubmit-unknown")
    assert (result.code, result.last["code"]) == (2, "job_key_reused")
    assert len(sandbox.posts) == 1


POLL_FAULTS = [
    Fault(on="retrieve", kind="status", status=500),
    Fault(on="retrieve", kind="status", status=502),
    Fault(on="retrieve", kind="status", status=429, headers={"retry-after": "0"}),
    Fault(on="retrieve", kind="status", status=403, body="<html>a proxy</html>"),
    Fault(on="retrieve", kind="status", status=400, body={"error": {"message": "odd"}}),
    Fault(on="retrieve", kind="status", status=401),
    Fault(on="retrieve", kind="status", status=404),
    Fault(on="retrieve", kind="reset_before"),
    Fault(on="retrieve", kind="reset_after"),
    Fault(on="retrieve", kind="truncate"),
    Fault(on="retrieve", kind="html"),
    Fault(on="retrieve", kind="raw", body="null"),
    Fault(on="retrieve", kind="raw", body="{}"),
    Fault(on="retrieve", kind="raw", body=""),
]


@row(
    "poll: 500s, 429s, resets, hangs, truncated or HTML bodies, in streaks",
    "a `poll_error` each, then on to `final`",
)
@pytest.mark.parametrize(
    "faults",
    [POLL_FAULTS, *([one] * 7 for one in POLL_FAULTS if one.status not in (401, 404))],
    ids=lambda faults: f"{faults[0].kind}-{faults[0].status}-{len(faults)}",
)
def test_poll_faults(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, faults: list[Fault]
) -> None:
    result = after_a_poll(run, sandbox, *faults, poll_seconds="0.03")
    assert result.events == ["poll", *["poll_error"] * len(faults), "poll", "final"]
    assert result.code == 0
    errors = [line for line in result.lines if line["event"] == "poll_error"]
    assert [error["consecutive"] for error in errors] == list(range(1, len(faults) + 1))
    assert [error["error"]["http_status"] for error in errors] == [
        None if one.kind in ("reset_before", "reset_after", "truncate") else one.status or 200
        for one in faults
    ]


@row(
    "poll: 500s, 429s, resets, hangs, truncated or HTML bodies, in streaks",
    "a `poll_error` each, then on to `final`",
)
def test_poll_faults_for_hours() -> None:
    reset = CallFailed("connection_error", "reset")
    events, client = monitored([response("queued"), *[reset] * 500, with_text("ok")])
    assert events[-1].event == "final"
    assert client.clock.time > 8 * 3600


@row(
    "poll: `Retry-After` in seconds, as a date, absent, nonsense, huge",
    "honoured, up to ten minutes at a time and within the deadline",
)
@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": "1.5"}, 10),
        ({"retry-after-ms": "45500"}, 45.5),
        ({"retry-after-ms": "x", "retry-after": "20"}, 20),
        ({"retry-after": "+40"}, 30),
        ({"retry-after": "-500"}, 10),
        ({}, 10),
        ({"retry-after": "soon"}, 10),
        ({"retry-after": "99999999999999999999"}, 600),
        ({"retry-after": "9" * 5000}, 600),
    ],
    ids=lambda value: str(value)[:40],
)
def test_retry_after(
    run: Callable[..., Result],
    sandbox: Sandbox,
    instant_sleep: None,
    headers: dict[str, str],
    delay: float,
) -> None:
    if headers.get("retry-after") == "+40":
        moment = datetime.now(UTC) + timedelta(seconds=40)
        headers = {"retry-after": format_datetime(moment, usegmt=True)}
    fault = Fault(on="retrieve", kind="status", status=429, headers=headers)
    result = after_a_poll(run, sandbox, fault)
    error = result.lines[1]
    # A date has whole seconds, and is 10 s nearer by then; without a word there is jitter.
    close = 5 if delay == 30 and "GMT" in str(headers) else 2.6 if delay == 10 else 0
    assert error["retry_in_seconds"] == pytest.approx(delay, abs=close)
    assert (result.code, result.events) == (0, ["poll", "poll_error", "poll", "final"])


def after_a_poll(
    run: Callable[..., Result], sandbox: Sandbox, *faults: Fault, poll_seconds: str = "10"
) -> Result:
    """A monitor that reads a status, then meets the faults, and then the end."""
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    done = Fault(on="retrieve", kind="raw", body=json.dumps(with_text("ok")))
    sandbox.script(*[replace(one, skip=1) for one in [*faults, done]])
    return run("monitor", identifier, "--poll-seconds", poll_seconds)


@row(
    "poll: `Retry-After` in seconds, as a date, absent, nonsense, huge",
    "honoured, up to ten minutes at a time and within the deadline",
)
def test_retry_after_within_the_deadline(run: Callable[..., Result], sandbox: Sandbox) -> None:
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    fault = Fault(on="retrieve", kind="status", status=429, headers={"retry-after": "500"})
    sandbox.script(fault)
    result = run("monitor", identifier, "--max-wait-seconds", "1")
    assert (result.code, result.last["elapsed_seconds"]) == (3, pytest.approx(1, abs=0.5))


@row(
    "poll: 404 just after the submit",
    "believed when it came three times or more over at least 15 s: 5",
)
def test_passing_404(run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None) -> None:
    sandbox.script(Fault(on="retrieve", kind="status", status=404, times=2))
    result = run("submit", "--prompt", "x")
    assert result.events[2:] == [*["poll_error"] * 2, "poll", "final"]
    assert result.code == 0


@row(
    "poll: 404 just after the submit",
    "believed when it came three times or more over at least 15 s: 5",
)
@pytest.mark.parametrize("status", [404, 400])
def test_lasting_404(status: int) -> None:
    missing = CallFailed(
        "http", "Response with id 'resp_1' not found.", http_status=status, envelope=True
    )
    events, client = monitored([missing])
    assert last_error(events).exit_code == 5
    assert client.times("retrieve") == [0, 5, 15]


@row("404 for a job whose result is kept locally", "the local copy answers, and it is said")
def test_gone_from_the_api(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = run("submit", "--prompt", "x", *FAST).id
    sandbox.forget(identifier)
    shown = run("show", identifier)
    assert (shown.code, shown.last["source"]) == (0, "local")
    monkeypatch.setenv("OAIBG_KEEP_DAYS", "0")
    other = run("submit", "--prompt", "y", *FAST).id
    sandbox.forget(other)
    assert run("show", other).code == 5


@row("404 for a job whose result is kept locally", "the local copy answers, and it is said")
def test_gone_from_the_api_while_it_is_monitored(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    identifier = run("submit", "--prompt", "x", *FAST).id
    sandbox.forget(identifier)
    result = run("monitor", identifier)
    assert result.events[-2:] == ["warning", "final"]
    assert (result.code, result.lines[-2]["code"]) == (0, "local_copy")


@row("poll: a request that hangs", "its own timeout, well under the deadline, then the next poll")
def test_hanging_poll() -> None:
    events, client = monitored(
        [response("queued"), 1e9, 1e9, with_text("ok")], wait=Wait(max_wait_seconds=600.0)
    )
    assert [event.event for event in events] == [
        "poll",
        "poll_error",
        "poll_error",
        "poll",
        "final",
    ]
    assert client.times("retrieve") == [0, 10, 50, 100]


@row("poll: a request that hangs", "its own timeout, well under the deadline, then the next poll")
def test_hanging_poll_over_http(run: Callable[..., Result], sandbox: Sandbox) -> None:
    result = run("submit", "--prompt", "x", "--detach")
    sandbox.script(Fault(on="retrieve", kind="hang_before"))
    waits = ("--max-wait-seconds", "9", "--poll-seconds", "0.1")
    result = run("monitor", result.id, *waits)
    assert (result.code, result.events) == (0, ["poll_error", "poll", "final"])
    assert result.lines[0]["error"]["code"] == "timeout"
    assert result.lines[0]["elapsed_seconds"] < 6


@row("poll: a request that hangs", "its own timeout, well under the deadline, then the next poll")
@pytest.mark.parametrize("kind", ["hang_before", "drip"])
def test_poll_that_holds_nothing_up(
    run: Callable[..., Result], sandbox: Sandbox, kind: str
) -> None:
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    sandbox.script(Fault(on="retrieve", kind=kind, times=0))
    result = run("monitor", identifier, "--max-wait-seconds", "1.2")
    assert (result.code, result.last["elapsed_seconds"]) == (3, pytest.approx(1.2, abs=0.5))


STREAMED = ("submit", "--prompt", "x", "--stream-text", "--metadata", "sandbox_text=ok, as told")


def assert_streamed(result: Result, *warnings: str) -> None:
    """A run that told the whole text and every number once, and those warnings."""
    lines = result.lines
    assert (result.code, result.last["output_text_bytes"]) == (0, 11)
    assert [line["code"] for line in lines if line["event"] == "warning"] == list(warnings)
    assert "".join(line.get("delta", "") for line in lines) == "ok, as told"
    numbers = [line["sequence_number"] for line in lines if "sequence_number" in line]
    assert numbers == sorted(set(numbers))


@row(
    "`--stream`: the stream is cut, reset or truncated",
    "taken up after its last event; nothing is lost or told twice",
)
@pytest.mark.parametrize(
    "faults",
    [
        [Fault(on="create", kind="cut", after=2)],
        [Fault(on="stream", kind="cut", after=1, times=9)],
        [Fault(on="create", kind="cut", after=4), Fault(on="stream", kind="reset_before")],
        [Fault(on="create", kind="truncate", after=4000)],
    ],
    ids=lambda faults: faults[-1].kind,
)
def test_broken_stream(run: Callable[..., Result], sandbox: Sandbox, faults: list[Fault]) -> None:
    sandbox.script(*faults)
    result = run(*STREAMED, "--metadata", "sandbox_seconds=0.3")
    assert_streamed(result)
    assert len(sandbox.posts) == 1


@row(
    "`--stream`: connections that bring nothing",
    "a look after each, after three `stream_lost`, and polled to `final`",
)
@pytest.mark.parametrize("kind", ["cut", "reset_before", "html"])
def test_fruitless_streams(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, kind: str
) -> None:
    identifier = run(*STREAMED, "--detach", *LONG).id
    sandbox.script(Fault(on="stream", kind=kind, times=0))
    waits = ("--max-wait-seconds", "60", "--poll-seconds", "9")
    result = run("monitor", identifier, "--stream", *waits)
    asked = ["stream" in one.query for one in sandbox.requests if one.method == "GET"]
    assert (result.code, asked[:7]) == (3, [False, True, False, True, False, True, False])
    assert (sum(asked), result.events.count("warning")) == (3, 1)
    assert result.events.count("poll") > 5


@row(
    "`--stream`: the stream is silent, for a while or for ever",
    "polled after each interval, and listened to meanwhile; `stream_lost` where the job ends first",
)
@pytest.mark.parametrize("silence", [0.5, None])
def test_silent_stream(run: Callable[..., Result], sandbox: Sandbox, silence: float | None) -> None:
    sandbox.script(Fault(on="create", kind="silent", after=4, seconds=silence))
    seconds = ("--metadata", "sandbox_seconds=0.8")
    result = run(*STREAMED, "--poll-seconds", "0.2", *seconds)
    assert result.events.count("poll") >= 2
    if silence is not None:
        assert_streamed(result)
    lost = [line.get("code") for line in result.lines if line["event"] == "warning"]
    assert lost == ([] if silence else ["stream_lost"])
    assert (result.code, result.last["output_text_bytes"]) == (0, 11)


@row(
    "`--stream`: the server takes no notice of it, and answers plain JSON",
    "`stream_unavailable`, the answer counts, polled to `final`",
)
@pytest.mark.parametrize("on", ["create", "stream"])
def test_ignored_stream(run: Callable[..., Result], sandbox: Sandbox, on: str) -> None:
    if on == "stream":
        sandbox.script(Fault(on="create", kind="cut", after=2))
    sandbox.script(Fault(on="stream", kind="plain", times=0))
    result = run(*STREAMED, *FAST)
    assert (result.code, len(sandbox.posts), len(sandbox.jobs)) == (0, 1, 1)
    assert [line.get("code") for line in result.lines if line["event"] == "warning"] == [
        "stream_unavailable"
    ]
    polls = [line["attempt"] for line in result.lines if line["event"] == "poll"]
    assert polls == list(range(1, len(polls) + 1))
    assert 0 < len(polls) < len(sandbox.requests)


@row(
    "`--stream`: refused, at the create or later",
    "`stream_unavailable`, the same job without it; one job, polled to `final`",
)
@pytest.mark.parametrize("on", ["create", "stream"])
def test_refused_stream(run: Callable[..., Result], sandbox: Sandbox, state: Path, on: str) -> None:
    if on == "stream":
        sandbox.script(Fault(on="create", kind="cut", after=2))
    refusal = {"error": {"message": "Unsupported.", "param": "stream"}}
    sandbox.script(Fault(on="stream", kind="status", status=400, body=refusal, times=0))
    result = run(*STREAMED, "--job-key", "k", *FAST)
    assert (result.code, len(sandbox.jobs), result.events.count("warning")) == (0, 1, 1)
    assert [post.status for post in sandbox.posts] == ([400, 200] if on == "create" else [200])
    audit(sandbox, state)


@row(
    "`--stream`: events repeated or left out",
    "repeats are not told; a gap is asked for again, then `stream_gap`, and the result is read "
    "whole",
)
def test_gaps(run: Callable[..., Result], sandbox: Sandbox) -> None:
    sandbox.script(Fault(on="create", kind="gap", after=5))
    assert_streamed(run(*STREAMED))
    sandbox.become(Personality(stream="gaps"))
    sandbox.script(Fault(on="create", kind="cut", after=4))
    assert_streamed(run(*STREAMED), "stream_gap")
    assert "stream" not in sandbox.requests[-1].query


@row(
    "`--stream`: events that can't be read, `error`, `keepalive`, unknown ones",
    "passed over; the job is looked at where they end the stream",
)
@pytest.mark.parametrize("kind", ["error_event", "keepalive", "raw"])
def test_odd_events(run: Callable[..., Result], sandbox: Sandbox, kind: str) -> None:
    sandbox.script(Fault(on="create", kind="cut", after=2))
    body = 'data: {\n\ndata: []\n\nevent: new\ndata: {"type":"new","sequence_number":7}\n\n'
    headers = {"content-type": "text/event-stream"} if kind == "raw" else {}
    sandbox.script(Fault(on="stream", kind=kind, body=body, headers=headers, after=3))
    result = run(*STREAMED, "--metadata", "sandbox_seconds=0.3")
    assert_streamed(result)
    assert result.events.count("poll") == (kind == "error_event")


@row(
    "reset, cut or garbage before the first event of a create with `--stream`",
    "one POST, 6, the intent is kept",
)
@pytest.mark.parametrize("kind", ["reset_after", "cut", "error_event", "html"])
def test_stream_without_an_id(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, kind: str
) -> None:
    sandbox.script(Fault(on="create", kind=kind))
    for _ in range(2):
        result = run(*STREAMED, "--job-key", "k")
        assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert len(sandbox.posts) == 1
    audit(sandbox, state)


@row(
    "the job failed, or ended incomplete, cancelled or expired",
    "4, the reason in `final`, partial output saved",
)
@pytest.mark.parametrize(
    ("outcome", "error", "details"),
    [
        ("failed", "server_error", None),
        ("incomplete", None, {"reason": "max_output_tokens"}),
        ("cancelled", None, None),
        ("expired", None, None),
    ],
)
def test_unsuccessful_end(
    run: Callable[..., Result],
    tmp_path: Path,
    outcome: str,
    error: str | None,
    details: dict[str, str] | None,
) -> None:
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    result = run(
        *("submit", "--prompt", "x", "--metadata", f"sandbox_outcome={outcome}", *FAST),
        *("--output-json-file", str(out), "--output-text-file", str(text)),
    )
    final = result.last
    assert (result.code, final["status"], final["ok"]) == (4, outcome, False)
    assert (final["error"] or {}).get("code") == error
    assert final["incomplete_details"] == details
    assert json.loads(out.read_bytes())["status"] == outcome
    assert text.exists() == (outcome == "incomplete")
    assert not text.exists() or len(text.read_bytes()) == final["output_text_bytes"] > 0
    command = final["next"]
    again = run(*command[command.index("show") :])
    assert (again.code, again.last["status"]) == (4, outcome)


@row(
    "the job failed, or ended incomplete, cancelled or expired",
    "4, the reason in `final`, partial output saved",
)
@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_partial_output(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, status: str
) -> None:
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    body = json.dumps(with_text("half", status=status))
    sandbox.script(Fault(on="retrieve", kind="raw", body=body))
    text = tmp_path / "o.md"
    result = run("monitor", identifier, "--output-text-file", str(text))
    assert (result.code, result.last["status"], text.read_text()) == (4, status, "half")


@row("completed without text", "`output_text_missing`, 0")
def test_no_text(run: Callable[..., Result], tmp_path: Path) -> None:
    text = tmp_path / "o.md"
    result = run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_empty=1", *FAST),
        *("--output-text-file", str(text)),
    )
    assert result.events[-2:] == ["output_text_missing", "final"]
    assert (result.code, text.exists()) == (0, False)


@row("the deadline passes", "3 with `next`, the job untouched, exact to a second")
def test_deadline(run: Callable[..., Result], sandbox: Sandbox) -> None:
    result = run("submit", "--prompt", "x", *LONG, "--max-wait-seconds", "1", *FAST)
    assert (result.code, result.last["event"], result.last["status"]) == (3, "timeout", "queued")
    assert result.last["elapsed_seconds"] == pytest.approx(1, abs=0.5)
    assert result.last["next"][-1] == result.id
    assert {one.method for one in sandbox.requests[1:]} == {"GET"}


SIGNALS = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


@row(
    "SIGINT, SIGTERM, SIGHUP while it sleeps, polls or saves",
    "`interrupted`, 130, 143, 129, within a second; the job goes on",
)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("during", ["sleep", "poll", "save"])
def test_signal(
    command: Command, sandbox: Sandbox, tmp_path: Path, number: signal.Signals, during: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # and nobody reads
    outcome = ("--metadata", "sandbox_bytes=500000") if during == "save" else LONG
    identifier = command.run("submit", "--prompt", "x", "--detach", *outcome).id
    if during == "poll":
        sandbox.script(Fault(on="retrieve", kind="hang_before", times=0))
    process = command.start(
        "monitor", identifier, "--poll-seconds", "0.2", "--output-text-file", str(pipe)
    )
    if during == "poll":
        wait_until(lambda: len(sandbox.requests) > 1)
    else:
        status = "completed" if during == "save" else "queued"
        wait_until(lambda: sandbox.requests[-1].method == "GET" and sandbox.requests[-1].status)
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["status"] != status:
            pass
    if during == "save":
        time.sleep(0.3)
    sent = time.monotonic()
    process.send_signal(number)
    result = command.end(process)
    assert time.monotonic() - sent < 1.2
    assert (result.code, result.err) == (SIGNALS[number], "")
    last = parsed(result.out)[-1]
    assert last == last | {
        "event": "interrupted",
        "signal": number.name,
        "job_cancelled": False,
        "exit_code": SIGNALS[number],
        "response_id": identifier,
    }
    assert last["next"][-1] == identifier
    assert [one.path for one in sandbox.requests if one.method == "POST"] == ["/v1/responses"]
    os.close(reader)


@row(
    "a signal while the create is in flight",
    "its reply is awaited up to 5 s, the id kept and told; else the outcome is unknown",
)
def test_signal_before_the_reply(command: Command, sandbox: Sandbox) -> None:
    sandbox.script(Fault(on="create", kind="delay", seconds=1.0))
    process = command.start(*KEYED, *LONG)
    wait_until(lambda: sandbox.posts)
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    (identifier,) = sandbox.jobs
    assert (result.code, result.id, result.last["outcome"]) == (130, identifier, "created")
    assert result.events == ["submit_start", "interrupted"]
    assert command.run(*KEYED, *LONG, "--detach").id == identifier
    assert len(sandbox.posts) == 1


@row(
    "a signal while the create is in flight",
    "its reply is awaited up to 5 s, the id kept and told; else the outcome is unknown",
)
@pytest.mark.parametrize("signals", [1, 2])
def test_signal_and_no_reply(command: Command, sandbox: Sandbox, signals: int) -> None:
    sandbox.script(Fault(on="create", kind="hang_after"))
    process = command.start(*KEYED)
    wait_until(lambda: sandbox.jobs)
    sent = time.monotonic()
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    result = command.end(process)
    assert time.monotonic() - sent < (5.6 if signals == 1 else 1)
    assert (result.code, result.last["outcome"]) == (143, "unknown")
    assert command.run(*KEYED).code == 6
    assert len(sandbox.posts) == 1


@row("`--cancel-on-interrupt`", "cancels, and confirms within 5 s")
@pytest.mark.parametrize(
    ("faults", "cancelled"),
    [
        ([], True),
        ([Fault(on="cancel", kind="raw", body="{}")], True),
        ([Fault(on="cancel", kind="reset_before"), Fault(on="cancel", kind="status")], True),
        ([Fault(on="cancel", kind="raw", body='{"status":"in_progress"}', times=0),
          Fault(on="retrieve", kind="raw", body='{"status":"in_progress"}', times=0)],
         False),
        ([Fault(on="cancel", kind="hang_before", times=0)], False),
        ([Fault(on="cancel", kind="status", status=409, times=0)], False),
    ],
)  # fmt: skip
def test_cancel_on_interrupt(
    command: Command, sandbox: Sandbox, faults: list[Fault], cancelled: bool
) -> None:
    process = command.start("submit", "--prompt", "x", "--cancel-on-interrupt", *LONG, *FAST)
    poll, read = await_line(process, "poll")
    sandbox.script(*faults)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert time.monotonic() - sent < 6
    last = parsed(read + result.out)[-1]
    assert (result.code, last["job_cancelled"]) == (130, cancelled)
    assert ("show" if cancelled else "monitor") in last["next"]
    assert last["next"][-1] == poll["response_id"]


@row(
    "no successful answer in the first 60 s of a monitor or a rerun",
    "7 with `next`, instead of hanging on a blocked network",
)
@pytest.mark.parametrize("step", [1e9, CallFailed("connect_error", "refused", sent=False)])
def test_blocked_network(step: Step) -> None:
    events, client = monitored([step])
    error = last_error(events)
    assert (error.code, error.exit_code, error.retryable) == ("unavailable", 7, True)
    assert error.next is not None
    assert error.next[-2:] == ["monitor", "resp_1"]
    assert client.clock.time == 1060


@row("stdout is closed early (`| head -1`)", "a quiet end with 141; the id is in the state")
def test_closed_stdout(command: Command, sandbox: Sandbox) -> None:
    process = command.start("submit", "--prompt", "x", *LONG)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(20)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read()) == (141, b"")
    (identifier,) = sandbox.jobs
    assert command.run("show").id == identifier


@row("stdout is closed early (`| head -1`)", "a quiet end with 141; the id is in the state")
def test_closed_stdout_and_no_state(command: Command, sandbox: Sandbox) -> None:
    process = command.start("submit", "--prompt", "x", *LONG, env={"OAIBG_STATE_DIR": "/dev/null"})
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.stdout.close()
    process.wait(20)
    (identifier,) = sandbox.jobs
    assert process.stderr is not None
    assert process.returncode == 141
    assert f"oaibg monitor {identifier}".encode() in process.stderr.read(), "the only place left"


@row("stdout is full (`/dev/full`)", "a quiet end with 9; what was submitted is in the state")
def test_full_stdout(command: Command, sandbox: Sandbox) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = command.run("submit", "--prompt", "x", stdout=full)
    assert (result.code, result.err) == (9, "")
    assert not sandbox.posts


@row("stdout is full (`/dev/full`)", "a quiet end with 9; what was submitted is in the state")
def test_stdout_that_becomes_full(command: Command, sandbox: Sandbox, state: Path) -> None:
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    fault = IoFault(mode="fail", below="-", at=2, count=9, error=errno.ENOSPC)
    process = command.start(*KEYED, "--detach", fault=fault)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (9, b"")
    assert rows_of(state) == [("submitted", next(iter(sandbox.jobs)))]


@row(
    "the disk is full, or the output folder unwritable or gone",
    "9, the result is still to be had",
)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, None])
def test_lost_output_folder(
    command: Command, sandbox: Sandbox, tmp_path: Path, error: int | None
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    fault = None
    if error is not None:
        if not command.forks.injects:
            pytest.skip("needs Linux and a C compiler")
        fault = IoFault(mode="fail", below=str(folder), at=1, count=9, error=error)
    process = command.start(
        *("submit", "--prompt", "x", "--metadata", "sandbox_seconds=0.4", "--poll-seconds", "0.1"),
        *("--output-text-file", str(folder / "o.md")),
        fault=fault,
    )
    _, read = await_line(process, "submitted")
    if error is None:
        folder.rmdir()
    out, _ = process.communicate(timeout=20)
    result = Result(process.returncode or 0, read + (out or b""), "")
    assert result.events[-2:] == ["warning", "final"]
    assert (result.code, result.last["ok"], result.lines[-2]["code"]) == (9, True, "write_failed")
    folder.mkdir(exist_ok=True)
    assert list(folder.iterdir()) == []
    command_line = result.last["next"]
    assert command.run(*command_line[command_line.index("show") :]).code == 0
    assert (folder / "o.md").read_text().startswith("The sandbox")


STATE = "the state's folder is read-only, its file corrupt or of a newer version"
NEVER_SILENT = (
    "a warning, and on; with a job key or a newer file nothing is sent; a bad file is kept aside"
)


@row(STATE, NEVER_SILENT)
def test_read_only_state(
    unprivileged: Callable[..., Result], state: Path, sandbox: Sandbox
) -> None:
    state.mkdir()
    state.chmod(0o555)
    result = unprivileged("submit", "--prompt", "x", "--poll-seconds", "0.05")
    assert result.code == 0
    assert result.events[:3] == ["submit_start", "warning", "submitted"]
    assert result.lines[1]["code"] == "state_unwritable"
    assert "OAIBG_STATE_DIR" in result.lines[1]["message"]
    keyed = unprivileged(*KEYED)
    assert (keyed.code, keyed.last["code"], len(sandbox.posts)) == (2, "state_unwritable", 1)


@row(STATE, NEVER_SILENT)
def test_reading_a_read_only_state(
    unprivileged: Callable[..., Result], command: Command, state: Path
) -> None:
    identifier = command.run("submit", "--prompt", "x", "--poll-seconds", "0.05").id
    for path in (state, *state.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    result = unprivileged("show")
    assert (result.code, result.id, result.last["source"]) == (0, identifier, "local")
    assert unprivileged("monitor", identifier).events == ["poll", "warning", "final"]


@row(STATE, NEVER_SILENT)
def test_corrupt_state(run: Callable[..., Result], state: Path) -> None:
    state.mkdir()
    (state / FILE).write_bytes(b"this is no database, it is a text" * 100)
    result = run("submit", "--prompt", "x", *FAST)
    assert result.events[:3] == ["submit_start", "warning", "submitted"]
    assert (result.code, result.lines[1]["code"]) == (0, "state_corrupt")
    (aside,) = state.glob(f"{FILE}.corrupt-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert run("show").code == 0


@row(STATE, NEVER_SILENT)
def test_corrupt_state_and_a_job_key(
    run: Callable[..., Result], state: Path, sandbox: Sandbox
) -> None:
    argv = (*KEYED, "--detach")
    run(*argv)
    (state / FILE).write_bytes(b"x" * 4096)
    for _ in range(2):
        result = run(*argv)
        assert (result.code, result.last["outcome"]) == (6, "unknown")
        assert f"{FILE}.corrupt-" in result.last["message"]
    assert len(sandbox.posts) == 1
    decided = run(*argv, "--resubmit-unknown")
    assert (decided.code, len(sandbox.posts)) == (0, 2)
    assert run(*argv).id == decided.id
    (aside,) = state.glob(f"{FILE}.corrupt-*")
    aside.unlink()
    assert run("submit", "--prompt", "x", "--job-key", "other", "--detach").code == 0


@row(STATE, NEVER_SILENT)
def test_newer_state(run: Callable[..., Result], state: Path, sandbox: Sandbox) -> None:
    identifier = run("submit", "--prompt", "x", "--detach").id
    database = sqlite3.connect(state / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    before = (state / FILE).read_bytes()
    result = run("submit", "--prompt", "y")
    assert (result.code, result.last["code"]) == (2, "state_newer")
    assert len(sandbox.posts) == 1
    monitored_ = run("monitor", identifier, *FAST)
    assert (monitored_.code, monitored_.events[0]) == (0, "warning")
    assert (state / FILE).read_bytes() == before


@row("several processes use one state at the same moment", "all are served, nothing is lost")
def test_many_processes(command: Command, sandbox: Sandbox, state: Path) -> None:
    racers = [command.start("submit", "--prompt", f"{n}", *FAST) for n in range(16)]
    results = [command.end(racer) for racer in racers]
    assert [result.code for result in results] == [0] * 16
    assert "warning" not in [event for result in results for event in result.events]
    assert command.run("show", "--list").last["counts"] == {"completed": 16}
    audit(sandbox, state)


@row("hostile ids (`../x`, line ends, 100 KB)", "2, no request")
@pytest.mark.parametrize("name", ["monitor", "cancel", "show"])
@pytest.mark.parametrize(
    "identifier", ["../x", "..", "", "a\nb", "resp_1\n", "a/b", "a?b", "a%2fb", "é", "x" * 100_000]
)
def test_hostile_id(
    run: Callable[..., Result], sandbox: Sandbox, name: str, identifier: str
) -> None:
    result = run(name, identifier)
    assert (result.code, result.last["code"], result.events) == (2, "usage", ["error"])
    assert not sandbox.requests
    count("fuzzed")


HOSTILE = "\x1b]0;owned\x07[bold red]x[/] \u202egnp.exe \x9b31m \r\b \ud800 end"
HOSTILE_TEXT = "hostile text (escape sequences, bidi, Rich markup, lone surrogates)"
INERT = "inert in `--human`, escaped in JSON, exact in saved files"


@row(HOSTILE_TEXT, INERT)
@pytest.mark.parametrize("human", [False, True])
def test_hostile_text(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, human: bool
) -> None:
    identifier = run("submit", "--prompt", "x", "--detach").id
    body = json.dumps(with_text(HOSTILE, model=HOSTILE, status="completed"))
    sandbox.script(Fault(on="retrieve", kind="raw", body=body))
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    result = run(
        *("monitor", identifier, "--show-output-text", *(("--human",) if human else ())),
        *("--output-json-file", str(out), "--output-text-file", str(text)),
    )
    assert result.code == 0
    assert out.read_text() == body
    assert text.read_bytes() == HOSTILE.replace("\ud800", "\ufffd").encode()
    if human:
        shown = result.out.decode() + result.err
        assert "[bold red]x[/]" in shown
        assert not set(shown) & set("\x1b\x07\u202e\x9b\r\b")
    else:
        (told,) = [line["text"] for line in result.lines if line["event"] == "output_text"]
        assert told == HOSTILE
        assert "text_replaced" in [line.get("code") for line in result.lines]


@row(HOSTILE_TEXT, INERT)
def test_hostile_error(run: Callable[..., Result], sandbox: Sandbox) -> None:
    body = {"error": {"message": HOSTILE, "code": "[red]\x1b[1mc[/]"}}
    sandbox.script(Fault(on="create", kind="status", status=400, body=body))
    result = run("submit", "--prompt", "x", "--human")
    assert "[bold red]x[/]" in result.err
    assert not set(result.err) & set("\x1b\x07\u202e\x9b\r\b")


@row("an output of 100 MB", "works; memory is a small multiple of it")
def test_huge_output(command: Command, tmp_path: Path) -> None:
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    process = command.start(
        *("submit", "--prompt", "x", "--metadata", "sandbox_bytes=100000000"),
        *("--poll-seconds", "0.1", "--output-json-file", str(out), "--output-text-file", str(text)),
        fresh=True,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert text.stat().st_size == 100_000_000
    assert out.stat().st_size > 100_000_000
    assert usage.ru_maxrss * 1024 < 7 * 100_000_000


def batch(folder: Path) -> tuple[str, ...]:
    """A jobs file of two jobs as a batch."""
    jobs_file = folder / "jobs.jsonl"
    body = '"method": "POST", "url": "/v1/responses", "body": {"input": "x"}}'
    jobs_file.write_text("".join(f'{{"custom_id": "{key}", {body}\n' for key in "ab"))
    files = ("--jobs-file", str(jobs_file), "--results-file", str(folder / "results.jsonl"))
    return ("submit", *files, "--completion-window", "24h", *FAST)


BATCH_KILLED = "a batch: kill -9 around its create"
BATCH_LOST = "a batch: the answer to its create is lost"
BATCH_FOUND = "it is found again in the API's list, by a mark: one batch; 6 where it is not there"


@row(BATCH_KILLED, "the same command goes on with it, or with none: one batch")
@pytest.mark.parametrize(
    ("on", "kind"),
    [("file_create", "hang_after"), ("batch_create", "hang_after"), ("batch_retrieve", "delay")],
)
def test_a_batch_is_killed(
    command: Command, sandbox: Sandbox, tmp_path: Path, on: str, kind: str
) -> None:
    sandbox.script(Fault(on=on, kind=kind))
    process = command.start(*batch(tmp_path))
    wait_until(lambda: sandbox.batches or (on == "file_create" and sandbox.file_posts))
    process.kill()
    process.communicate(timeout=10)
    count("kills")
    again = command.run(*batch(tmp_path))
    assert (again.code, again.last["counts"]) == (0, {"completed": 2})
    assert (len(sandbox.batch_posts), len(sandbox.batches)) == (1, 1)


@row(BATCH_LOST, BATCH_FOUND)
@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "truncate", "html"])
def test_a_batch_is_found(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, instant_sleep: None, kind: str
) -> None:
    sandbox.script(Fault(on="batch_create", kind=kind))
    there = kind != "reset_before"
    for _ in range(2):
        result = run(*batch(tmp_path))
        assert result.code == (0 if there else 6)
        assert result.last["counts"] == ({"completed": 2} if there else {"outcome_unknown": 2})
    assert (len(sandbox.batch_posts), len(sandbox.batches)) == (1, int(there))


@row("a batch expires", "4; what was done is kept, and each job's end is told")
def test_a_batch_expires(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.batch_window = 0.01
    result = run(*batch(tmp_path))
    assert (result.code, result.last["counts"]) == (4, {"expired": 2})
    assert len((tmp_path / "results.jsonl").read_bytes().splitlines()) == 2


def test_the_readme_has_the_same_table() -> None:
    """The rows of the README's table are the rows that are proved here, in order."""
    section = README.read_text().split("\n## What you can rely on\n", 1)[1]
    table = re.search(r"(?m)(^\|.*\n)+", section)
    assert table
    cells = [re.split(r"(?<!\\) \| ", line.strip("| \n")) for line in table[0].splitlines()]
    assert {fault.replace("\\|", "|"): expected for fault, expected in cells[2:]} == ROWS
    assert [fault.replace("\\|", "|") for fault, _ in cells[2:]] == list(ROWS)


# How it is run on a clock of its own.


def monitored(steps: list[Step], *, wait: Wait | None = None) -> tuple[list[Event], FakeClient]:
    """The events of a monitor over scripted answers."""
    client = FakeClient(FakeClock(), retrieves=steps)
    return monitor(fake_context(client, wait=wait)), client


def submitted(creates: list[Step]) -> tuple[list[Event], FakeClient]:
    """The events of a submit over scripted answers."""
    client = FakeClient(FakeClock(), creates=creates, retrieves=[with_text("ok")])
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m")
    return submit(submission, fake_context(client)), client


def last_error(events: list[Event]) -> Error:
    """The error that ended the run."""
    assert isinstance(events[-1], Error)
    return events[-1]
