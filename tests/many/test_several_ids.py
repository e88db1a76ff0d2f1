"""`oaibg monitor` and `cancel` of several IDs, whole runs over real HTTP."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from oaibg.sandbox import Fault
from oaibg.state.database import FILE
from runs import FAST, PROMPT, finish, new_jobs, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result
    from oaibg.sandbox import Sandbox


def ends(result: Result) -> dict[str, str]:
    """Return the event that ended each job, by response ID."""
    ending = ("final", "timeout", "interrupted", "error", "cancel_result")
    found = [line for line in result.lines if line["event"] in ending]
    by_id = {line["response_id"]: line["event"] for line in found}
    assert len(found) == len(by_id), "each job ends once"
    return by_id


def test_each_job_ends_before_the_summary(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """Each ID has a `final` without exit code and `custom_id`, and the summary counts them."""
    ids = [*new_jobs(sandbox, 3, 0.2), *new_jobs(sandbox, 2, 0.05, "incomplete")]
    result = many("monitor", *ids, *FAST)
    finals = {line["response_id"]: line for line in result.lines if line["event"] == "final"}
    assert finals.keys() == set(ids)
    assert {line["exit_code"] for line in finals.values()} == {None}
    assert {line["custom_id"] for line in result.lines} == {None}
    assert result.last["counts"] == {"completed": 3, "incomplete": 2}
    assert (result.code, result.last["next"], result.last["response_id"]) == (4, None, None)
    assert finals[ids[3]]["next"] is None


def test_an_id_that_is_given_twice(
    many: Callable[..., Result], sandbox: Sandbox, stdin: Callable[[str | None], None]
) -> None:
    """An ID that is given twice is followed once, also if one of them is on stdin."""
    first, second = new_jobs(sandbox, 2, 0.01)
    stdin(f"{second}\n{first}\n")
    result = many("monitor", first, first, "-", second, *FAST)
    assert ends(result) == {first: "final", second: "final"}


def test_one_id_given_twice_is_one_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A single ID that is given twice is a run over one job, so its `final` has the exit code."""
    (identifier,) = new_jobs(sandbox, 1, 0.01)
    result = run("monitor", identifier, identifier, *FAST)
    assert (result.code, result.last["event"]) == (0, "final")


def test_ids_from_stdin(
    many: Callable[..., Result], sandbox: Sandbox, stdin: Callable[[str | None], None]
) -> None:
    """IDs on stdin are separated by white space or line ends; blank lines are ignored."""
    ids = new_jobs(sandbox, 4, 0.01)
    stdin(f"\n  {ids[0]}\t\r\n\n{ids[1]} {ids[2]}\n\n{ids[3]}")
    result = many("monitor", "-", *FAST)
    assert (result.code, set(ends(result))) == (0, set(ids))


@pytest.mark.parametrize("command", [("monitor", "-", *FAST), ("cancel", "-")])
def test_one_id_from_stdin(
    many: Callable[..., Result],
    sandbox: Sandbox,
    stdin: Callable[[str | None], None],
    command: tuple[str, ...],
) -> None:
    """A single ID from stdin is a run over several jobs, so scripts need not count IDs."""
    (identifier,) = new_jobs(sandbox, 1, 0.01 if "monitor" in command else 600)
    stdin(identifier)
    result = many(*command)
    assert (result.code, list(ends(result))) == (0, [identifier])
    assert sum(result.last["counts"].values()) == 1


@pytest.mark.parametrize("command", ["monitor", "cancel"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resp_1\n\n../x\n", "'../x' is neither"),
        ("resp_1 a/b\n", "'a/b' is neither"),
        ("resp_1\n" + "x" * 1025, "stdin, line 2"),
        ("", "stdin contains no IDs"),
        (" \n\n", "stdin contains no IDs"),
        (None, "stdin is closed"),
    ],
)
def test_bad_stdin(
    run: Callable[..., Result],
    sandbox: Sandbox,
    stdin: Callable[[str | None], None],
    command: str,
    text: str | None,
    message: str,
) -> None:
    """A bad stdin is a usage error with the line's number, and nothing is sent."""
    stdin(text)
    result = run(command, "-")
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert message in result.last["message"]
    assert not sandbox.requests


