"""The engine on a clock of its own: what takes minutes takes no time here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import (
    BASE_URL,
    FakeClient,
    FakeClock,
    Step,
    cancel_steps,
    collect,
    failed,
    fake_context,
    monitor,
    names,
    response,
    show_steps,
    submit,
    with_text,
)
from oaibg.contract.errors import CallFailed
from oaibg.contract.events import (
    CancelResult,
    Error,
    Event,
    Final,
    Poll,
    PollError,
    SubmitError,
    Timeout,
)
from oaibg.engine.claim import Submission
from oaibg.engine.find import Target
from oaibg.engine.run_options import Wait
from oaibg.request.body import Request
from oaibg.state.store import Intent, Store

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context

RUNNING = response("in_progress")
DONE = with_text("ok")
REFUSED = CallFailed("connect_error", "refused", sent=False)
RESET = CallFailed("connection_error", "reset")


def monitored(
    steps: list[Step], *, wait: Wait | None = None, store: Store | None = None
) -> tuple[list[Event], FakeClient]:
    """The events of a monitor over scripted answers."""
    client = FakeClient(FakeClock(), retrieves=steps)
    return monitor(fake_context(client, store, wait=wait)), client


def submitted(
    creates: list[Step], *, wait: Wait | None = None, job_key: str | None = None
) -> tuple[list[Event], FakeClient, Context]:
    """The events of a submit over scripted answers."""
    client = FakeClient(FakeClock(), creates=creates, retrieves=[DONE])
    context = fake_context(client, wait=wait)
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m", job_key=job_key)
    return submit(submission, context), client, context


def last_error(events: list[Event]) -> Error:
    """The error that ended the run."""
    assert isinstance(events[-1], Error)
    return events[-1]


def test_polls_every_ten_seconds() -> None:
    """The default interval; a monitor's first poll comes at once."""
    events, client = monitored([RUNNING, RUNNING, RUNNING, DONE])
    assert client.times("retrieve") == [0, 10, 20, 30]
    assert names(events) == ["poll"] * 4 + ["final"]


def test_first_poll_of_a_submit_comes_after_one_interval() -> None:
    """The job was created just now: asking at once would tell nothing."""
    _, client, _ = submitted([response("queued")])
    assert client.times("retrieve") == [10]


def test_create_that_brings_the_end() -> None:
    """Some servers answer with the result at once: it is told, and nothing is asked again."""
    events, client, _ = submitted([DONE])
    assert names(events) == ["submitted", "final"]
    assert client.times("retrieve") == []


def test_error_streaks_back_off_and_recover() -> None:
    """Delays double from the interval up to a minute; a success resets them."""
    steps: list[Step] = [RUNNING, *[RESET] * 5, RUNNING, RESET, DONE]
    events, client = monitored(steps)
    errors = [event for event in events if isinstance(event, PollError)]
    assert [error.retry_in_seconds for error in errors] == [10, 20, 40, 60, 60, 10]
    assert [error.consecutive for error in errors] == [1, 2, 3, 4, 5, 1]
    assert isinstance(events[-1], Final)
    assert [event.attempt for event in events if isinstance(event, Poll)] == [1, 7, 9]
    assert len(client.calls) == 9


def test_answer_that_takes_long() -> None:
    """One that had begun when its time was over gets twice as much with each try."""
    begun = CallFailed("timeout", "the request timed out", begun=True)
    _, client = monitored([RUNNING, begun, begun, RUNNING, RESET, DONE])
    assert client.timeouts == [30, 30, 60, 120, 30, 30]


def test_key_refused_twice_in_a_row() -> None:
    """Exit 8 with `next`; once alone is no end."""
    events, _ = monitored([RUNNING, failed(401), RUNNING, failed(401), failed(401)])
    error = last_error(events)
    assert (error.exit_code, error.http_status, error.response_id) == (8, 401, "resp_1")
    assert error.next is not None
    assert names(events).count("poll_error") == 2


def test_proxys_403_is_no_refused_key() -> None:
    """Without the API's envelope it is the network's, and passes."""
    events, _ = monitored([RUNNING, *[failed(403, envelope=False)] * 5, DONE])
    assert isinstance(events[-1], Final)


@pytest.mark.parametrize(("interval", "times"), [(10.0, [0, 5, 15]), (1.0, [0, 1, 3, 7, 15])])
def test_not_found_has_a_grace(interval: float, times: list[float]) -> None:
    """Three or more 404s over at least 15 s, then exit 5."""
    events, client = monitored([failed(404)], wait=Wait(poll_seconds=interval))
    assert last_error(events).exit_code == 5
    assert client.times("retrieve") == times


