"""Many jobs in one process: their polls are spread, over few connections."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from oaibg.many.pacing.pace import CONNECTIONS
from oaibg.many.side_by_side import spread
from oaibg.sandbox import Fault
from runs import finish, new_jobs
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox


def test_an_even_spread() -> None:
    """Consecutive jobs are spread evenly over the interval, however many there are."""
    for number in (30, 100, 1000):
        parts = [spread(one) for one in range(number)]
        assert all(0 < part <= 1 for part in parts)
        tenths = [sum(part > tenth / 10 and part <= (tenth + 1) / 10 for part in parts)
                  for tenth in range(10)]  # fmt: skip
        assert max(tenths) <= number / 10 + 1


def connections(sandbox: Sandbox) -> int:
    """Return the number of TCP connections that clients have open to the sandbox."""
    port = int(sandbox.base_url.rsplit(":", 1)[1].partition("/")[0])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


@pytest.mark.process
def test_many_jobs_share_few_connections(
    start: Callable[..., Callable[..., Result]], sandbox: Sandbox
) -> None:
    """250 jobs are polled repeatedly over at most 200 connections."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("needs Linux")
    before = connections(sandbox)
    ids = new_jobs(sandbox, 250)
    end = start("monitor", *ids, "--poll-seconds", "1")
    wait_until(lambda: {one.response_id for one in sandbox.requests if one.status} == set(ids))
    assert connections(sandbox) - before <= CONNECTIONS[1] < len(ids)
    finish(sandbox)
    assert checked(end()).last["counts"] == {"completed": 250}
    polls = Counter(one.response_id for one in sandbox.requests)
    assert polls.keys() == set(ids)
    assert min(polls.values()) >= 2


@pytest.mark.process
def test_429s_pause_the_whole_run(
    start: Callable[..., Callable[..., Result]], sandbox: Sandbox
) -> None:
    """After a 429 no job is polled for as long as the API asks, and all jobs end."""
    ids = new_jobs(sandbox, 20, 0.5)
    headers = {"retry-after": "1"}
    sandbox.script(
        Fault(on="retrieve", kind="status", status=429, headers=headers, skip=22, times=2)
    )
    result = checked(start("monitor", *ids, "--poll-seconds", "0.2", "--events", "changes")())
    assert (result.code, result.last["counts"]) == (0, {"completed": 20})
    busy = next(one.at for one in sandbox.requests if one.fault)
    times = [one.at for one in sandbox.requests if one.at >= busy]
    assert max(later - one for one, later in pairwise(times)) > 0.5
    errors = [line for line in result.lines if line["event"] == "poll_error"]
    assert [line["error"]["http_status"] for line in errors] == [429] * 2