@pytest.mark.parametrize(
    "argv",
    [
        ("monitor", "resp_1", "resp_2", "--output-json-file", "a.json"),
        ("monitor", "resp_1", "resp_2", "--output-text-file", "a.md"),
        ("monitor", "resp_1", "../x"),
        ("monitor", "resp_1", "resp_2", "--job-key", "k"),
        ("cancel", "resp_1", ""),
        ("cancel", "resp_1", "resp_2", "--job-key", "k"),
    ],
    ids=" ".join,
)
def test_usage_errors(run: Callable[..., Result], sandbox: Sandbox, argv: tuple[str, ...]) -> None:
    """Options and IDs that don't fit give exit 2, one error line and no request."""
    result = run(*argv)
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert not sandbox.requests


@pytest.mark.parametrize("command", ["monitor", "cancel"])
def test_a_job_key_that_is_a_hyphen(run: Callable[..., Result], command: str) -> None:
    """A hyphen is a job key like any other, and does not read IDs from stdin."""
    result = run(command, "--job-key", "-")
    assert (result.code, result.last["code"]) == (5, "not_found")


def test_a_bad_job_stops_no_other(
    many: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """A failed job, an unknown ID and failing polls do not stop the other jobs."""
    good = new_jobs(sandbox, 2, 0.2)
    (bad,) = new_jobs(sandbox, 1, 0.2, "failed")
    (faulty,) = new_jobs(sandbox, 1, 0.2)
    sandbox.script(
        Fault(on="retrieve", kind="status", response_id=faulty),
        Fault(on="retrieve", kind="reset_before", response_id=faulty),
        Fault(on="retrieve", kind="html", response_id=faulty, times=2),
    )
    result = many("monitor", *good, bad, faulty, "resp_unknown", "--poll-seconds", "5")
    assert ends(result) == dict.fromkeys([*good, bad, faulty], "final") | {"resp_unknown": "error"}
    assert result.last["counts"] == {"completed": 3, "failed": 1, "not_found": 1}
    errors = [line for line in result.lines if line["event"] == "poll_error"]
    assert sum(line["response_id"] == faulty for line in errors) == 4
    assert (result.code, result.last["next"]) == (5, None)


def test_exit_codes_of_mixed_runs(
    many: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """Still running outranks not found, which outranks unsuccessful, which outranks completed."""
    groups = {
        0: new_jobs(sandbox, 1, 0.01),
        4: new_jobs(sandbox, 1, 0.01, "failed"),
        5: ["resp_unknown"],
        3: new_jobs(sandbox, 1),
    }
    given: list[str] = ["resp_unknown_2"]
    for code in (5, 4, 3):
        given += groups[code]
        result = many("monitor", *given, "--poll-seconds", "9", "--max-wait-seconds", "50")
        assert result.code == (3 if code == 3 else 5)
    assert many("monitor", *groups[0], *groups[4], *FAST).code == 4


@pytest.mark.slow
def test_the_wait_limit(many: Callable[..., Result], sandbox: Sandbox, instant_sleep: None) -> None:
    """At the wait limit each running job has a `timeout`; `next` follows exactly these jobs."""
    done, bad = new_jobs(sandbox, 3, 0.01), new_jobs(sandbox, 2, 0.01, "failed")
    running = new_jobs(sandbox, 4)
    mixed = [running[0], *done, *running[1:3], *bad, running[3]]
    limits = ("--max-wait-seconds", "300", "--poll-seconds", "3")
    options = (*limits, "--events", "changes", "--show-output-text")
    result = many("monitor", *mixed, *options)
    assert (result.code, result.last["counts"]["completed"]) == (3, 3)
    assert 300 <= result.last["elapsed_seconds"] < 310
    timeouts = [line for line in result.lines if line["event"] == "timeout"]
    assert {line["response_id"] for line in timeouts} == set(running)
    assert {line["exit_code"] for line in timeouts} == {None}
    command = rerun(result.last["next"])
    assert sorted(command[-4:]) == sorted(running)
    assert set(command[1:-4]) == set(options)
    finish(sandbox)
    result = many(*command)
    assert (result.code, result.last["counts"]) == (0, {"completed": 4})
    assert result.events.count("output_text") == 4


def test_an_id_that_begins_with_a_hyphen(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """`next` works unchanged with an ID that begins with a hyphen."""
    running = new_jobs(sandbox, 2)
    job = sandbox.jobs.pop(running[1])
    job.id = "-strange"
    sandbox.jobs["-strange"] = job
    result = many("monitor", "--max-wait-seconds", "0.3", *FAST, "--", running[0], "-strange")
    assert rerun(result.last["next"])[-3] == "--"
    assert many(*rerun(result.last["next"])).last["counts"] == result.last["counts"]


@pytest.mark.slow
def test_a_server_that_hangs_at_the_wait_limit(
    many: Callable[..., Result], sandbox: Sandbox
) -> None:
    """More jobs than connections end soon after the wait limit, even if the server hangs."""
    ids = new_jobs(sandbox, 30)
    sandbox.script(Fault(on="retrieve", kind="hang_before", times=8))
    sandbox.script(Fault(on="retrieve", kind="hang_before", seconds=0.3, times=8))
    sandbox.script(Fault(on="retrieve", kind="hang_before", times=0))
    result = many("monitor", *ids, "--max-wait-seconds", "1.5", "--poll-seconds", "1")
    assert (result.code, result.last["counts"].keys() - {"queued"}) == (3, {"unknown"})
    assert sorted(rerun(result.last["next"])[-30:]) == sorted(ids)
    assert result.last["elapsed_seconds"] < 10


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.process
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("jobs", [2, 300])
def test_a_signal(
    start: Callable[..., Callable[..., Result]],
    sandbox: Sandbox,
    number: signal.Signals,
    jobs: int,
) -> None:
    """A signal ends the run promptly, with `interrupted` per job and all running IDs in `next`."""
    ids = new_jobs(sandbox, jobs)
    end = start("monitor", *ids, "--poll-seconds", "1")
    wait_until(lambda: len(sandbox.requests) > jobs)
    sent = time.monotonic()
    result = end(number)
    assert time.monotonic() - sent < PROMPT
    checked(result)
    assert (result.code, result.err) == (SIGNALS[number], "")
    assert ends(result) == dict.fromkeys(ids, "interrupted")
    counts = result.last["counts"]
    assert (sum(counts.values()), counts.keys() - {"unknown"}) == (jobs, {"queued"})
    assert rerun(result.last["next"])[1:3] == ["--poll-seconds", "1"]
    assert sorted(rerun(result.last["next"])[3:]) == sorted(ids)
    assert {one.method for one in sandbox.requests} == {"GET"}


def has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    return any(link.exists() and link.samefile(path) for link in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_a_signal_during_the_start(command: Command, sandbox: Sandbox, state: Path) -> None:
    """A signal before the run has begun still ends with a `next` that has all IDs."""
    ids = new_jobs(sandbox, 40)
    command.run("monitor", *ids, "--max-wait-seconds", "0.1")
    database = sqlite3.connect(state / FILE, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")  # so that the process waits for the state
    process = command.start("monitor", *ids)
    wait_until(lambda: has_open(process.pid, state / FILE))
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    database.close()
    assert (result.code, result.events) == (143, ["interrupted"])
    assert sorted(rerun(result.last["next"])[1:]) == sorted(ids)


@pytest.mark.process
def test_cancel_on_interrupt(start: Callable[..., Callable[..., Result]], sandbox: Sandbox) -> None:
    """With `--cancel-on-interrupt` a signal cancels each job, as the summary shows."""
    ids = new_jobs(sandbox, 40)
    end = start("monitor", *ids, "--cancel-on-interrupt", "--poll-seconds", "0.2")
    wait_until(lambda: len({one.path for one in sandbox.requests}) == 40)
    sent = time.monotonic()
    result = end(signal.SIGINT)
    assert time.monotonic() - sent < 3 * PROMPT
    checked(result)
    assert (result.code, result.last["counts"]) == (130, {"cancelled": 40})
    assert result.last["next"] is None
    assert {job.status(time.time()) for job in sandbox.jobs.values()} == {"cancelled"}


@pytest.mark.process
def test_slow_cancels_on_interrupt(
    start: Callable[..., Callable[..., Result]], sandbox: Sandbox
) -> None:
    """A hundred jobs are all cancelled by a signal if each cancel takes a second."""
    ids = new_jobs(sandbox, 100)
    end = start("monitor", *ids, "--cancel-on-interrupt", "--poll-seconds", "0.5")
    wait_until(lambda: len({one.path for one in sandbox.requests}) == 100)
    sandbox.script(Fault(on="cancel", kind="hang_before", seconds=1.0, times=0))
    sent = time.monotonic()
    result = end(signal.SIGINT)
    assert time.monotonic() - sent < 10
    assert (result.code, result.last["counts"]) == (130, {"cancelled": 100})
    assert result.last["next"] is None


@pytest.mark.process
def test_unconfirmed_cancels_on_interrupt(
    start: Callable[..., Callable[..., Result]], many: Callable[..., Result], sandbox: Sandbox
) -> None:
    """Jobs whose cancel isn't confirmed are reported by number, and `next` cancels them."""
    ids = new_jobs(sandbox, 12)
    end = start("monitor", *ids, "--cancel-on-interrupt", "--poll-seconds", "0.2")
    wait_until(lambda: len({one.path for one in sandbox.requests}) == 12)
    sandbox.script(Fault(on="cancel", kind="status", status=503, times=0, skip=9))
    result = end(signal.SIGINT)
    (warning,) = [one for one in result.lines if one.get("code") == "cancel_unconfirmed"]
    assert "3 jobs" in warning["message"]
    counts = result.last["counts"]
    assert (result.code, counts["cancelled"], sum(counts.values())) == (130, 9, 12)
    sandbox._state.faults.clear()
    left = result.last["next"][result.last["next"].index("cancel") :]
    assert len(left) == 1 + 3
    again = many(*left)
    assert (again.code, again.last["counts"]) == (0, {"cancelled": 3})
    assert {job.status(time.time()) for job in sandbox.jobs.values()} == {"cancelled"}


def test_cancel(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """`cancel` ends with exit 0 if each job is cancelled, now or before."""
    ids = new_jobs(sandbox, 5)
    for _ in range(2):
        result = many("cancel", *ids)
        assert ends(result) == dict.fromkeys(ids, "cancel_result")
        assert (result.code, result.last["counts"]) == (0, {"cancelled": 5})
        assert result.last["next"] is None


def test_cancel_of_a_mix(
    many: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """`cancel` reports each job's actual status; `next` has the jobs that may still run."""
    running, refused, unconfirmed = new_jobs(sandbox, 3)
    (done,) = new_jobs(sandbox, 1, 0)
    body = json.dumps({"id": unconfirmed, "status": "in_progress"})
    sandbox.script(
        Fault(on="cancel", kind="status", status=409, response_id=refused, times=0),
        Fault(on="cancel", kind="raw", body=body, response_id=unconfirmed, times=0),
        Fault(on="retrieve", kind="raw", body=body, response_id=unconfirmed, times=0),
    )
    result = many("cancel", running, refused, unconfirmed, done, "resp_unknown")
    statuses = {
        line["response_id"]: line["status"]
        for line in result.lines
        if line["event"] == "cancel_result"
    }
    assert statuses == {
        running: "cancelled",
        refused: "queued",
        unconfirmed: "in_progress",
        done: "completed",
    }
    assert result.last["counts"] == {
        "cancelled": 1,
        "queued": 1,
        "in_progress": 1,
        "completed": 1,
        "not_found": 1,
    }
    assert result.code == 3
    assert sorted(rerun(result.last["next"])[1:]) == sorted([refused, unconfirmed])


@pytest.mark.parametrize("command", [("monitor", *FAST), ("cancel",)])
def test_a_refused_key(
    many: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    """A refused key gives exit 8 and an error for each job."""
    monkeypatch.setenv("OPENAI_API_KEY", "invalid-key")
    ids = new_jobs(sandbox, 3)
    result = many(*command, *ids)
    assert (result.code, ends(result)) == (8, dict.fromkeys(ids, "error"))


def test_no_key_for_several_ids(
    many: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key the run ends with exit 8 and sends nothing."""
    monkeypatch.delenv("OPENAI_API_KEY")
    result = many("monitor", *new_jobs(sandbox, 3))
    assert (result.code, len(sandbox.requests)) == (8, 0)


def test_a_state_that_is_not_a_directory(
    many: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If the state can't be used, the run continues with one warning."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("OAIBG_STATE_DIR", str(tmp_path / "file"))
    result = many("monitor", *new_jobs(sandbox, 5, 0.01), *FAST)
    assert (result.code, result.last["counts"]) == (0, {"completed": 5})
    warnings = [line["code"] for line in result.lines if line["event"] == "warning"]
    assert warnings == ["state_unwritable"]


def test_results_are_kept(
    many: Callable[..., Result], run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """`show` prints each result from the local state afterwards, without a request."""
    ids = new_jobs(sandbox, 3, 0.01)
    many("monitor", *ids, *FAST)
    requests = len(sandbox.requests)
    for identifier in ids:
        assert run("show", identifier).last["source"] == "local"
    assert len(sandbox.requests) == requests
    listed = run("show", "--list").lines[:-1]
    assert [line["custom_id"] for line in listed] == [None] * 3


def test_events_changes(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """With `--events changes` each status of a job has one poll line."""
    ids = new_jobs(sandbox, 5, 0.3)
    result = many("monitor", *ids, *FAST, "--events", "changes")
    for identifier in ids:
        statuses = [
            line["status"]
            for line in result.lines
            if line["event"] == "poll" and line["response_id"] == identifier
        ]
        assert len(statuses) == len(set(statuses))
        assert statuses[-1] == "completed"
