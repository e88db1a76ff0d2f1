"""The guard of the `process` marker: a test without it can't start a process.

Tests whose fixtures start processes are marked automatically. `make test-fast` leaves out what is
marked, so an unmarked test that starts a process fails.
"""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import pytest

from forkserver import FORK

if TYPE_CHECKING:
    from collections.abc import Iterable

FIXTURES = {"forks", "terminal"}
"""The fixtures that start processes. Fixtures that use these, such as `command`, count as well."""

_EVENTS = {
    *("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec"),
    *("os.system", "pty.spawn", FORK),
}


class Guard:
    """Makes every attempt to start a process fail while it is armed.

    An audit hook can't be removed, so create one guard per process.
    """

    def __init__(self) -> None:
        self._armed = False
        self._attempts: list[str] = []
        platform.processor()  # Python starts `uname` for this, once; the SDK needs it
        sys.addaudithook(self._hook)

    def arm(self) -> None:
        """Forbid processes from now on."""
        self._armed = True

    def disarm(self) -> None:
        """Allow processes again; fail if any was attempted, even if the error was suppressed."""
        self._armed = False
        attempts, self._attempts = self._attempts, []
        if attempts:
            pytest.fail(_message(attempts[0]), pytrace=False)

    def _hook(self, event: str, _: tuple[object, ...]) -> None:
        if self._armed and event in _EVENTS:
            self._attempts.append(event)
            raise RuntimeError(_message(event))


def mark(items: Iterable[pytest.Item]) -> None:
    """Add the `process` marker to the tests whose fixtures start processes."""
    for item in items:
        if FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("process")


def _message(event: str) -> str:
    return f"A test without the `process` marker started a process ({event}). Add the marker."
