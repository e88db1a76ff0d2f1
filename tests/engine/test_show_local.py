"""`oaibg show`, as far as the local state is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")
LONG = ("--metadata", "sandbox_seconds=600")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--metadata", "sandbox_outcome=failed"), 4),
        (("--metadata", "sandbox_outcome=incomplete"), 4),
    ],
)
def test_show_of_an_ended_job(
    run: Callable[..., Result], sandbox: Sandbox, options: tuple[str, ...], code: int
) -> None:
    """`show` takes an ended job from its local copy, and its exit code reports the result."""
    identifier = run("submit", "--prompt", "x", *options, *FAST).id
    requests = len(sandbox.requests)
    result = run("show")
    assert (result.code, result.id, result.last["source"]) == (code, identifier, "local")
    assert result.last["next"] is None
    assert len(sandbox.requests) == requests


def test_show_output_text(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """With --output-text, stdout has the answer byte for byte; messages go to stderr."""
    text = "Line 1\n\u00e9 \x1b[31m no newline at the end"
    run("submit", "--prompt", "x", "--metadata", f"sandbox_text={text}", *FAST)
    result = run("show", "--output-text")
    assert (result.code, result.out, result.err) == (0, text.encode(), "")
    identifier = started(*LONG)
    running = run("show", "--output-text")
    assert (running.code, running.out) == (3, b"")
    assert identifier in running.err
    missing = run("show", "resp_unknown", "--output-text")
    assert (missing.code, missing.out) == (5, b"")
    assert "No such response" in missing.err


def test_show_list(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """`show --list` emits every job, newest first, and a summary with the exit code."""
    first = run("submit", "--prompt", "x", "--job-key", "k", *FAST).id
    second = started(*LONG)
    result = run("show", "--list")
    assert [line["response_id"] for line in result.lines] == [second, first, None]
    assert result.events == ["job", "job", "summary"]
    assert result.lines[1]["job_key"] == "k"
    assert result.last["counts"] == {"queued": 1, "completed": 1}
    assert run("show", "--list", "--limit", "1").last["counts"] == {"queued": 1}


def test_list_of_ended_jobs(run: Callable[..., Result]) -> None:
    """`show --list` has the usage and the time of an ended job, and names an action it needs."""
    options = ("--prompt", "x", *FAST)
    final = run("submit", *options, "--metadata", "sandbox_outcome=function_call").last
    running = run("submit", "--prompt", "x", "--detach", *LONG)
    newest, ended, _ = run("show", "--list").lines
    assert (newest["response_id"], newest["status"]) == (running.id, "queued")
    assert (newest["usage"], newest["job_seconds"], newest["cost_usd"]) == (None, None, None)
    assert (ended["status"], final["status"]) == ("needs_action", "completed")
    assert ended["usage"]["total_tokens"] > 0
    assert (ended["usage"], ended["job_seconds"]) == (final["usage"], final["job_seconds"])
