"""The exit code of a run, from those of its jobs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness import FakeClient, FakeClock, fake_context
from oaibg.contract.errors import ExitCode
from oaibg.engine import report_end
from oaibg.engine.job import Job
from oaibg.many.tally import WORST, Tally

if TYPE_CHECKING:
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context

ORDER = (8, 7, 3, 6, 1, 9, 5, 4, 10, 0)
"""The exit codes, worst first."""


def final(code: int) -> Event:
    """Return an event that ends a job with an exit code."""
    return report_end.cancel_result(Job("resp_1"), ExitCode(code), fake())


@pytest.mark.parametrize(("worse", "better"), list(pairwise(ORDER)))
def test_a_run_exits_with_its_worst_code(worse: int, better: int) -> None:
    """A run exits with its worst code in the documented order, whichever comes first."""
    for codes in ((worse, better), (better, worse, better)):
        tally = Tally()
        for code in codes:
            tally.take(final(code))
        assert tally.summary(fake(), next_=None).exit_code == worse


def test_the_order_of_codes() -> None:
    """The order has every exit code of a job, and a signal outranks them all."""
    assert tuple(code for code in WORST if code != ExitCode.USAGE) == ORDER
    tally = Tally()
    tally.take(final(6))
    tally.note_interrupt()
    assert tally.summary(fake(), next_=None).exit_code == 143


def fake() -> Context:
    """Return a context for a summary."""
    return fake_context(FakeClient(FakeClock()))
