"""`oaibg monitor` and `cancel` of several jobs, whole runs over real HTTP."""

from __future__ import annotations

import io
import json
import signal
import sqlite3
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import FakeClient, FakeClock, Result, fake_context, wait_until
from oaibg.contract.errors import ExitCode
from oaibg.engine import report
from oaibg.engine.job import Job
from oaibg.many.pace import CONNECTIONS
from oaibg.many.side_by_side import spread
from oaibg.many.tally import WORST, Tally
from oaibg.sandbox import Fault
from oaibg.sandbox.job.job import new_job
from oaibg.state.database import FILE
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.03")


def jobs_of(sandbox: Sandbox, number: int, seconds: float = 600, outcome: str = "") -> list[str]:
    """Jobs that the server has, as if somebody had submitted them; gives their ids."""
    metadata = {"sandbox_outcome": outcome} if outcome else {}
    body = {"model": "m", "input": "x", "background": True, "metadata": metadata}
    jobs = [new_job(body, time.time(), seconds, sandbox._state.personality) for _ in range(number)]
    sandbox.jobs.update({job.id: job for job in jobs})
    return [job.id for job in jobs]


def ends(result: Result) -> dict[str, str]:
    """The event that ended each job's part of a run, by the job's id."""
    ending = ("final", "timeout", "interrupted", "error", "cancel_result")
    found = [line for line in result.lines if line["event"] in ending]
    told = {line["response_id"]: line["event"] for line in found}
    assert len(found) == len(told), "each job ends once"
    return told


def again(result: Result) -> list[str]:
    """The argv of `next`."""
    command: list[str] = result.last["next"]
    return command[command.index("monitor") :]


@pytest.fixture
def many(run: Callable[..., Result]) -> Callable[..., Result]:
    """Run a command over several jobs in this process; all of its lines are checked."""
    return lambda *argv: checked(run(*argv))


@pytest.fixture
def start(command: Command, tmp_path: Path) -> Callable[..., Callable[..., Result]]:
    """Start a process whose lines go to a file, as nobody reads a pipe meanwhile."""

    def start_it(*argv: str) -> Callable[..., Result]:
        path = tmp_path / "lines"
        with path.open("wb") as out:
            process = command.start(*argv, stdout=out)

        def end(number: signal.Signals | None = None) -> Result:
            if number is not None:
                process.send_signal(number)
            code = process.wait(30)
            _, err = process.communicate()
            return Result(code, path.read_bytes(), (err or b"").decode())

        return end

    return start_it


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Set what stdin has; None where it is closed."""
    return lambda text: monkeypatch.setattr(
        sys, "stdin", None if text is None else io.StringIO(text)
    )


def test_each_job_ends_and_a_summary_closes(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """A `final` an id without an exit code, `custom_id` null on every line, and the counts."""
    ids = [*jobs_of(sandbox, 3, 0.2), *jobs_of(sandbox, 2, 0.05, "incomplete")]
    result = many("monitor", *ids, *FAST)
    finals = {line["response_id"]: line for line in result.lines if line["event"] == "final"}
    assert finals.keys() == set(ids)
    assert {line["exit_code"] for line in finals.values()} == {None}
    assert {line["custom_id"] for line in result.lines} == {None}
    assert result.last["counts"] == {"completed": 3, "incomplete": 2}
    assert (result.code, result.last["next"], result.last["response_id"]) == (4, None, None)
    assert finals[ids[3]]["next"][-2:] == ["show", ids[3]]


def test_an_id_that_is_given_twice(
    many: Callable[..., Result], sandbox: Sandbox, stdin: Callable[[str | None], None]
) -> None:
    """It is followed once, wherever it is given."""
    first, second = jobs_of(sandbox, 2, 0.01)
    stdin(f"{second}\n{first}\n")
    result = many("monitor", first, first, "-", second, *FAST)
    assert ends(result) == {first: "final", second: "final"}


def test_one_id_given_twice_is_one_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """It is a run over one job: the `final` has the exit code."""
    (identifier,) = jobs_of(sandbox, 1, 0.01)
    result = run("monitor", identifier, identifier, *FAST)
    assert (result.code, result.last["event"]) == (0, "final")


def test_ids_from_stdin(
    many: Callable[..., Result], sandbox: Sandbox, stdin: Callable[[str | None], None]
) -> None:
    """One a line, or several; blank lines and white space don't count."""
    ids = jobs_of(sandbox, 4, 0.01)
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
    """It is a run over several jobs all the same: a script need not count them."""
    (identifier,) = jobs_of(sandbox, 1, 0.01 if "monitor" in command else 600)
    stdin(identifier)
    result = many(*command)
    assert (result.code, list(ends(result))) == (0, [identifier])
    assert sum(result.last["counts"].values()) == 1


