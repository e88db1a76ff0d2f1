"""Writes of many jobs that are committed together."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oaibg.base.clock import RealClock
from oaibg.state.commits import Commits
from oaibg.state.database import StateError
from oaibg.state.store import Store

if TYPE_CHECKING:
    from pathlib import Path

LONG = 20.0


def test_a_write_does_not_wait_for_what_follows_another(tmp_path: Path) -> None:
    """While the result of one job is being saved, the ID of another is committed."""
    may_end = threading.Event()

    async def commit(store: Store) -> None:
        commits = Commits(store, RealClock())
        ending = asyncio.create_task(commits.write(lambda: "ended", lambda _: may_end.wait(LONG)))
        await asyncio.wait_for(commits.write(lambda: "at the same time"), LONG / 2)
        await asyncio.wait_for(commits.write(lambda: "later"), LONG / 2)
        assert not ending.done()
        may_end.set()
        assert await ending == "ended"

    try:
        with closing(Store(str(tmp_path))) as store:
            asyncio.run(commit(store))
    finally:
        may_end.set()


@pytest.mark.parametrize("error", [StateError("state_unwritable", "No."), ValueError("a bug")])
def test_what_follows_a_write_fails(tmp_path: Path, error: Exception) -> None:
    """The writer gets the error, and no other writer does."""

    def fail(_: None) -> None:
        raise error

    async def commit(store: Store) -> None:
        commits = Commits(store, RealClock())
        failing = asyncio.create_task(commits.write(lambda: None, fail))
        assert await commits.write(lambda: 1, str) == 1
        with pytest.raises(type(error), match=r"No\.|a bug"):
            await failing

    with closing(Store(str(tmp_path))) as store:
        asyncio.run(commit(store))
