"""Retrieving a job once: `oaibg show` of a job without a usable local copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import FakeClient, FakeClock, collect, fake_context, names, show_steps
from oaibg.contract.errors import CallFailed
from oaibg.engine.find import Target
from oaibg.sandbox import Fault
from scripted import DONE, last_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

LONG = ("--metadata", "sandbox_seconds=600")


def test_show_of_a_running_job(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """`show` retrieves a running job, and ends with exit 3 and a monitor as `next`."""
    identifier = started(*LONG)
    result = run("show", identifier)
    assert (result.code, result.last["source"], result.last["status"]) == (3, "api", "queued")
    assert result.last["next"][-2:] == ["monitor", identifier]


def test_cancelled_job_without_an_api_key(
    run: Callable[..., Result], started: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an API key, `show` uses the local copy of a cancelled job."""
    identifier = started(*LONG)
    assert run("cancel", identifier).code == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run("show", identifier)
    assert (result.code, result.last["source"], result.last["status"]) == (4, "local", "cancelled")


def test_bare_404_is_retried(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A bare 404, as gateways send, is retried; the API's own 404 is believed at once."""
    identifier = started(*LONG)
    sandbox.script(Fault(on="retrieve", kind="status", status=404, body="not here", times=2))
    assert run("show", identifier).code == 3
    requests = len(sandbox.requests)
    assert run("show", "resp_unknown").code == 5
    assert len(sandbox.requests) == requests + 1


@pytest.mark.parametrize("command", ["show", "cancel"])
@pytest.mark.parametrize("status", [403, 407])
def test_proxy_that_refuses(
    run: Callable[..., Result], sandbox: Sandbox, command: str, status: int
) -> None:
    """A 403 or 407 from a proxy ends `show` and `cancel` with exit 7."""
    sandbox.script(Fault(kind="status", status=status, body="<html>no</html>", times=0))
    result = run(command, "resp_1")
    assert (result.code, result.last["code"], result.last["http_status"]) == (
        7,
        "unavailable",
        status,
    )


def test_show_of_a_reply_that_is_cut_off() -> None:
    """A timeout that cuts off a reply doubles the next one; the fifth in a row ends `show`."""
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
