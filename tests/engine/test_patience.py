"""Retries: growing delays, growing timeouts, and when to give up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from harness import Step, failed, names
from oaibg.api.client import Client
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import Final, Poll, PollError
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault
from scripted import DONE, RESET, RUNNING, last_error, monitored

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox


def test_delays_double_and_reset() -> None:
    """After failures, delays double from the interval up to a minute; a success resets them."""
    steps: list[Step] = [RUNNING, *[RESET] * 5, RUNNING, RESET, DONE]
    events, client = monitored(steps)
    errors = [event for event in events if isinstance(event, PollError)]
    assert [error.retry_in_seconds for error in errors] == [10, 20, 40, 60, 60, 10]
    assert [error.consecutive for error in errors] == [1, 2, 3, 4, 5, 1]
    assert isinstance(events[-1], Final)
    assert [event.attempt for event in events if isinstance(event, Poll)] == [1, 7, 9]
    assert len(client.calls) == 9


def test_timeout_doubles_if_a_reply_was_cut_off() -> None:
    """Each timeout that cuts off a reply doubles the next timeout; a success resets it."""
    begun = CallFailed("timeout", "the request timed out", begun=True)
    _, client = monitored([RUNNING, begun, begun, RUNNING, RESET, DONE])
    assert client.timeouts == [30, 30, 60, 120, 30, 30]


def test_key_refused_twice_in_a_row() -> None:
    """A key that is refused twice in a row ends a monitor with exit 8; once does not."""
    events, _ = monitored([RUNNING, failed(401), RUNNING, failed(401), failed(401)])
    error = last_error(events)
    assert (error.exit_code, error.http_status, error.response_id) == (8, 401, "resp_1")
    assert error.next is not None
    assert names(events).count("poll_error") == 2


def test_403_from_a_proxy_is_retried() -> None:
    """A 403 without the API's error envelope is not a refused key, and is retried."""
    events, _ = monitored([RUNNING, *[failed(403, envelope=False)] * 5, DONE])
    assert isinstance(events[-1], Final)


@pytest.mark.parametrize(
    ("interval", "times"), [(10.0, [0, 5, 10, 15]), (1.0, [0, 1, 3, 7, 12, 17])]
)
def test_404_has_a_grace_period(interval: float, times: list[float]) -> None:
    """A monitor ends with exit 5 after three or more 404s over at least 15 s."""
    events, client = monitored([failed(404)], wait=Wait(poll_seconds=interval))
    assert last_error(events).exit_code == 5
    assert client.times("retrieve") == times


def test_404_needs_three_replies_and_fifteen_seconds() -> None:
    """Two 404s over a longer time, or three over a shorter one, are not believed."""
    _, client = monitored([failed(404, retry_after="20")])
    assert client.times("retrieve") == [0, 20, 40]
    _, client = monitored([failed(404)], wait=Wait(poll_seconds=4.0))
    assert client.times("retrieve") == [0, 4, 9, 14, 19]
    missing: list[Step] = [failed(404), failed(404)]
    events, _ = monitored([RUNNING, *missing, RESET, *missing, DONE])
    assert isinstance(events[-1], Final)


def test_success_resets_the_grace_period() -> None:
    """A success between two 404s restarts the grace period."""
    steps: list[Step] = [failed(404), failed(404), RUNNING, failed(404), failed(404), DONE]
    events, _ = monitored(steps)
    assert isinstance(events[-1], Final)


def test_monitor_of_an_unknown_id(run: Callable[..., Result], instant_sleep: None) -> None:
    """A monitor of an ID that the API does not have ends with exit 5 after the grace period."""
    result = run("monitor", "resp_unknown")
    assert (result.code, result.last["code"], result.last["http_status"]) == (5, "not_found", 404)


def test_failing_first_poll_with_a_long_interval() -> None:
    """With a long interval, a failed first poll is still retried within the first minute."""
    events, client = monitored([failed(500), DONE], wait=Wait(poll_seconds=90.0))
    assert isinstance(events[-1], Final)
    assert client.times("retrieve") == [0, 10]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Response with id 'resp_1' not found.", 5),
        ("Invalid 'response_id': 'resp_1'.", 5),
        ("No response found for resp_1", 5),
        ("API key expired. Please renew the API key.", 3),
        ("No API key found in request", 3),
        ("The deployment was not found", 3),
    ],
)
def test_which_400_means_not_found(message: str, code: int) -> None:
    """A 400 means "not found" only if its message is about a response; others are retried."""
    failure = CallFailed("http_400", f"HTTP 400: {message}", http_status=400)
    events, _ = monitored([RUNNING, failure], wait=Wait(max_wait_seconds=300.0))
    assert getattr(events[-1], "exit_code", None) == code


@pytest.mark.parametrize(("kind", "begun"), [("drip", True), ("hang_before", False)])
def test_timeout_notes_whether_a_reply_had_begun(sandbox: Sandbox, kind: str, begun: bool) -> None:
    """A timeout notes whether a reply had begun to arrive: only then does more time help."""
    sandbox.script(Fault(on="retrieve", kind=kind))

    async def retrieve() -> CallFailed:
        api = Client(sandbox.base_url, "key")
        with pytest.raises(CallFailed) as caught:
            await api.retrieve("resp_1", 0.4)
        await api.close()
        return caught.value

    failure = asyncio.run(retrieve())
    assert (failure.code, failure.begun) == ("timeout", begun)
