"""Replies with the ID of another job, as when a connection or a proxy delivers an old reply."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fault_runs import FAST
from harness import with_text
from oaibg.sandbox import Fault, Personality
from runs import Files, line, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

ROW = "Create: the reply has the ID of another job"
SUBMIT = ("submit", "--prompt", "x", *FAST)


def stale(identifier: str, on: str = "create", times: int = 1, **more: Any) -> Fault:
    """Return the fault that sends the finished answer of another job."""
    body = with_text("the other answer", **more) | {"id": identifier}
    return Fault(on=on, kind="raw", body=body, times=times)


@pytest.mark.row(ROW)
@pytest.mark.parametrize("more", [(), ("--job-key", "b"), ("--stream",), ("--detach",)])
def test_a_create(run: Callable[..., Result], sandbox: Sandbox, more: tuple[str, ...]) -> None:
    """Such a reply to a create gives exit 6, no ID and no answer; the other job is unchanged."""
    first = run(*SUBMIT, "--job-key", "a")
    sandbox.script(stale(first.id))
    second = run(*SUBMIT, *more)
    error = second.last
    assert (second.code, error["outcome"], error["response_id"]) == (6, "unknown", None)
    assert (first.id in error["message"], error["next"]) == (True, None)
    assert "final" not in second.events
    assert run("show", "--job-key", "a").last["status"] == "completed"
    assert "other answer" not in json.dumps(run("show", first.id).last["response"])
    if "--job-key" in more:
        assert run(*SUBMIT, *more).code == 6
        assert len(sandbox.posts) == 2, "the key's outcome stays unknown"


@pytest.mark.row(ROW)
def test_jobs_of_a_run(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Of two jobs of a run whose creates get the same ID, only the first one has it."""
    files.write(line("a"), line("b"), line("c"))
    sandbox.script(stale("resp_same", times=2))
    body = with_text("the answer", id="resp_same")
    sandbox.script(Fault(on="retrieve", kind="raw", body=body, response_id="resp_same", times=0))
    result = checked(run(*files.argv("--max-in-flight", "1")))
    assert (result.code, result.last["counts"]["outcome_unknown"]) == (6, 1)
    (error,) = of(result, "error")
    assert "resp_same" in error["message"]
    assert len(files.results.read_text().splitlines()) == 2


def test_a_retrieve(run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None) -> None:
    """A reply to a retrieve that has the ID of another known job is a failed poll."""
    first = run(*SUBMIT)
    sandbox.script(stale(first.id, on="retrieve", times=2))
    second = run(*SUBMIT, "--show-output-text")
    assert (second.code, second.events.count("poll_error")) == (0, 2)
    assert [one["error"]["code"] for one in of(second, "poll_error")] == ["bad_reply"] * 2
    assert "other answer" not in of(second, "output_text")[0]["text"]


def test_ids_that_change(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A reply to a retrieve may have an ID that no known job has."""
    sandbox.become(Personality(ids="uuid", changing_ids=True))
    for _ in range(2):
        result = run(*SUBMIT)
        assert (result.code, "poll_error" in result.events) == (0, False)
