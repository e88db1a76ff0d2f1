"""The page from a CSV to a table: its commands work in order, against the sandbox."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Fault
from pages import shell_blocks
from places import GUIDE

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

PAGE = (GUIDE / "from-a-table.md").read_text()
CHECK, RUN, WATCH, RETRY = shell_blocks(PAGE)
READ = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
ROWS = 200
FAULTS = [
    Fault(on="create", kind="outcome", body="failed", times=5),
    Fault(on="create", kind="outcome", body="incomplete", times=5),
    Fault(on="create", kind="status", status=400, times=2),
]


def start(block: str, clone: Path) -> subprocess.Popen[bytes]:
    """Start a block of the page in a new user's directory."""
    settings = json.loads((clone / "environment.json").read_text())
    return subprocess.Popen(
        ["bash", "-c", block],
        env=settings,
        cwd=clone,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(block: str, clone: Path) -> tuple[int, str]:
    """Run a block; return its exit code and what it printed."""
    with start(block, clone) as shell:
        out, _ = shell.communicate(timeout=120)
    return shell.returncode, out.decode()


def kill_after(lines: int, path: Path, shell: subprocess.Popen[bytes]) -> None:
    """Kill a block with SIGKILL once a file has this number of lines."""
    with shell:
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert shell.poll() is None, "it ended before"
            time.sleep(0.02)
        os.killpg(shell.pid, signal.SIGKILL)


def answers(clone: Path) -> list[dict[str, str]]:
    """The rows of the table."""
    with (clone / "answers.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_the_page(clone: Path, slow: Sandbox) -> None:
    """200 prompts become a table of answers, with a kill -9, a resumption and a retry."""
    with (clone / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["product", "stars", "prompt"])
        for number in range(ROWS):
            rows.writerow([f"product, {number}", number % 6, f'Sum up "{number}":\nIt is =good é.'])
    slow.script(*FAULTS)

    code, out = run(CHECK, clone)
    assert (code, json.loads(out.splitlines()[-1])["counts"]) == (0, {"valid": ROWS})
    assert len(out) < 10_000

    kill_after(20, clone / "answers.csv.jsonl", start(RUN, clone))
    code, out = run(WATCH, clone)
    assert code == 3
    assert "reviews.csv" in out

    code, out = run(RUN, clone)
    unknown = [row["status"] for row in answers(clone)].count("outcome_unknown")
    assert code == (6 if unknown else 1)  # requests that were being sent during the kill
    assert re.search(r"^\d+ of 200 already done|^\d+ of 200 done", out, re.MULTILINE)
    assert "5 failed: server_error" in out
    assert "5 incomplete" in out
    assert "2 refused" in out
    assert " --retry-failed" in out
    assert f"Results: {clone / 'answers.csv'}" in out
    statuses = [row["status"] for row in answers(clone)]
    assert (len(statuses), statuses.count("completed")) == (ROWS, ROWS - 12 - unknown)

    code, out = run(f"{RETRY.rstrip()} --resubmit-unknown" if unknown else RETRY, clone)
    assert code == 0, out
    table = answers(clone)
    assert [row["product"] for row in table] == [f"product, {one}" for one in range(ROWS)]
    assert [row["custom_id"] for row in table] == [str(one + 1) for one in range(ROWS)]
    assert {row["status"] for row in table} == {"completed"}
    assert all(row["output_text"] and float(row["cost_usd"]) > 0 for row in table)
    # The refused requests created no job; those that were being sent may have.
    assert ROWS + 10 <= len(slow.jobs) <= ROWS + 10 + unknown
    assert run(WATCH, clone)[0] == 0

    read = f"{READ}\nprint(len(answers))\n"
    code, out = run(f"python - << 'END'\n{read}END", clone)
    assert (code, out) == (0, f"{ROWS}\n")
