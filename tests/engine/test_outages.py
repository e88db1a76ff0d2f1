"""Servers that are down for a while: the way back, and jobs that a restart may have lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fault_runs import FAST, LONG
from harness import (
    BASE_URL,
    FakeClient,
    FakeClock,
    fake_context,
    monitor,
    response,
    with_text,
)
from oaibg.contract import events as e
from oaibg.contract.errors import CallFailed
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault, Personality
from runs import Files, line, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result, Step
    from oaibg.contract.events import Event
    from oaibg.sandbox import Sandbox

ORPHANED = "A server was down, and its job then keeps running forever"
LOST = "The server has lost a job that it had before"

RUNNING = response("in_progress")
REFUSED = CallFailed("connect_error", "connection refused", sent=False)
RESET = CallFailed("connection_error", "reset")
BAD_GATEWAY = CallFailed("http_502", "HTTP 502", http_status=502)
OWN_503 = CallFailed("server_error", "HTTP 503", http_status=503, envelope=True)
GONE = CallFailed("http_404", "HTTP 404: gone", http_status=404, envelope=True)


def followed(*steps: Step, base_url: str = BASE_URL, **wait: Any) -> tuple[list[Event], FakeClient]:
    """Return the events of a monitor of a server with this URL, whose retrieves bring `steps`."""
    client = FakeClient(FakeClock(), retrieves=list(steps))
    context = fake_context(client, wait=Wait(**wait))
    return monitor(context.but(base_url=base_url)), client


def warnings(events: list[Event]) -> list[e.Warning]:
    """Return the warnings that the job may be lost."""
    found = [event for event in events if isinstance(event, e.Warning)]
    return [event for event in found if event.code == "may_be_lost"]


@pytest.mark.parametrize(
    "outage", [[REFUSED], [BAD_GATEWAY], [RESET, RESET], [REFUSED, RESET, BAD_GATEWAY]]
)
def test_a_hint_after_an_outage(outage: list[Step]) -> None:
    """A job that still runs after the server was down is reported once as possibly lost."""
    again: list[Step] = [REFUSED, RUNNING]
    events, _ = followed(RUNNING, *outage, RUNNING, RUNNING, *again, with_text("ok"))
    (warning,) = warnings(events)
    for words in ("still in_progress", "oaibg cancel resp_1", "--retry-failed", "pay again"):
        assert words in warning.message
    poll = events[events.index(warning) - 1]
    assert isinstance(poll, e.Poll), "it follows the poll that shows that the server is back"


@pytest.mark.parametrize(
    "steps",
    [
        [RUNNING, RESET, RUNNING],
        [RUNNING, OWN_503, OWN_503, RUNNING],
        [RUNNING, REFUSED, with_text("ok")],
        [RUNNING, RUNNING],
    ],
)
def test_no_hint_without_an_outage(steps: list[Step]) -> None:
    """One reset, the API's own errors, and an outage whose end brings the result need no hint."""
    events, _ = followed(*steps, with_text("ok"))
    assert not warnings(events)


@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com"])
def test_no_hint_for_the_api_itself(host: str) -> None:
    """OpenAI's API does not lose its jobs."""
    events, _ = followed(RUNNING, REFUSED, RUNNING, with_text("ok"), base_url=f"https://{host}/v1")
    assert not warnings(events)


def test_the_way_back_with_changes() -> None:
    """With `--events changes`, the first poll after failed ones is emitted: the API is back."""
    steps: list[Step] = [
        RUNNING,
        RUNNING,
        RESET,
        RUNNING,
        RUNNING,
        OWN_503,
        RUNNING,
        with_text("ok"),
    ]
    events, _ = followed(*steps, events="changes", poll_seconds=1.0)
    assert [event.event for event in events] == [
        *("poll", "poll_error", "poll", "poll_error", "poll", "poll", "final")
    ]


