"""What a run of the tests has proved, by the servers' own logs; printed at its end."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from oaibg.statefile import FILE

if TYPE_CHECKING:
    from oaibg.sandbox import Sandbox

COUNTS: Counter[str] = Counter()
"""What was counted so far in this process."""

TITLES = {
    "faults": "faults that struck requests, scripted in the servers",
    "io_faults": "writes and syncs that failed",
    "kills": "kill -9 survived",
    "fuzzed": "inputs and scripts fuzzed",
    "requests": "requests that the servers logged",
    "creates": "jobs created",
    "unknown": "of them told as of unknown outcome",
    "lost": "ids lost",
    "duplicates": "duplicates",
}


def count(title: str, number: int = 1) -> None:
    """Add to a count."""
    assert title in TITLES
    COUNTS[title] += number


def report() -> list[str]:
    """The counts, a line each."""
    rows = sum(name.startswith("row ") for name in COUNTS)
    lines = [(rows, "rows of the fault table proved")]
    lines += [(COUNTS[name], title) for name, title in TITLES.items()]
    return [f"{number:>7,}  {title}" for number, title in lines]


def audit(sandbox: Sandbox, *states: Path, decided: int = 0) -> None:
    """Compare what a server created with what the states know of it.

    Args:
        sandbox: its log is the truth about requests.
        states: the folders of all states that its jobs were submitted from.
        decided: how many jobs were submitted again by decision (`--resubmit-unknown`).
    """
    requests = list(sandbox.requests)
    created = [post for post in sandbox.posts if post.response_id is not None]
    duplicates = len(created) - len({post.raw_body for post in created}) - decided
    rows = [row for state in states for row in rows_of(state)]
    known = {identifier for _, identifier in rows}
    unknown = sum(step == "sending" for step, _ in rows)
    missing = [post for post in created if post.response_id not in known]
    lost = max(len(missing) - unknown, 0)
    count("requests", len(requests))
    count("faults", sum(request.fault is not None for request in requests))
    count("creates", len(created))
    count("unknown", len(missing) - lost)
    count("lost", lost)
    count("duplicates", duplicates)
    assert not duplicates, f"{len(created)} jobs, {duplicates} of them twice"
    assert not lost, f"nothing is known of {[post.response_id for post in missing]}"


def rows_of(state: Path) -> list[tuple[str, str | None]]:
    """The step and id of each job in a state, read from a copy: recovery stays the tool's to do."""
    if not (state / FILE).exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        for path in state.glob(f"{FILE}*"):
            shutil.copy(path, folder)
        database = sqlite3.connect(Path(folder) / FILE)
        try:
            if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
                return []
            return database.execute("SELECT step, response_id FROM jobs").fetchall()
        finally:
            database.close()
