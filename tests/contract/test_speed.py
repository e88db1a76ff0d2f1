"""The pace of a run: what is known of it, and when."""

from __future__ import annotations

import pytest

from oaibg.contract.speed import Speed

JOB_SECONDS = 10


def keep(speed: Speed, jobs: range, seconds: range) -> None:
    """Keep jobs running, a tenth of which end in each second and are replaced."""
    for second in seconds:
        for job in jobs:
            speed.follow(job, second)
            if job % JOB_SECONDS == second % JOB_SECONDS:
                speed.leave(job, second, ended=True)
                speed.follow(job, second)


def test_the_pace_of_jobs_that_replace_each_other() -> None:
    """Fifty jobs of ten seconds each are 300 a minute, once each has been replaced."""
    speed = Speed()
    keep(speed, range(50), range(8))
    assert speed.per_minute(8) is None
    keep(speed, range(50), range(8, 60))
    assert speed.per_minute(60) == pytest.approx(300, rel=0.1)


def test_a_few_jobs_first() -> None:
    """When more jobs run than before, the pace of the first ones is forgotten."""
    speed = Speed()
    keep(speed, range(5), range(60))
    assert speed.per_minute(60) == pytest.approx(30, rel=0.1)
    keep(speed, range(50), range(60, 65))
    assert speed.per_minute(65) is None
    keep(speed, range(50), range(65, 120))
    assert speed.per_minute(120) == pytest.approx(300, rel=0.1)


def test_jobs_that_are_not_followed_any_more() -> None:
    """Jobs whose wait ended, and jobs that were never followed, have not ended in the run."""
    speed = Speed()
    speed.follow("a", 0)
    speed.leave("a", 10, ended=False)
    speed.leave("b", 20, ended=True)
    assert speed.per_minute(30) is None


def test_the_first_seconds() -> None:
    """The first seconds say nothing, even if jobs end in them."""
    speed = Speed()
    speed.follow("a", 0)
    speed.leave("a", 1, ended=True)
    assert speed.per_minute(4) is None
    assert speed.per_minute(6) == 10