@pytest.mark.parametrize("failure", [REFUSED, BAD_GATEWAY])
def test_the_truth_after_a_long_outage(failure: CallFailed) -> None:
    """After an outage of any length, 404s end the wait within 40 s."""
    events, client = followed(RUNNING, *[failure] * 30, GONE)
    assert events[-1].event == "error"
    times = client.times("retrieve")
    assert times[-1] - times[30] <= 40, "from the last failure to the end"


@pytest.mark.row(ORPHANED)
def test_an_orphan(run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None) -> None:
    """An orphaned job is reported; it can be cancelled, and submitted again with its key."""
    sandbox.become("orphaning")
    argv = ("submit", "--prompt", "x", "--job-key", "k", *FAST, *LONG)
    sandbox.script(
        Fault(on="retrieve", kind="restart", skip=1),
        Fault(on="retrieve", kind="reset_before", times=3),
    )
    result = run(*argv, "--max-wait-seconds", "30")
    assert result.code == 3
    (warning,) = of(result, "warning")
    assert (warning["code"], result.id in warning["message"]) == ("may_be_lost", True)
    assert run("cancel", result.id).code == 0
    again = run(*argv[:-2], "--retry-failed")
    assert (again.code, len(sandbox.posts)) == (0, 2)


@pytest.mark.row(LOST)
def test_a_server_that_forgets(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A job that a restart lost ends the wait; its key makes a new attempt with --retry-failed."""
    sandbox.become("volatile")
    argv = ("submit", "--prompt", "x", "--job-key", "k", *FAST, *LONG)
    sandbox.script(Fault(on="retrieve", kind="restart", skip=1))
    result = run(*argv)
    assert (result.code, result.last["code"], result.last["next"]) == (5, "not_found", None)
    assert "no longer has this job" in result.last["message"]
    assert run("show", "--list").lines[0]["status"] == "not_found"
    assert run(*argv, "--retry-failed", "--detach").code == 0
    assert len(sandbox.posts) == 2


@pytest.mark.row(LOST)
def test_a_run_whose_server_forgets(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, files: Files
) -> None:
    """Lost jobs of a run get a results line each; --retry-failed submits them again."""
    sandbox.become(Personality(restart="forgets"))
    files.write(line("a", metadata={"sandbox_seconds": "600"}), line("b"))
    assert checked(run(*files.argv("--max-wait-seconds", "20"))).code == 3
    sandbox.restart()
    result = checked(run(*files.argv()))
    assert (result.code, result.last["counts"]) == (5, {"completed": 1, "not_found": 1})
    assert result.last["next"] is None
    assert files.by_id()["a"]["error"]["code"] == "not_found"
    assert len(sandbox.posts) == 2
    retried = checked(run(*files.argv("--retry-failed", "--max-wait-seconds", "5")))
    assert (retried.code, len(sandbox.posts)) == (3, 3)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (REFUSED, "ask the user for network access"),
        (CallFailed("timeout", "the request timed out"), "busy or failing"),
        (RESET, "busy or failing"),
        (CallFailed("http_500", "HTTP 500", http_status=500, envelope=True), "busy or failing"),
        (CallFailed("http_403", "HTTP 403", http_status=403), "ask the user for network access"),
    ],
)
def test_a_network_that_is_dead_or_an_api_that_is_busy(failure: CallFailed, words: str) -> None:
    """A short wait limit without a success (3), and a minute without one (7), say what to check."""
    events, _ = followed(failure, max_wait_seconds=20.0)
    (warning,) = [event for event in events if isinstance(event, e.Warning)]
    assert (warning.code, words in warning.message) == ("no_answer", True)
    assert isinstance(events[-1], e.Timeout)
    events, _ = followed(failure)
    assert isinstance(events[-1], e.Error)
    assert (events[-1].exit_code, words in str(events[-1].hint)) == (7, True)


def test_no_such_warning_after_a_success() -> None:
    """A wait limit after a successful poll needs no warning."""
    events, _ = followed(RUNNING, RESET, max_wait_seconds=20.0)
    assert not [event for event in events if isinstance(event, e.Warning)]