def test_not_found_takes_three_answers_and_fifteen_seconds() -> None:
    """Neither two over a longer time nor three over a shorter one are believed."""
    _, client = monitored([failed(404, retry_after="20")])
    assert client.times("retrieve") == [0, 20, 40]
    _, client = monitored([failed(404)], wait=Wait(poll_seconds=4.0))
    assert client.times("retrieve") == [0, 4, 12, 28]
    missing: list[Step] = [failed(404), failed(404)]
    events, _ = monitored([RUNNING, *missing, RESET, *missing, DONE])
    assert isinstance(events[-1], Final)


def test_cancel_that_is_confirmed_later() -> None:
    """Some servers take a moment; the last of a few retrieves counts."""
    steps: list[Step] = [RUNNING, RUNNING, response("cancelled")]
    client = FakeClient(FakeClock(), cancels=[RUNNING], retrieves=steps)
    target = Target(response_id="r")
    events = collect(lambda context: cancel_steps(target, context), fake_context(client))
    assert client.times("retrieve") == [1, 2, 3]
    assert isinstance(events[-1], CancelResult)
    assert (events[-1].exit_code, events[-1].cancelled) == (0, True)


def test_passing_404() -> None:
    """An answer in between starts the grace again."""
    steps: list[Step] = [failed(404), failed(404), RUNNING, failed(404), failed(404), DONE]
    events, _ = monitored(steps)
    assert isinstance(events[-1], Final)


def test_failing_first_poll_with_a_long_interval() -> None:
    """One fault is not a blocked network: it is asked again within the first minute."""
    events, client = monitored([failed(500), DONE], wait=Wait(poll_seconds=90.0))
    assert isinstance(events[-1], Final)
    assert client.times("retrieve") == [0, 10]


def test_wait_budget_shorter_than_the_start() -> None:
    """A monitor looks once all the same, or `next` would never get anywhere."""
    for steps, event in (([DONE], Final), ([RUNNING], Timeout), ([1e9], Timeout)):
        client = FakeClient(FakeClock(), retrieves=list[Step](steps))
        context = fake_context(client, wait=Wait(max_wait_seconds=2.0))
        client.clock.time += 5
        events = monitor(context, "r")
        assert isinstance(events[-1], event)
        assert client.times("retrieve") == [5]


def test_a_bug_is_told_with_all_that_is_known() -> None:
    """Whatever is raised ends as one error line, with the id and how to go on."""
    client = FakeClient(FakeClock(), creates=[response("queued")], retrieves=[])
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m")
    error = last_error(submit(submission, fake_context(client)))
    assert (error.code, error.exit_code, error.outcome) == ("internal", 1, "created")
    assert error.response_id == "resp_1"
    assert error.next is not None
    assert error.next[-2:] == ["monitor", "resp_1"]


def test_unknown_status_is_taken_for_running() -> None:
    """Told once, and followed."""
    odd = response("contemplating")
    events, _ = monitored([odd, odd, DONE])
    assert names(events) == ["poll", "warning", "poll", "poll", "final"]


def test_heartbeat() -> None:
    """With `changes`, a line a minute while nothing changes."""
    events, _ = monitored([*[RUNNING] * 20, DONE], wait=Wait(events="changes"))
    polls = [event for event in events if isinstance(event, Poll)]
    assert [poll.elapsed_seconds for poll in polls] == [0, 60, 120, 180, 200]


def test_sparse_payload() -> None:
    """Other servers leave most keys out."""
    events, _ = monitored([{"status": "completed", "output": None}])
    final = events[-1]
    assert isinstance(final, Final)
    assert (final.model, final.usage, final.exit_code) == (None, None, 0)


def test_error_as_a_text() -> None:
    """A failed job whose error is no object is told all the same."""
    events, _ = monitored([response("failed", error="it broke")])
    assert isinstance(events[-1], Final)
    assert events[-1].error == {"code": None, "message": "it broke"}


def test_create_busy_is_tried_for_ten_minutes() -> None:
    """A rate limit may take longer than a minute; Retry-After is honoured."""
    events, client, _ = submitted([failed(429, retry_after="200"), response("queued")])
    assert client.times("create") == [0, 200]
    assert isinstance(events[0], SubmitError)
    assert isinstance(events[-1], Final)
    events, _, _ = submitted([failed(429)])
    assert last_error(events).exit_code == 7


