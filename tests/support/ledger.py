"""What a run of the tests has proved, by the servers' own logs; printed at its end."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oaibg.request.body import canonical_json
from oaibg.state.database import FILE

if TYPE_CHECKING:
    from oaibg.sandbox import Sandbox

PASSED = pytest.StashKey[bool]()
"""Whether a test's own part has passed."""

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
    assert not duplicates, f"{len(created)} jobs, {duplicates} of them twice"
    assert not lost, f"nothing is known of {lost}"


def tally(sandbox: Sandbox) -> None:
    """Count a server's requests, once before it forgets them."""
    requests = list(sandbox.requests)
    count("requests", len(requests))
    count("faults", sum(request.fault is not None for request in requests))


def rows_of(state: Path) -> list[tuple[str, str | None]]:
    """The step and id of each job in a state."""
    return [(step, identifier) for step, identifier, _ in _rows(state)]


def _rows(state: Path) -> list[tuple[str, str | None, str | None]]:
    """With the request's hash; read from a copy, as recovery stays the tool's to do."""
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
