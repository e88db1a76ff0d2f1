"""Faults while a job is polled, and the job's end."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from fault_runs import FAST, LONG, last_error, monitored
from harness import names, response, with_text
from oaibg.contract.errors import CallFailed
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result, Step
    from oaibg.sandbox import Sandbox

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
FAILED_POLLS = "Poll: any number of 4xx, 5xx, resets, truncated replies or HTML pages in a row"
RETRY_AFTER = "Poll: `Retry-After` in seconds, as a date, missing, malformed or huge"
NOT_FOUND = "Poll: 404"
LOCAL_COPY = "404 for a job with a local copy of its result"
HANGS = "Poll: a request hangs"


@pytest.mark.row(FAILED_POLLS)
@pytest.mark.parametrize(
    "faults",
    [POLL_FAULTS, *([one] * 7 for one in POLL_FAULTS if one.status not in (401, 404))],
    ids=lambda faults: f"{faults[0].kind}-{faults[0].status}-{len(faults)}",
)
def test_poll_faults(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, faults: list[Fault]
) -> None:
    """Each failed poll emits a `poll_error`, and the monitor continues to `final`."""
    result = after_a_poll(run, sandbox, *faults, poll_seconds="0.05")
    assert result.events == ["poll", *["poll_error"] * len(faults), "poll", "final"]
    assert result.code == 0
    errors = [line for line in result.lines if line["event"] == "poll_error"]
    assert [error["consecutive"] for error in errors] == list(range(1, len(faults) + 1))
    assert [error["error"]["http_status"] for error in errors] == [
        None if one.kind in ("reset_before", "reset_after", "truncate") else one.status or 200
        for one in faults
    ]


@pytest.mark.row(FAILED_POLLS)
def test_poll_faults_for_hours() -> None:
    """A monitor survives failed polls for hours."""
    reset = CallFailed("connection_error", "reset")
    events, client = monitored([response("queued"), *[reset] * 500, with_text("ok")])
    assert events[-1].event == "final"
    assert client.clock.time > 8 * 3600


@pytest.mark.row(RETRY_AFTER)
@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": "1.5"}, 10),
        ({"retry-after-ms": "45500"}, 45.5),
        ({"retry-after-ms": "x", "retry-after": "20"}, 20),
        ({"retry-after": "+340"}, 330),
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
    """A poll waits as long as `Retry-After` asks, up to ten minutes."""
    if headers.get("retry-after") == "+340":
        moment = datetime.now(UTC) + timedelta(seconds=340)
        headers = {"retry-after": format_datetime(moment, usegmt=True)}
    fault = Fault(on="retrieve", kind="status", status=429, headers=headers)
    result = after_a_poll(run, sandbox, fault)
    error = result.lines[1]
    # The date is 10 s closer by then, and more on a busy machine. Without a header there is jitter.
    tolerance = 60 if "GMT" in str(headers) else 2.6 if delay == 10 else 0
    assert error["retry_in_seconds"] == pytest.approx(delay, abs=tolerance)
    assert (result.code, result.events) == (0, ["poll", "poll_error", "poll", "final"])


@pytest.mark.slow
@pytest.mark.row(RETRY_AFTER)
def test_retry_after_within_the_wait_limit(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A long `Retry-After` does not delay the wait limit."""
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    fault = Fault(on="retrieve", kind="status", status=429, headers={"retry-after": "500"})
    sandbox.script(fault)
    result = run("monitor", identifier, "--max-wait-seconds", "1")
    assert result.code == 3
    assert 1 <= result.last["elapsed_seconds"] < 60


def after_a_poll(
    run: Callable[..., Result], sandbox: Sandbox, *faults: Fault, poll_seconds: str = "10"
) -> Result:
    """Monitor a job: one successful poll, then the faults, then the completed job."""
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    done = Fault(on="retrieve", kind="raw", body=json.dumps(with_text("ok")))
    sandbox.script(*[replace(one, skip=1) for one in [*faults, done]])
    return run("monitor", identifier, "--poll-seconds", poll_seconds)


@pytest.mark.row(NOT_FOUND)
def test_passing_404(run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None) -> None:
    """A 404 that goes away does not end the run."""
    sandbox.script(Fault(on="retrieve", kind="status", status=404, times=2))
    result = run("submit", "--prompt", "x")
    assert result.events[2:] == [*["poll_error"] * 2, "poll", "final"]
    assert result.code == 0


