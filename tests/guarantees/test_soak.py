"""Minutes of processes under random faults, signals and kills: no job is lost or created twice."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from harness import Command, Result
from ledger import audit, count, tally
from oaibg.sandbox import Fault
from oaibg.sandbox.faults import KINDS, STREAM_KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CONTINUES = {3, 5, 7, 8, 129, 130, 143, -signal.SIGKILL}
"""Exit codes after which the same command is run again; a fault may occur twice in a row."""
ENDS = {"completed": 0, **dict.fromkeys(("failed", "incomplete", "cancelled", "expired"), 4)}


@dataclass
class Soak:
    """The state that the workers share."""

    command: Command
    sandbox: Sandbox
    folder: Path
    until: float
    delivered: dict[str, str] = field(default_factory=dict)
    """From a job key to the response ID in its `final`."""
    unknown: set[str] = field(default_factory=set)

    def work(self, number: int) -> None:
        """Submit one job after the other, and follow each until its end is reported."""
        rng = random.Random()
        while time.monotonic() < self.until:
            key = f"{number}-{rng.getrandbits(40)}"
            while not self.is_over(key, self.attempt(key, rng)):
                pass

    def attempt(self, key: str, rng: random.Random, *, calm: bool = False) -> Result:
        """Run a job key's submit or monitor, and usually end it early with a signal."""
        job = random.Random(key)
        wait = ["--poll-seconds", "0.2", "--output-text-file", str(self.folder / f"{key}.md")]
        if rng.random() < 0.3 and not calm:
            wait += ["--max-wait-seconds", str(rng.uniform(1, 20))]
        submit = ["submit", "--prompt", "x", "--metadata", f"key={key}"]
        submit += ["--metadata", f"sandbox_seconds={job.uniform(1, min(60, SECONDS / 3))}"]
        submit += ["--metadata", f"sandbox_outcome={job.choice(list(ENDS))}"]
        if rng.random() < 0.4 and not calm:
            self.sandbox.script(create_fault(rng))
        argv = submit if rng.random() < 0.7 or calm else ["monitor"]
        process = self.command.start(*argv, "--job-key", key, *wait)
        first = process.stdout.readline() if process.stdout else b""
        if rng.random() < 0.6 and time.monotonic() < self.until and not calm:
            time.sleep(rng.uniform(0, 8))
            process.send_signal(rng.choice(SIGNALS))
        # After a dozen failed polls in a row, more than a minute passes before the next.
        result = self.command.end(process, 900)
        return Result(result.code, first + result.out, result.err)

    def is_over(self, key: str, result: Result) -> bool:
        """Check a run; return whether it is the job key's last."""
        killed = result.code == -signal.SIGKILL
        count("kills", killed)
        lines = list(map(json.loads, result.out.split(b"\n")[:-1])) if killed else result.lines
        if ended := bool(lines) and lines[-1]["event"] == "final":
            self.deliver(key, lines[-1])
        elif result.code == 6:
            assert self.attempt(key, random.Random(), calm=True).code == 6
            self.unknown.add(key)
        else:
            assert result.code in CONTINUES, result
        return ended or result.code == 6

    def deliver(self, key: str, final: dict[str, Any]) -> None:
        """Check that a job's end and its output file match its request."""
        job = self.sandbox.jobs[final["response_id"]]
        assert (job.request["metadata"]["key"], job.outcome) == (key, final["status"])
        assert final["exit_code"] == ENDS[job.outcome]
        if job.outcome in ("completed", "incomplete"):
            assert (self.folder / f"{key}.md").read_text() == job.text
        self.delivered[key] = job.id

    def disturb(self) -> None:
        """Make polls fail in every way, all the time."""
        rng, scripted = random.Random(), 0
        while time.monotonic() < self.until:
            polls = [one for one in list(self.sandbox.requests) if one.method == "GET"]
            used = sum(one.fault is not None for one in polls)
            if scripted - used < 5:  # more pending faults would be one long outage
                self.sandbox.script(poll_fault(rng))
                scripted += 1
            time.sleep(rng.uniform(0, 0.4))


def poll_fault(rng: random.Random) -> Fault:
    """Return a random fault that can affect a poll."""
    kind = rng.choice([kind for kind in KINDS if kind not in STREAM_KINDS])
    wait = {"retry-after": rng.choice(["0", "1", "2", "soon", "Tue, 14 Nov 2000 22:30:50 GMT"])}
    hang = {"seconds": rng.choice([0.1, 1, 3, None])}
    options: dict[str, dict[str, Any]] = {
        "status": {"status": rng.choice([401, 403, 404, 408, 429, 500, 502, 503]), "headers": wait},
        "hang_before": hang,
        "hang_after": hang,
        "drip": {"seconds": 0.002},
        "truncate": {"after": rng.randrange(900)},
        "raw": {"body": rng.choice(["null", "{}", "[1", '{"status":"odd"}'])},
    }
    return Fault(on="retrieve", kind=kind, **options.get(kind, {}))


def create_fault(rng: random.Random) -> Fault:
    """Return a random fault of a create: mostly a refusal or a delay, sometimes a lost reply."""
    if rng.random() < 0.2:
        kind = rng.choice(["reset_before", "reset_after", "html", "status"])
        return Fault(on="create", kind=kind)
    if rng.random() < 0.5:
        return Fault(on="create", kind="status", status=rng.choice([429, 503]))
    kind = rng.choice(["delay", "hang_before", "hang_after"])
    return Fault(on="create", kind=kind, seconds=rng.uniform(0, 4))


@pytest.mark.soak
def test_soak(command: Command, sandbox: Sandbox, state: Path, tmp_path: Path) -> None:
    """Every created job is known, is followed to its end, and is the only one of its job key."""
    soak = Soak(command, sandbox, tmp_path, time.monotonic() + SECONDS)
    with ThreadPoolExecutor(7) as pool:
        working = [pool.submit(soak.work, number) for number in range(6)]
        for one in [*working, pool.submit(soak.disturb)]:
            one.result()
    audit(sandbox, state)
    tally(sandbox)
    assert soak.delivered
    created = {job.request["metadata"]["key"]: job.id for job in sandbox.jobs.values()}
    assert len(created) == len(sandbox.jobs)
    for key, identifier in created.items():
        assert soak.delivered.get(key) == identifier or key in soak.unknown