@pytest.mark.parametrize("command", ["monitor", "cancel"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resp_1\n\n../x\n", "stdin, line 3"),
        ("resp_1 a/b\n", "stdin, line 1"),
        ("resp_1\n" + "x" * 1025, "stdin, line 2"),
        ("", "no id on stdin"),
        (" \n\n", "no id on stdin"),
        (None, "stdin is closed"),
    ],
)
def test_bad_stdin(
    run: Callable[..., Result],
    sandbox: Sandbox,
    stdin: Callable[[str | None], None],
    command: str,
    text: str | None,
    told: str,
) -> None:
    """A usage error that says what is wrong, with the line's number, and nothing is sent."""
    stdin(text)
    result = run(command, "-")
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert told in result.last["message"]
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
    """Exit 2, one error line, and no request."""
    result = run(*argv)
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert not sandbox.requests


@pytest.mark.parametrize("command", ["monitor", "cancel"])
def test_a_job_key_that_is_a_hyphen(run: Callable[..., Result], command: str) -> None:
    """It is a key as any other, and does not make a run over no jobs of it."""
    result = run(command, "--job-key", "-")
    assert (result.code, result.last["code"]) == (5, "not_found")


def test_a_bad_job_aborts_no_other(
    many: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """One that fails, one that the API doesn't have, and one that is never answered for a while."""
    good = jobs_of(sandbox, 2, 0.2)
    (bad,) = jobs_of(sandbox, 1, 0.2, "failed")
    (faulty,) = jobs_of(sandbox, 1, 0.2)
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


def final(code: int) -> Event:
    """A job's end with a code."""
    return report.cancel_result(Job("resp_1"), ExitCode(code), fake())


@pytest.mark.parametrize(("worse", "better"), list(pairwise((6, 8, 7, 1, 3, 9, 5, 4, 0))))
def test_the_worst_code_is_the_run_s(worse: int, better: int) -> None:
    """In the contract's order, whichever comes first."""
    for codes in ((worse, better), (better, worse, better)):
        tally = Tally()
        for code in codes:
            tally.take(final(code))
        assert tally.summary(fake(), next_=None).exit_code == worse


def test_the_order_of_codes() -> None:
    """All that a job can end with, and a signal before them."""
    assert [code for code in WORST if code != ExitCode.USAGE] == [6, 8, 7, 1, 3, 9, 5, 4, 0]
    tally = Tally()
    tally.take(final(6))
    tally.note_interrupt()
    assert tally.summary(fake(), next_=None).exit_code == 143


def fake() -> Context:
    """A context for a summary."""
    return fake_context(FakeClient(FakeClock()))


def test_codes_of_mixed_runs(
    many: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """Still running above not found, above unsuccessful, above completed."""
    groups = {
        0: jobs_of(sandbox, 1, 0.01),
        4: jobs_of(sandbox, 1, 0.01, "failed"),
        5: ["resp_unknown"],
        3: jobs_of(sandbox, 1),
    }
    given: list[str] = ["resp_unknown_2"]
    for code in (5, 4, 3):
        given += groups[code]
        result = many("monitor", *given, "--poll-seconds", "9", "--max-wait-seconds", "50")
        assert result.code == (3 if code == 3 else 5)
    assert many("monitor", *groups[0], *groups[4], *FAST).code == 4


def test_the_deadline_of_several(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """A `timeout` a job that goes on, 3, and `next` follows these and no others to their ends."""
    done, bad = jobs_of(sandbox, 3, 0.01), jobs_of(sandbox, 2, 0.01, "failed")
    running = jobs_of(sandbox, 4, 1.2)
    mixed = [running[0], *done, *running[1:3], *bad, running[3]]
    options = ("--max-wait-seconds", "0.8", *FAST, "--events", "changes", "--show-output-text")
    result = many("monitor", *mixed, *options)
    assert (result.code, result.last["counts"]["completed"]) == (3, 3)
    assert result.last["elapsed_seconds"] == pytest.approx(0.8, abs=0.5)
    timeouts = [line for line in result.lines if line["event"] == "timeout"]
    assert {line["response_id"] for line in timeouts} == set(running)
    assert {line["exit_code"] for line in timeouts} == {None}
    command = again(result)
    assert sorted(command[-4:]) == sorted(running)
    assert set(command[1:-4]) == set(options)
    while result.code == 3:
        assert not {*done, *bad} & set(again(result))
        result = many(*again(result))
    assert (result.code, result.last["counts"]) == (0, {"completed": 4})
    assert result.events.count("output_text") == 4


def test_an_id_that_begins_with_a_hyphen(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """`next` works with it as it stands."""
    running = jobs_of(sandbox, 2)
    job = sandbox.jobs.pop(running[1])
    job.id = "-strange"
    sandbox.jobs["-strange"] = job
    result = many("monitor", "--max-wait-seconds", "0.3", *FAST, "--", running[0], "-strange")
    assert again(result)[-3] == "--"
    assert many(*again(result)).last["counts"] == result.last["counts"]


@pytest.mark.slow
def test_a_server_that_hangs_at_the_deadline(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """The wait for a turn counts: more jobs than connections end in time all the same."""
    ids = jobs_of(sandbox, 30)
    sandbox.script(Fault(on="retrieve", kind="hang_before", times=8))
    sandbox.script(Fault(on="retrieve", kind="hang_before", seconds=0.3, times=8))
    sandbox.script(Fault(on="retrieve", kind="hang_before", times=0))
    result = many("monitor", *ids, "--max-wait-seconds", "1.5", "--poll-seconds", "1")
    assert (result.code, result.last["counts"].keys() - {"queued"}) == (3, {"unknown"})
    assert sorted(again(result)[-30:]) == sorted(ids)
    assert result.last["elapsed_seconds"] < 2.5


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.process
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("jobs", [2, 300])
def test_signal(
    start: Callable[..., Callable[..., Result]],
    sandbox: Sandbox,
    number: signal.Signals,
    jobs: int,
) -> None:
    """`interrupted` a job, the summary, all within a second; `next` has all that go on."""
    ids = jobs_of(sandbox, jobs)
    end = start("monitor", *ids, "--poll-seconds", "1")
    wait_until(lambda: len(sandbox.requests) > jobs)
    sent = time.monotonic()
    result = end(number)
    assert time.monotonic() - sent < (1.2 if jobs == 2 else 2)
    checked(result)
    assert (result.code, result.err) == (SIGNALS[number], "")
    assert ends(result) == dict.fromkeys(ids, "interrupted")
    counts = result.last["counts"]
    assert (sum(counts.values()), counts.keys() - {"unknown"}) == (jobs, {"queued"})
    assert again(result)[1:3] == ["--poll-seconds", "1"]
    assert sorted(again(result)[3:]) == sorted(ids)
    assert {one.method for one in sandbox.requests} == {"GET"}


@pytest.mark.process
def test_signal_during_the_start(command: Command, sandbox: Sandbox, state: Path) -> None:
    """Before anything was begun, too, the last line has a `next` with all the ids."""
    ids = jobs_of(sandbox, 40)
    command.run("monitor", *ids, "--max-wait-seconds", "0.1")
    database = sqlite3.connect(state / FILE, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")  # and the state is waited for
    process = command.start("monitor", *ids)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    database.close()
    assert (result.code, result.events) == (143, ["interrupted"])
    assert sorted(again(result)[1:]) == sorted(ids)


@pytest.mark.process
def test_cancel_on_interrupt(start: Callable[..., Callable[..., Result]], sandbox: Sandbox) -> None:
    """Each job is cancelled, and the summary says so."""
    ids = jobs_of(sandbox, 40)
    end = start("monitor", *ids, "--cancel-on-interrupt", "--poll-seconds", "0.2")
    wait_until(lambda: len({one.path for one in sandbox.requests}) == 40)
    sent = time.monotonic()
    result = end(signal.SIGINT)
    assert time.monotonic() - sent < 6
    checked(result)
    assert (result.code, result.last["counts"]) == (130, {"cancelled": 40})
    assert result.last["next"] is None
    assert {job.status(time.time()) for job in sandbox.jobs.values()} == {"cancelled"}


def test_cancel_of_several(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """0 where each is cancelled, or was."""
    ids = jobs_of(sandbox, 5)
    for _ in range(2):
        result = many("cancel", *ids)
        assert ends(result) == dict.fromkeys(ids, "cancel_result")
        assert (result.code, result.last["counts"]) == (0, {"cancelled": 5})
        assert result.last["next"] is None


def test_cancel_of_a_mix(
    many: Callable[..., Result], sandbox: Sandbox, instant_sleep: None
) -> None:
    """Each is told truly; what goes on is in `next`, whether it was refused or is not confirmed."""
    running, refused, unconfirmed = jobs_of(sandbox, 3)
    (done,) = jobs_of(sandbox, 1, 0)
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
    assert result.code == 1
    assert sorted(again(result)[1:]) == sorted([refused, unconfirmed])


@pytest.mark.parametrize("command", [("monitor", *FAST), ("cancel",)])
def test_a_refused_key(
    many: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    """8, and each job is told."""
    monkeypatch.setenv("OPENAI_API_KEY", "invalid-key")
    ids = jobs_of(sandbox, 3)
    result = many(*command, *ids)
    assert (result.code, ends(result)) == (8, dict.fromkeys(ids, "error"))


def test_no_key(
    many: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8, and no request."""
    monkeypatch.delenv("OPENAI_API_KEY")
    result = many("monitor", *jobs_of(sandbox, 3))
    assert (result.code, len(sandbox.requests)) == (8, 0)


def test_a_state_that_cannot_be_used(
    many: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run goes on, and says so once."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("OAIBG_STATE_DIR", str(tmp_path / "file"))
    result = many("monitor", *jobs_of(sandbox, 5, 0.01), *FAST)
    assert (result.code, result.last["counts"]) == (0, {"completed": 5})
    warnings = [line["code"] for line in result.lines if line["event"] == "warning"]
    assert warnings == ["state_unwritable"]


def test_results_are_kept(
    many: Callable[..., Result], run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """`show` of each has it afterwards, without a request."""
    ids = jobs_of(sandbox, 3, 0.01)
    many("monitor", *ids, *FAST)
    asked = len(sandbox.requests)
    for identifier in ids:
        assert run("show", identifier).last["source"] == "local"
    assert len(sandbox.requests) == asked
    listed = run("show", "--list").lines[:-1]
    assert [line["custom_id"] for line in listed] == [None] * 3


def test_changes_alone(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """With `--events changes` a poll line a status."""
    ids = jobs_of(sandbox, 5, 0.3)
    result = many("monitor", *ids, *FAST, "--events", "changes")
    for identifier in ids:
        statuses = [
            line["status"]
            for line in result.lines
            if line["event"] == "poll" and line["response_id"] == identifier
        ]
        assert len(statuses) == len(set(statuses))
        assert statuses[-1] == "completed"


def test_an_even_spread() -> None:
    """Any row of jobs lies evenly in the interval."""
    for number in (30, 100, 1000):
        parts = [spread(one) for one in range(number)]
        assert all(0 < part <= 1 for part in parts)
        tenths = [sum(part > tenth / 10 and part <= (tenth + 1) / 10 for part in parts)
                  for tenth in range(10)]  # fmt: skip
        assert max(tenths) <= number / 10 + 1


def connections(sandbox: Sandbox) -> int:
    """TCP connections that clients have open to the server now."""
    port = int(sandbox.base_url.rsplit(":", 1)[1].partition("/")[0])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


@pytest.mark.process
def test_many_jobs_share_few_connections(
    start: Callable[..., Callable[..., Result]], sandbox: Sandbox
) -> None:
    """200 jobs are polled over fewer connections, each of them again and again."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("needs Linux")
    before = connections(sandbox)
    ids = jobs_of(sandbox, 200)
    end = start("monitor", *ids, "--poll-seconds", "1")
    wait_until(lambda: len(sandbox.requests) > 600)
    assert connections(sandbox) - before <= CONNECTIONS[1]
    for job in sandbox.jobs.values():
        job.seconds = 0.01
    assert checked(end()).last["counts"] == {"completed": 200}
    polls = Counter(one.response_id for one in sandbox.requests)
    assert polls.keys() == set(ids)
    assert min(polls.values()) >= 2


@pytest.mark.process
def test_429s_slow_the_whole_run(
    start: Callable[..., Callable[..., Result]], sandbox: Sandbox
) -> None:
    """After a few of them nothing goes out for as long as it was asked; and all jobs end."""
    ids = jobs_of(sandbox, 40, 2)
    headers = {"retry-after": "1"}
    sandbox.script(
        Fault(on="retrieve", kind="status", status=429, headers=headers, skip=60, times=4)
    )
    result = checked(start("monitor", *ids, "--poll-seconds", "0.3", "--events", "changes")())
    assert (result.code, result.last["counts"]) == (0, {"completed": 40})
    busy = next(one.at for one in sandbox.requests if one.fault)
    times = [one.at for one in sandbox.requests if one.at >= busy]
    assert max(later - one for one, later in pairwise(times)) > 0.8
    errors = [line for line in result.lines if line["event"] == "poll_error"]
    assert [line["error"]["http_status"] for line in errors] == [429] * 4