@pytest.mark.row(NOT_FOUND)
@pytest.mark.parametrize("status", [404, 400])
def test_lasting_404(status: int) -> None:
    """A job counts as missing after three refusals over 15 s."""
    missing = CallFailed(
        "http", "Response with id 'resp_1' not found.", http_status=status, envelope=True
    )
    events, client = monitored([missing])
    assert last_error(events).exit_code == 5
    assert client.times("retrieve") == [0, 5, 10, 15]


@pytest.mark.row("The server has lost a job that it had before")
def test_a_server_that_lost_a_job(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A job that the server lost ends with exit 5 and is listed so; its key creates no other."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", *LONG)
    identifier = run(*argv, "--detach").id
    job = sandbox.jobs[identifier]
    sandbox.forget(identifier)
    for _ in range(2):
        result = run(*argv)
        assert (result.code, result.last["code"], result.last["next"]) == (5, "not_found", None)
        assert run("show", "--list").lines[0]["status"] == "not_found"
    sandbox.jobs[identifier] = job
    job.seconds = 0
    assert run(*argv).code == 0
    assert len(sandbox.posts) == 1


@pytest.mark.row(LOCAL_COPY)
def test_gone_from_the_api(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`show` uses the local copy of a job that the API no longer has."""
    identifier = run("submit", "--prompt", "x", *FAST).id
    sandbox.forget(identifier)
    shown = run("show", identifier)
    assert (shown.code, shown.last["source"]) == (0, "local")
    monkeypatch.setenv("OAIBG_KEEP_DAYS", "0")
    other = run("submit", "--prompt", "y", *FAST).id
    sandbox.forget(other)
    assert run("show", other).code == 5


@pytest.mark.row(LOCAL_COPY)
def test_gone_from_the_api_while_it_is_monitored(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """`monitor` uses the local copy of a job that the API no longer has."""
    identifier = run("submit", "--prompt", "x", *FAST).id
    sandbox.forget(identifier)
    result = run("monitor", identifier)
    assert result.events[-2:] == ["warning", "final"]
    assert (result.code, result.lines[-2]["code"]) == (0, "local_copy")


@pytest.mark.row(HANGS)
def test_hanging_poll() -> None:
    """A poll that hangs times out, and the next poll follows."""
    events, client = monitored(
        [response("queued"), 1e9, 1e9, with_text("ok")], wait=Wait(max_wait_seconds=600.0)
    )
    assert names(events) == ["poll", "poll_error", "poll_error", "poll", "final"]
    assert client.times("retrieve") == [0, 10, 50, 100]


@pytest.mark.slow
@pytest.mark.row(HANGS)
def test_hanging_poll_over_http(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A poll that hangs times out well before the wait limit."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    sandbox.script(Fault(on="retrieve", kind="hang_before"))
    waits = ("--max-wait-seconds", "9", "--poll-seconds", "0.1")
    result = run("monitor", identifier, *waits)
    assert (result.code, result.events) == (0, ["poll_error", "poll", "final"])
    assert result.lines[0]["error"]["code"] == "timeout"
    assert result.lines[0]["elapsed_seconds"] < 8


@pytest.mark.slow
@pytest.mark.row(HANGS)
@pytest.mark.parametrize("kind", ["hang_before", "drip"])
def test_hanging_poll_within_the_wait_limit(
    run: Callable[..., Result], sandbox: Sandbox, kind: str
) -> None:
    """A poll that hangs does not delay the wait limit."""
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    sandbox.script(Fault(on="retrieve", kind=kind, times=0))
    result = run("monitor", identifier, "--max-wait-seconds", "1.2")
    assert result.code == 3
    assert 1.2 <= result.last["elapsed_seconds"] < 30


@pytest.mark.row("No successful reply in the first 60 s of a monitor or a rerun")
@pytest.mark.parametrize("step", [1e9, CallFailed("connect_error", "refused", sent=False)])
def test_blocked_network(step: Step) -> None:
    """A monitor that never gets a successful reply ends after 60 s."""
    events, client = monitored([step])
    error = last_error(events)
    assert (error.code, error.exit_code, error.retryable) == ("unavailable", 7, True)
    assert error.next is not None
    assert error.next[-2:] == ["monitor", "resp_1"]
    assert client.clock.time == 1060