def test_create_after_the_deadline() -> None:
    """The wait budget is spent before anything was created: exit 7."""
    events, client, _ = submitted([failed(429, retry_after="20")], wait=Wait(max_wait_seconds=10.0))
    assert (last_error(events).exit_code, last_error(events).outcome) == (7, "not_created")
    assert client.times("create") == [0]


def test_wait_that_was_spent_on_tries() -> None:
    """The error says what came of the last one, and what to do about that."""
    events, _, _ = submitted([failed(429)], wait=Wait(max_wait_seconds=10.0))
    error = last_error(events)
    assert (error.code, error.exit_code) == ("wait_spent", 7)
    assert error.message.endswith(" Last attempt: HTTP 429")
    assert error.hint is not None
    assert "busy" in error.hint


def test_create_reply_that_comes_just_after_the_deadline() -> None:
    """A paid id is not thrown away: the reply has five seconds more."""

    class Slow(FakeClient):
        async def _answer(self, step: Step, timeout: float) -> Payload:
            if step == response("queued"):
                await self.clock.sleep(min(12.0, timeout))
                if timeout < 12:
                    raise CallFailed("timeout", "the request timed out")
            return await super()._answer(step, timeout)

    client = Slow(FakeClock(), creates=[response("queued")], retrieves=[DONE])
    request = Request(body={"background": True}, sha256="0" * 64)
    context = fake_context(client, wait=Wait(max_wait_seconds=10.0))
    events = submit(Submission(request=request, model="m"), context)
    assert names(events) == ["submitted", "timeout"]
    assert events[-1].response_id == "resp_1"


def test_create_that_hangs() -> None:
    """It gets no answer within its timeout: the outcome is unknown, and it is not repeated."""
    events, client, context = submitted([1e9], job_key=None)
    error = last_error(events)
    assert (error.exit_code, error.outcome, error.retryable) == (6, "unknown", False)
    assert client.times("create") == [0]
    assert [row.step for row in context.store.jobs()] == ["sending"]


def test_retried_create_is_an_intent_again() -> None:
    """Killed while it waits for its next try, a job key may submit: nothing was created."""
    client = FakeClient(FakeClock(), creates=[failed(429), failed(429), response("queued")])
    context = fake_context(client)
    steps: list[str] = []

    async def sleep(seconds: float) -> None:
        client.clock.time += seconds
        steps.extend(row.step for row in context.store._rows("1", limit=9))

    client.clock.sleep = sleep  # type: ignore[method-assign]
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m", detach=True)
    submit(submission, context)
    assert steps == ["intent", "intent"]


def test_racer_that_waited_for_its_turn_asks(tmp_path: Path) -> None:
    """Minutes spent waiting for the process that submits the key are no blocked network."""
    store = Store(str(tmp_path))
    lock = store.lock(BASE_URL, "k")
    assert lock is not None
    client = FakeClient(FakeClock(pace=100), retrieves=[RUNNING, DONE])
    other, release = client.clock.sleep, client.clock.time + 120

    async def sleep(seconds: float) -> None:
        await other(seconds)
        if client.clock.time >= release and store.by_key(BASE_URL, "k") is None:
            intent = Intent(base_url=BASE_URL, request_sha256="0" * 64, job_key="k")
            store.submitted(store.intent(intent), "resp_1", "queued")

    client.clock.sleep = sleep  # type: ignore[method-assign]
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m", job_key="k")
    events = submit(submission, fake_context(client, store))
    store.unlock(lock)
    store.close()
    assert names(events) == ["submitted", "poll", "poll", "final"]


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
def test_which_400_is_not_found(message: str, code: int) -> None:
    """One that speaks of a response; anything else is a fault that may pass."""
    failure = CallFailed("http_400", f"HTTP 400: {message}", http_status=400)
    events, _ = monitored([RUNNING, failure], wait=Wait(max_wait_seconds=300.0))
    assert getattr(events[-1], "exit_code", None) == code


def test_show_of_an_answer_that_takes_long() -> None:
    """What has begun to arrive gets more time with each try, and is not given up for it."""
    begun = CallFailed("timeout", "the request timed out", begun=True)
    client = FakeClient(FakeClock(), retrieves=[begun, begun, DONE])
    target = Target(response_id="resp_1")
    events = collect(lambda context: show_steps(target, context), fake_context(client))
    assert names(events) == ["response"]
    assert client.timeouts == [30, 60, 120]
    client = FakeClient(FakeClock(), retrieves=[begun, begun, begun, begun, 1e9])
    events = collect(lambda context: show_steps(target, context), fake_context(client))
    error = last_error(events)
    assert (error.exit_code, client.timeouts) == (7, [30, 60, 120, 240, 480])
