"""Servers that refuse every retrieve of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fault_runs import LONG, last_error, monitored
from harness import failed, response, with_text
from oaibg.contract.errors import CallFailed
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault
from runs import ENDLESS, Files, finish, line, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

ROW = "Poll: the server refuses every retrieve of a job (400, 422 and the like)"
MALFORMED = {"error": {"message": "Malformed identifier", "type": "invalid_request_error"}}
SUBMIT = ("submit", "--prompt", "x", *LONG)


@pytest.mark.row(ROW)
@pytest.mark.parametrize("status", [400, 402, 406, 422])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (MALFORMED, "Malformed identifier"),
        ({"detail": [{"loc": ["path", "id"], "msg": "value is not a valid uuid"}]}, "valid uuid"),
        ("bad id format", "bad id format"),
    ],
)
@pytest.mark.parametrize("command", ["submit", "monitor"])
def test_every_look_is_refused(
    run: Callable[..., Result],
    sandbox: Sandbox,
    instant_sleep: None,
    status: int,
    body: object,
    words: str,
    command: str,
) -> None:
    """If a server refuses every retrieve, the wait ends after 15 s with exit 1 and its message."""
    argv: tuple[str, ...] = SUBMIT
    if command == "monitor":
        argv = ("monitor", run(*SUBMIT, "--detach").id)
    sandbox.script(Fault(on="retrieve", kind="status", status=status, body=body, times=0))
    result = run(*argv)
    assert (result.code, result.last["http_status"], result.last["next"]) == (1, status, None)
    assert words in result.last["message"]
    assert "may still be running" in result.last["hint"]
    assert 15 <= result.last.get("elapsed_seconds", 15) <= 40
    assert 2 <= result.events.count("poll_error") <= 5
    assert len(sandbox.posts) == 1


def test_a_refusal_after_a_success() -> None:
    """Once the job was retrieved, refusals are only failed polls."""
    events, client = monitored([response("queued"), *[failed(400)] * 20, with_text("ok")])
    assert events[-1].event == "final"
    delays = client.times("retrieve")
    assert delays[-1] - delays[-2] >= 50, "they are as rare as after other failures"


@pytest.mark.parametrize(
    "message", ["Upstream error: bad response", "Please try again later.", "request timed out"]
)
def test_words_of_a_gateway(message: str) -> None:
    """A 400 that blames a server behind it, or asks for a retry, does not end the wait."""
    failure = CallFailed("http_400", f"HTTP 400: {message}", http_status=400)
    events, _ = monitored([*[failure] * 3, with_text("ok")], wait=Wait(poll_seconds=5))
    assert events[-1].event == "final"


def test_another_failure_between_refusals() -> None:
    """Refusals count only in a row."""
    reset = CallFailed("connection_error", "reset")
    steps: list[Any] = [failed(422), failed(422), reset, failed(422), with_text("ok")]
    events, _ = monitored(steps, wait=Wait(poll_seconds=3))
    assert events[-1].event == "final"


def test_the_moment() -> None:
    """Three refusals over 15 s are enough, also with a long interval."""
    for interval, times in [(10.0, [0, 5, 10, 15]), (90.0, [0, 5, 10, 15])]:
        events, client = monitored([failed(400)], wait=Wait(poll_seconds=interval))
        assert client.times("retrieve") == times
        assert last_error(events).exit_code == 1


def test_a_run(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, files: Files
) -> None:
    """A run stops submitting if the server refuses the retrieves of every job."""
    files.write(*[line(str(number)) for number in range(5)])
    sandbox.script(Fault(on="retrieve", kind="status", status=400, body=MALFORMED, times=0))
    result = checked(run(*files.argv("--max-in-flight", "2")))
    assert (result.code, result.last["next"]) == (1, None)
    assert result.last["counts"] == {"unknown": 2, "not_submitted": 3}
    assert len(sandbox.posts) == 2


def test_one_job_of_a_run(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, files: Files
) -> None:
    """A job that the server refuses to return does not stop the other jobs of a run."""
    files.add(6, sandbox_seconds=ENDLESS["sandbox_seconds"])
    assert checked(run(*files.argv("--max-wait-seconds", "5"))).code == 3
    finish(sandbox)
    bad = next(iter(sandbox.jobs))
    sandbox.script(
        Fault(on="retrieve", kind="status", status=400, body=MALFORMED, times=0, response_id=bad)
    )
    result = checked(run(*files.argv()))
    assert (result.code, result.last["counts"]) == (1, {"completed": 5, "unknown": 1})
    assert len(of(result, "error")) == 1
    assert len(sandbox.posts) == 6
