"""Servers without background mode: they reply to the create when the job has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import FakeClient, FakeClock, fake_context, response, with_text
from harness import submit as submit_with
from oaibg.contract.errors import CallFailed
from oaibg.sandbox import Fault
from runs import Files, line, of
from schemas import checked
from scripted import last_error, submission

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

ROW = "Create: the server doesn't support background mode"
SUBMIT = ("submit", "--prompt", "x", "--poll-seconds", "0.05")


@pytest.mark.row(ROW)
@pytest.mark.parametrize("more", [(), ("--stream",), ("--detach",), ("--show-output-text",)])
def test_a_server_without_background_mode(
    run: Callable[..., Result], sandbox: Sandbox, more: tuple[str, ...]
) -> None:
    """The answer of such a server is used, and a warning says that it may lack background mode."""
    sandbox.become("synchronous")
    result = run(*SUBMIT, *more)
    assert (result.code, result.last.get("status")) == (0, "completed")
    (warning,) = of(result, "warning")
    assert warning["code"] == "no_background"
    assert "background mode" in warning["message"]
    assert len(sandbox.posts) == 1


@pytest.mark.parametrize(
    ("fields", "warns"),
    [
        ({"background": None}, True),
        ({"background": False}, True),
        ({"background": True}, False),
        ({}, False),
    ],
)
def test_what_the_reply_says(
    run: Callable[..., Result], sandbox: Sandbox, fields: dict[str, Any], warns: bool
) -> None:
    """A `background` that is null or false causes a warning; many servers leave the key out."""
    body = with_text("ok", **fields)
    sandbox.script(Fault(on="create", kind="raw", body=body))
    result = run(*SUBMIT)
    assert (result.code, bool(of(result, "warning"))) == (0, warns)


def test_a_run(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A run over several jobs emits the warning once."""
    sandbox.become("synchronous")
    files.write(*[line(str(number)) for number in range(5)])
    result = checked(run(*files.argv()))
    assert (result.code, len(of(result, "warning"))) == (0, 1)


@pytest.mark.parametrize(
    ("base_url", "says"),
    [("http://127.0.0.1:8000/v1", True), (None, True), ("https://api.openai.com/v1", False)],
)
def test_a_create_that_times_out(base_url: str | None, says: bool) -> None:
    """The error after a create's timeout says that the server may lack background mode."""
    failure = CallFailed("timeout", "the request timed out", base_url=base_url)
    client = FakeClient(FakeClock(), creates=[failure], retrieves=[response("queued")])
    error = last_error(submit_with(submission(), fake_context(client)))
    assert (error.exit_code, "may not support background mode" in str(error.hint)) == (6, says)
    assert "Ask the person who pays" in str(error.hint)


@pytest.mark.slow
@pytest.mark.row(ROW)
def test_a_slow_server(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A job that takes longer than the create's timeout ends with exit 6, and the hint says why."""
    sandbox.become("synchronous")
    argv = (*SUBMIT, "--metadata", "sandbox_seconds=60", "--max-wait-seconds", "0.1")
    result = run(*argv)
    assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert "may not support background mode" in result.last["hint"]
    assert len(sandbox.posts) == 1
