"""Polling a job to its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness import FakeClient, FakeClock, Step, fake_context, monitor, names, response, with_text
from oaibg.contract.events import Final, Poll, Timeout
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault
from scripted import DONE, RUNNING, monitored, submitted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")
LONG = ("--metadata", "sandbox_seconds=600")


def test_monitor_whole_run(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox
) -> None:
    """A monitor polls at once, emits every poll, and ends with `final`."""
    identifier = started("--metadata", "sandbox_text=ok", *LONG)
    sandbox.script(
        Fault(on="retrieve", kind="raw", body='{"status":"in_progress"}'),
        Fault(on="retrieve", kind="raw", body=json.dumps(with_text("ok"))),
    )
    result = run("monitor", identifier, "--poll-seconds", "0.4", "--show-output-text")
    first, second = result.story[:2]
    assert first == {
        "event": "poll",
        "response_id": identifier,
        "attempt": 1,
        "status": "in_progress",
        "elapsed_seconds": "…",
        "next_poll_seconds": 0.4,
    }
    assert (second["attempt"], second["status"], second["next_poll_seconds"]) == (
        2,
        "completed",
        None,
    )
    assert result.events == ["poll", "poll", "output_text", "final"]
    assert result.code == 0


@pytest.mark.slow
def test_next_after_a_timeout(
    run: Callable[..., Result], started: Callable[..., str], tmp_path: Path
) -> None:
    """After a wait limit, `next` resumes with the same wait and output options."""
    identifier = started("--metadata", "sandbox_seconds=2")
    text = tmp_path / "o.md"
    result = run(
        "monitor", identifier, *FAST, "--max-wait-seconds", "0.5", "--output-text-file", str(text)
    )
    assert result.code == 3
    while result.code == 3:
        command = result.last["next"]
        result = run(*command[command.index("monitor") :])
    assert (result.code, text.exists()) == (0, True)


def test_changes_emits_only_new_statuses(run: Callable[..., Result]) -> None:
    """With `--events changes`, a poll event is emitted only when the status changes."""
    setting = ("--metadata", "sandbox_seconds=0.6", "--poll-seconds", "0.05")
    result = run("submit", "--prompt", "x", *setting, "--events", "changes")
    assert [line["status"] for line in result.lines if line["event"] == "poll"] == [
        "queued",
        "in_progress",
        "completed",
    ]


def test_polls_every_ten_seconds() -> None:
    """By default, a monitor polls at once and then every ten seconds."""
    events, client = monitored([RUNNING, RUNNING, RUNNING, DONE])
    assert client.times("retrieve") == [0, 10, 20, 30]
    assert names(events) == ["poll"] * 4 + ["final"]


def test_first_poll_of_a_submit_comes_after_one_interval() -> None:
    """A job that was just created is polled after one interval."""
    _, client, _ = submitted([response("queued")])
    assert client.times("retrieve") == [10]


def test_create_that_returns_the_result() -> None:
    """If the reply to the create has the result, the job is not polled."""
    events, client, _ = submitted([DONE])
    assert names(events) == ["submitted", "final"]
    assert client.times("retrieve") == []


def test_heartbeat() -> None:
    """With `--events changes`, a poll event a minute is emitted while nothing changes."""
    events, _ = monitored([*[RUNNING] * 20, DONE], wait=Wait(events="changes"))
    polls = [event for event in events if isinstance(event, Poll)]
    assert [poll.elapsed_seconds for poll in polls] == [0, 60, 120, 180, 200]


def test_unknown_status_counts_as_running() -> None:
    """An unknown status causes one warning, and polling continues."""
    odd = response("contemplating")
    events, _ = monitored([odd, odd, DONE])
    assert names(events) == ["poll", "warning", "poll", "poll", "final"]


def test_wait_limit_shorter_than_the_start() -> None:
    """A monitor polls once even if its start took longer than the wait limit."""
    for steps, event in (([DONE], Final), ([RUNNING], Timeout), ([1e9], Timeout)):
        client = FakeClient(FakeClock(), retrieves=list[Step](steps))
        context = fake_context(client, wait=Wait(max_wait_seconds=2.0))
        client.clock.time += 5
        events = monitor(context, "r")
        assert isinstance(events[-1], event)
        assert client.times("retrieve") == [5]


def test_sparse_response() -> None:
    """A completed response that lacks most keys ends with exit 0."""
    events, _ = monitored([{"status": "completed", "output": None}])
    final = events[-1]
    assert isinstance(final, Final)
    assert (final.model, final.usage, final.exit_code) == (None, None, 0)


def test_error_that_is_a_string() -> None:
    """If a failed job's error is a string, `final` has it as the error's message."""
    events, _ = monitored([response("failed", error="it broke")])
    assert isinstance(events[-1], Final)
    assert events[-1].error == {"code": None, "message": "it broke"}
