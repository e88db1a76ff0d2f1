"""Any script of faults: submits, monitors, cancels and shows keep every promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from oaibg.engine.run_options import Wait
from scenarios import Run, Scenario, scenarios
from scripted_server import FOREVER, Answer, payload_answer
from strategies import slow
from world import play

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@slow(max_examples=200)
@given(scenario=scenarios())
def test_any_script_of_faults(tmp_path_factory: pytest.TempPathFactory, scenario: Scenario) -> None:
    """Submits, monitors, cancels and shows keep every promise, whatever the server does."""
    play(scenario, tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    ("wait", "then"),
    [(Wait(max_wait_seconds=2.0), []), (Wait(), ["in_progress"])],
    ids=["deadline", "answered"],
)
def test_cancelled_job_is_retrieved_again(tmp_path: Path, wait: Wait, then: list[str]) -> None:
    """A resumed job that was cancelled is retrieved once more, within the wait limit."""
    states = [payload_answer("cancelled"), *map(payload_answer, then)]
    hang = Answer(b"", answering=FOREVER)
    scenario = Scenario(
        runs=[Run("submit"), Run("submit", wait=wait, signal_after=300.0)],
        keyed=True,
        creates=[payload_answer("queued")],
        retrieves=[*states, hang],
        cancels=[hang],
    )
    play(scenario, tmp_path)
