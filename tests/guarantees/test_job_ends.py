"""The ends of a job that are not a success, and the wait limit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fault_runs import FAST, LONG, monitored
from harness import response, with_text
from oaibg.contract.events import Timeout
from oaibg.engine.run_options import Wait
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result, Step
    from oaibg.sandbox import Sandbox
UNSUCCESSFUL = "The job ends as failed, incomplete, cancelled or expired"


@pytest.mark.row(UNSUCCESSFUL)
@pytest.mark.parametrize(
    ("outcome", "error", "details"),
    [
        ("failed", "server_error", None),
        ("incomplete", None, {"reason": "max_output_tokens"}),
        ("cancelled", None, None),
        ("expired", None, None),
    ],
)
def test_unsuccessful_end(
    run: Callable[..., Result],
    tmp_path: Path,
    outcome: str,
    error: str | None,
    details: dict[str, str] | None,
) -> None:
    """A job that ends without success gives exit 4, the reason and the partial output."""
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    result = run(
        *("submit", "--prompt", "x", "--metadata", f"sandbox_outcome={outcome}", *FAST),
        *("--output-json-file", str(out), "--output-text-file", str(text)),
    )
    final = result.last
    assert (result.code, final["status"], final["ok"]) == (4, outcome, False)
    assert (final["error"] or {}).get("code") == error
    assert final["incomplete_details"] == details
    assert json.loads(out.read_bytes())["status"] == outcome
    assert text.exists() == (outcome == "incomplete")
    assert not text.exists() or len(text.read_bytes()) == final["output_text_bytes"] > 0
    assert final["next"] is None
    again = run("show", str(result.id))
    assert (again.code, again.last["status"]) == (4, outcome)


@pytest.mark.row(UNSUCCESSFUL)
@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_partial_output(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, status: str
) -> None:
    """Partial output is saved, whatever the terminal status."""
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    body = json.dumps(with_text("half", status=status))
    sandbox.script(Fault(on="retrieve", kind="raw", body=body))
    text = tmp_path / "o.md"
    result = run("monitor", identifier, "--output-text-file", str(text))
    assert (result.code, result.last["status"], text.read_text()) == (4, status, "half")


@pytest.mark.row("The job completes without the text that was asked for")
def test_no_text(run: Callable[..., Result], tmp_path: Path) -> None:
    """A job that completes without the requested text gives exit 10, and leaves the file."""
    text = tmp_path / "o.md"
    text.write_text("an older answer")
    result = run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_empty=1", *FAST),
        *("--output-text-file", str(text)),
    )
    assert result.events[-2:] == ["output_text_missing", "final"]
    assert (result.lines[-2]["reason"], result.lines[-2]["path"]) == ("empty", str(text))
    assert (result.code, result.last["ok"], result.last["next"]) == (10, False, None)
    assert text.read_text() == "an older answer"


@pytest.mark.slow
@pytest.mark.row("The wait limit is reached")
def test_wait_limit(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The wait limit ends the run with a timeout; the job keeps running."""
    result = run("submit", "--prompt", "x", *LONG, "--max-wait-seconds", "1", *FAST)
    assert (result.code, result.last["event"], result.last["status"]) == (3, "timeout", "queued")
    assert 1 <= result.last["elapsed_seconds"] < 60
    assert result.last["next"][-1] == result.id
    assert {one.method for one in sandbox.requests[1:]} == {"GET"}


@pytest.mark.row("The wait limit is reached")
@pytest.mark.parametrize("limit", [0.2, 25.0, 3600.0])
@pytest.mark.parametrize("step", [response("in_progress"), 1e9])
def test_wait_limit_is_exact(limit: float, step: Step) -> None:
    """The run ends within a second of the wait limit, even while a poll hangs."""
    events, _ = monitored([response("queued"), step], wait=Wait(max_wait_seconds=limit))
    assert isinstance(events[-1], Timeout)
    assert events[-1].elapsed_seconds == pytest.approx(limit, abs=1)
