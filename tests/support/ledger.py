"""What a run of the tests proved, counted from the sandbox's log; printed at the run's end."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fault_table import ROWS
from oaibg.request.body import canonical_json
from oaibg.state.database import FILE

if TYPE_CHECKING:
    from oaibg.sandbox import Sandbox

PASSED = pytest.StashKey[bool]()
"""Whether a test's call passed; its fixtures are torn down later."""

COUNTS: Counter[str] = Counter()
"""The counts of this process. A key is a title, or `row` or `skipped` and a fault."""

TITLES = {
    "faults": "scripted faults applied to requests",
    "io_faults": "writes and syncs that failed",
    "kills": "processes killed with kill -9",
    "fuzzed": "generated inputs and fault scripts",
    "requests": "requests logged by the sandbox",
    "creates": "jobs created",
    "unknown": "jobs reported with an unknown outcome",
    "lost": "response IDs lost",
    "duplicates": "jobs created twice",
}


def count(title: str, number: int = 1) -> None:
    """Add to a count."""
    assert title in TITLES
    COUNTS[title] += number


def report() -> list[str]:
    """Return the counts, one per line."""
    lines = [
        (
            sum(COUNTS[f"row {fault}"] > 0 for fault in ROWS),
            f"of {len(ROWS)} rows of the fault table proved",
        )
    ]
    lines += [(COUNTS[name], title) for name, title in TITLES.items()]
    return [f"{number:>7,}  {title}" for number, title in lines]


def unproved() -> list[str]:
    """Return the rows of the fault table for which no test passed, or was skipped here."""
    return [fault for fault in ROWS if not COUNTS[f"row {fault}"] + COUNTS[f"skipped {fault}"]]


def audit(sandbox: Sandbox, *states: Path, decided: int = 0) -> None:
    """Check that no job was created twice, and that the local states know every job.

    Args:
        sandbox: the server of all jobs; its log shows what was created.
        states: the directories of all local states that jobs were submitted from.
        decided: the number of jobs that were submitted again with `--resubmit-unknown`.
    """
    created = [post for post in sandbox.posts if post.response_id is not None]
    duplicates = len(created) - len({post.raw_body for post in created}) - decided
    rows = [row for state in states for row in _rows(state)]
    known = {identifier for _, identifier, _ in rows}
    unknown = [sha256 for step, _, sha256 in rows if step == "sending"]
    missing = [post for post in created if post.response_id not in known]
    lost = []
    for post in missing:
        body = {key: value for key, value in post.body.items() if key != "stream"}
        sha256 = hashlib.sha256(canonical_json(body)).hexdigest()
        if sha256 in unknown:
            unknown.remove(sha256)
        else:
            lost.append(post.response_id)
    count("creates", len(created))
    count("unknown", len(missing) - len(lost))
    count("lost", len(lost))
    count("duplicates", duplicates)
    assert not duplicates, f"{len(created)} jobs, {duplicates} of them created twice"
    assert not lost, f"no local state knows {lost}"


def tally(sandbox: Sandbox) -> None:
    """Count the sandbox's requests and faults. Call it once before the sandbox is cleared."""
    requests = list(sandbox.requests)
    count("requests", len(requests))
    count("faults", sum(request.fault is not None for request in requests))


def rows_of(state: Path) -> list[tuple[str, str | None]]:
    """Return the step and the response ID of each job in a local state."""
    return [(step, identifier) for step, identifier, _ in _rows(state)]


def _rows(state: Path) -> list[tuple[str, str | None, str | None]]:
    # A copy is read: opening the file itself would roll back what a killed process left.
    if not (state / FILE).exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        for path in state.glob(f"{FILE}*"):
            shutil.copy(path, folder)
        database = sqlite3.connect(Path(folder) / FILE)
        try:
            if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
                return []
            return database.execute("SELECT step, response_id, request_sha256 FROM jobs").fetchall()
        finally:
            database.close()
