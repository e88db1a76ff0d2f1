"""A jobs file's run in background mode: whole runs over real HTTP."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import Result, parsed, wait_until
from ledger import audit, count, tally
from oaibg.sandbox import Fault
from oaibg.state.database import FILE
from runs import ENDLESS, PROMPT, Files, finals, finish, line, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command
    from oaibg.sandbox import LoggedRequest, Sandbox


FOR_EVER = 1 << 30


def polled(sandbox: Sandbox) -> set[str | None]:
    """Return the IDs of the jobs that have been polled."""
    return {one.response_id for one in sandbox.requests if one.method == "GET"}


def wait_for_posts(sandbox: Sandbox, number: int) -> None:
    """Wait until the server has received this number of creates."""
    wait_until(lambda: len(sandbox.posts) >= number)


def test_a_whole_run(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Each job is submitted, followed and written, and the summary counts the jobs."""
    files.add(5, sandbox_seconds="0.1")
    result = many(*files.argv())
    assert (result.code, result.last["counts"], result.last["next"]) == (0, {"completed": 5}, None)
    assert finals(result) == {f"job {one}": "completed" for one in range(5)}
    files.check(sandbox, 5)
    for name, one in files.read().items():
        assert one["response"]["status_code"] == 200
        assert one["response"]["request_id"].startswith("req_")
        events = [each["event"] for each in result.lines if each["custom_id"] == name]
        assert events[:2] == ["submit_start", "submitted"]
        assert events[-1] == "final"
    starts = [one for one in result.lines if one["event"] == "submit_start"]
    assert {one["job_key"] for one in starts} == {str(files.jobs)}


def test_every_way_to_end(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Failed, incomplete, cancelled, expired and refused jobs each have a result."""
    outcomes = ("completed", "failed", "incomplete", "cancelled", "expired")
    files.write(
        *(line(one, metadata={"sandbox_outcome": one}) for one in outcomes),
        line("bad", temperature="hot", metadata={"sandbox_outcome": "nonsense"}),
    )
    result = many(*files.argv())
    assert result.last["counts"] == dict.fromkeys([*outcomes, "refused"], 1)
    assert (result.code, result.last["next"]) == (1, None)
    results = files.read()
    assert {one: results[one]["response"]["body"]["status"] for one in outcomes} == {
        one: one for one in outcomes
    }
    refused = results["bad"]["response"]
    assert (refused["status_code"], list(refused["body"])) == (400, ["error"])
    assert list(refused["body"]["error"]) == ["message", "type", "param", "code"]
    assert refused["request_id"].startswith("req_")
    (error,) = [one for one in result.lines if one["event"] == "error"]
    assert (error["custom_id"], error["outcome"], error["exit_code"]) == (
        "bad",
        "not_created",
        None,
    )
    again = many(*files.argv())
    assert (again.code, again.last["counts"]) == (1, result.last["counts"])
    assert (len(sandbox.posts), again.events) == (6, ["summary"])


def most_running(posts: list[LoggedRequest], seconds: float) -> int:
    """Return the maximum number of jobs that ran at once, if each takes `seconds`."""
    return max(sum(0 <= post.at - other.at < seconds for other in posts) for post in posts)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [1, 3])
def test_max_in_flight(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, bound: int
) -> None:
    """At most `--max-in-flight` jobs run at once, by the server's log."""
    files.add(3 * bound, sandbox_seconds="0.3")
    result = many(*files.argv("--max-in-flight", str(bound)))
    assert result.last["counts"] == {"completed": 3 * bound}
    assert most_running(sandbox.posts, 0.3) == bound


@pytest.mark.process
def test_run_that_another_process_cancels(command: Command, sandbox: Sandbox, files: Files) -> None:
    """`cancel` of a run that is running cancels its jobs, and no further job is submitted."""
    files.add(8, **ENDLESS)
    argv = files.argv("--job-key", "k", "--max-in-flight", "3", "--poll-seconds", "0.1")
    process = command.start(*argv)
    wait_until(lambda: len(polled(sandbox)) == 3)
    counts = {"cancelled": 3, "not_submitted": 5}
    assert command.run("cancel", "k").last["counts"] == counts
    last = checked(command.end(process)).last
    assert (last["counts"], last["exit_code"]) == (counts, 4)
    assert (last["next"], len(sandbox.posts)) == (None, 3)


@pytest.mark.process
def test_fifty_in_flight(command: Command, sandbox: Sandbox, files: Files) -> None:
    """By default at most fifty jobs run at once."""
    files.add(60, **ENDLESS)
    process = command.start(*files.argv("--poll-seconds", "1"))
    wait_until(lambda: len(polled(sandbox)) == 50)
    assert len(sandbox.posts) == 50
    process.send_signal(signal.SIGINT)
    assert checked(command.end(process)).last["counts"]["not_submitted"] == 10


@pytest.mark.slow
def test_a_repeated_run(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """A repeated run skips finished jobs and follows running ones, and submits nothing twice."""
    files.add(3, sandbox_seconds="0.01")
    files.add(1, first=3, sandbox_outcome="failed")
    files.add(3, first=4, sandbox_seconds="600")
    first = many(*files.argv("--poll-seconds", "5", "--max-wait-seconds", "600"))
    assert (first.code, len(files.read())) == (3, 4)
    assert first.last["counts"] == {"completed": 3, "failed": 1, "queued": 3}
    finish(sandbox)
    again = many(*files.argv())
    submitted = [one for one in again.lines if one["event"] == "submitted"]
    assert {one["reattached"] for one in submitted} == {True}
    assert {one["custom_id"] for one in submitted} == {"job 4", "job 5", "job 6"}
    assert (again.code, again.last["counts"]) == (4, {"completed": 6, "failed": 1})
    files.check(sandbox, 7)
    requests = len(sandbox.requests)
    assert many(*files.argv()).events == ["summary"]
    assert len(sandbox.requests) == requests


def test_a_wrong_base_url(
    many: Callable[..., Result], files: Files, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """A 404 for a wrong base URL stops the run and is not a result of any job."""
    files.add(20)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{sandbox.base_url}/wrong")
    sandbox.script(Fault(on="any", kind="status", status=404, body="not here", times=0))
    result = many(*files.argv("--max-in-flight", "2"))
    assert (result.code, files.results.read_bytes()) == (1, b"")
    assert result.last["counts"]["not_submitted"] >= 15
    assert result.last["next"] is not None
    sandbox.clear()
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url)
    assert many(*files.argv()).last["counts"] == {"completed": 20}


@pytest.mark.process
def test_replies_in_flight_when_stdout_closes(
    command: Command, sandbox: Sandbox, files: Files
) -> None:
    """When stdout closes, the run waits for replies to its creates, so no outcome is unknown."""
    files.add(30)
    sandbox.script(Fault(on="create", kind="delay", seconds=1, times=20))
    reader, writer = os.pipe()
    process = command.start(*files.argv("--max-in-flight", "20"), stdout=writer)
    os.close(writer)
    wait_for_posts(sandbox, 20)
    os.close(reader)
    assert command.end(process).code == 141
    result = command.run(*files.argv())
    assert (result.code, result.last["counts"]) == (0, {"completed": 30})
    files.check(sandbox, 30)


@pytest.mark.process
def test_the_wait_limit_of_a_repeated_run(command: Command, sandbox: Sandbox, files: Files) -> None:
    """After the wait limit, running jobs beyond `--max-in-flight` are not retrieved one by one."""
    files.add(20, **ENDLESS)
    process = command.start(*files.argv())
    wait_for_posts(sandbox, 20)
    process.send_signal(signal.SIGINT)
    command.end(process)
    sandbox.script(Fault(on="retrieve", kind="hang_before", times=0))
    result = checked(command.run(*files.argv("--max-wait-seconds", "0.5", "--max-in-flight", "2")))
    assert result.code == 3
    assert result.last["elapsed_seconds"] < 6, "one by one would take 10 s"
    assert sum(result.last["counts"].values()) == 20
    assert "not_submitted" not in result.last["counts"]


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle(
    command: Command, sandbox: Sandbox, state: Path, files: Files, number: signal.Signals
) -> None:
    """A signal ends the run promptly and counts each job once; a rerun completes all."""
    files.add(20, sandbox_seconds="0.3")
    process = command.start(*files.argv("--max-in-flight", "6", "--poll-seconds", "0.2"))
    wait_for_posts(sandbox, 12)
    sent = time.monotonic()
    process.send_signal(number)
    result = checked(command.end(process))
    assert time.monotonic() - sent < PROMPT
    assert (result.code, result.last["event"]) == (128 + number, "summary")
    assert sum(result.last["counts"].values()) == 20
    assert result.last["counts"].get("not_submitted", 0) >= 20 - len(sandbox.posts)
    audit(sandbox, state)
    result = checked(command.run(*rerun(result.last["next"])))
    assert (result.code, result.last["counts"]) == (0, {"completed": 20})
    files.check(sandbox, 20)
    audit(sandbox, state)
    tally(sandbox)


@pytest.mark.process
def test_jobs_are_cancelled_on_interrupt(command: Command, sandbox: Sandbox, files: Files) -> None:
    """With `--cancel-on-interrupt` a signal cancels running jobs and submits no more."""
    files.add(12, **ENDLESS)
    argv = files.argv("--max-in-flight", "8", "--cancel-on-interrupt", "--poll-seconds", "0.2")
    process = command.start(*argv)
    wait_until(lambda: len(polled(sandbox)) == 8)
    process.send_signal(signal.SIGINT)
    result = checked(command.end(process))
    assert (result.code, result.last["counts"]) == (130, {"cancelled": 8, "not_submitted": 4})
    assert len(sandbox.jobs) == 8


def failing(many: Callable[..., Result], sandbox: Sandbox, files: Files, fault: Fault) -> Result:
    """Run forty jobs, two at a time; the fault affects the sixth create."""
    files.add(40, sandbox_seconds="0.05")
    sandbox.script(fault)
    return many(*files.argv("--max-in-flight", "2"))


def test_an_exhausted_quota_stops_the_run(
    many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """After an exhausted quota no job is submitted; running jobs are followed to their ends."""
    body = {"error": {"message": "exhausted", "type": "t", "code": "insufficient_quota"}}
    fault = Fault(on="create", kind="status", status=429, body=body, skip=5, times=0)
    result = failing(many, sandbox, files, fault)
    assert (result.code, len(sandbox.posts)) in ((1, 6), (1, 7))
    assert result.last["counts"] == {"completed": 5, "refused": len(sandbox.posts) - 5,
                                     "not_submitted": 40 - len(sandbox.posts)}  # fmt: skip
    assert result.last["next"] is not None
    assert len(files.read()) == 5
    sandbox._state.faults.clear()
    assert many(*files.argv()).last["counts"] == {"completed": 40}


def test_a_refused_key_stops_the_run(
    many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """After a refused key no further job is submitted, and the run ends with exit 8."""
    result = failing(
        many, sandbox, files, Fault(on="create", kind="status", status=401, skip=5, times=0)
    )
    assert (result.code, len(sandbox.posts)) in ((8, 6), (8, 7))
    assert result.last["counts"] == {"completed": 5, "not_submitted": 35}
    assert len(files.read()) == 5


def test_no_key(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key the run ends with exit 8, sends nothing, and reports few errors."""
    files.add(200)
    monkeypatch.delenv("OPENAI_API_KEY")
    result = many(*files.argv("--max-in-flight", "5"))
    assert (result.code, result.last["counts"]) == (8, {"not_submitted": 200})
    assert result.events.count("error") <= 5
    assert not sandbox.requests


def test_429s_on_creates(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """After 429s on creates no job is created twice, and every job ends."""
    files.add(20, sandbox_seconds="0.05")
    sandbox.script(
        Fault(
            on="create", kind="status", status=429, headers={"retry-after": "1"}, skip=10, times=3
        )
    )
    result = many(*files.argv("--max-in-flight", "4"))
    assert (result.code, result.last["counts"]) == (0, {"completed": 20})
    assert sum(post.fault is not None for post in sandbox.posts) == 3
    created = [post.raw_body for post in sandbox.posts if not post.fault]
    assert len(created) == len(set(created)) == 20
    assert result.events.count("submit_error") == 3


def test_lost_replies(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, state: Path
) -> None:
    """Jobs whose replies were lost give exit 6; only `--resubmit-unknown` submits them again."""
    files.add(8, sandbox_seconds="0.05")
    sandbox.script(Fault(on="create", kind="reset_after", skip=1, times=2))
    sandbox.script(Fault(on="create", kind="status", status=502))
    first = many(*files.argv("--max-in-flight", "2"))
    assert (first.code, first.last["counts"]) == (6, {"completed": 5, "outcome_unknown": 3})
    assert first.last["next"] is None
    errors = [one for one in first.lines if one["event"] == "error"]
    assert {(one["outcome"], one["code"]) for one in errors} == {("unknown", "outcome_unknown")}
    again = many(*files.argv())
    assert (again.code, again.last) == (
        6,
        again.last | {"counts": first.last["counts"], "next": None},
    )
    assert len(sandbox.posts) == 8
    audit(sandbox, state)
    decided = many(*files.argv("--resubmit-unknown"))
    assert (decided.code, decided.last["counts"]) == (0, {"completed": 8})
    assert (len(sandbox.posts), len(files.read())) == (11, 8)
    assert many(*files.argv("--resubmit-unknown")).events == ["summary"]
    assert len(sandbox.posts) == 11


def test_a_job_that_the_api_deleted(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """A job that the API has deleted gives exit 5, and its line ends it for all reruns."""
    files.add(2, **ENDLESS)
    many(*files.argv("--poll-seconds", "1", "--max-wait-seconds", "60"))
    (gone, other) = sandbox.jobs
    sandbox.forget(gone)
    sandbox.jobs[other].seconds = 0
    result = many(*files.argv("--poll-seconds", "5"))
    assert (result.code, result.last["counts"]) == (5, {"completed": 1, "not_found": 1})
    assert result.last["next"] is None
    ((custom_id, line),) = [one for one in files.by_id().items() if one[1]["error"] is not None]
    (error,) = [one for one in result.lines if one["event"] == "error"]
    assert (error["custom_id"], error["response_id"], error["next"]) == (custom_id, gone, None)
    assert "it was in_progress before" in error["message"] or "queued" in error["message"]
    assert line["error"] == {"code": "not_found", "message": error["message"]}
    before = len(sandbox.requests)
    again = many(*files.argv())
    assert (again.code, again.events) == (5, ["summary"])
    assert (again.last["counts"], again.last["next"]) == (result.last["counts"], None)
    assert len(sandbox.requests) == before
    # A lost line is written again.
    files.results.unlink()
    restored = many(*files.argv())
    assert (restored.code, restored.last["counts"]) == (5, result.last["counts"])
    assert files.by_id()[custom_id]["error"]["code"] == "not_found"
    assert len(sandbox.posts) == 2


def test_a_job_that_is_gone_while_others_run(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """`next` repeats the run as long as other jobs run, but not for the job that is gone."""
    files.add(2, **ENDLESS)
    many(*files.argv("--poll-seconds", "1", "--max-wait-seconds", "60"))
    (gone, other) = sandbox.jobs
    sandbox.forget(gone)
    result = many(*files.argv("--poll-seconds", "5", "--max-wait-seconds", "60"))
    assert result.last["counts"]["not_found"] == 1
    assert result.last["next"] is not None
    sandbox.jobs[other].seconds = 0
    done = many(*files.argv())
    assert (done.code, done.last["counts"]) == (5, {"completed": 1, "not_found": 1})
    assert done.last["next"] is None


def test_a_corrupt_state(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, state: Path
) -> None:
    """With a corrupt state, the outcome of jobs without a result is unknown."""
    files.add(2, sandbox_seconds="0.01")
    many(*files.argv())
    files.add(2, first=2, sandbox_seconds="0.01")
    (state / FILE).write_bytes(b"garbage" * 1000)
    for _ in range(2):
        result = many(*files.argv())
        assert (result.code, result.last["next"]) == (6, None)
        assert result.last["counts"] == {"completed": 2, "outcome_unknown": 2}
        assert len(sandbox.posts) == 2
    result = many(*files.argv("--resubmit-unknown"))
    assert (result.code, result.last["counts"]) == (0, {"completed": 4})
    files.check(sandbox, 4)


@pytest.mark.process
@pytest.mark.parametrize("at", [1, 2, 5, 11])
@pytest.mark.parametrize(("error", "code"), [(32, 141), (28, 9)])
def test_stdout_that_closes(
    faulty: Command, sandbox: Sandbox, state: Path, files: Files, at: int, error: int, code: int
) -> None:
    """When stdout closes, the run ends quietly, and a rerun completes it."""
    files.add(6, sandbox_seconds="0.05")
    fault = IoFault(mode="fail", below="-", at=at, count=FOR_EVER, error=error)
    process = faulty.start(*files.argv("--max-in-flight", "2"), fault=fault)
    out, err = process.communicate()
    assert (process.returncode, err, len((out or b"").splitlines())) == (code, b"", at - 1)
    if out:
        parsed(out)
    count("io_faults")
    result = checked(faulty.run(*files.argv()))
    counts = result.last["counts"]
    unknown = counts.pop("outcome_unknown", 0)
    assert result.code == (6 if unknown else 0)
    assert counts == {"completed": 6 - unknown}
    audit(sandbox, state)
    tally(sandbox)


@pytest.mark.process
def test_kill_9_again_and_again(
    command: Command, sandbox: Sandbox, state: Path, files: Files
) -> None:
    """However often a run is killed, it creates no job twice and writes each result once."""
    number, in_flight = 200, 10
    files.add(number, sandbox_seconds="0.02")
    argv = files.argv("--max-in-flight", str(in_flight))
    log = files.folder / "lines"
    kills = 0
    for part in range(1, 6):
        with log.open("wb") as out:
            process = command.start(*argv, stdout=out)
        aim = len(sandbox.posts) + random.randrange(5, 20)
        wait_for_posts(sandbox, aim)
        time.sleep(random.random() * 0.05)
        process.kill()
        kills += process.wait(60) == -9
        assert part == kills
        for raw in log.read_bytes().split(b"\n")[:-1]:
            json.loads(raw)
    count("kills", kills)
    with log.open("wb") as out:
        process = command.start(*argv, stdout=out)
    code = process.wait(60)
    result = checked(Result(code, log.read_bytes(), ""))
    unknown = result.last["counts"].get("outcome_unknown", 0)
    assert result.code == (6 if unknown else 0)
    assert result.last["counts"].get("completed") == number - unknown
    assert unknown <= kills * in_flight
    assert len(files.read()) == number - unknown
    audit(sandbox, state)
    posted = Counter(post.raw_body for post in sandbox.posts)
    assert set(posted.values()) == {1}
    known = number - unknown
    assert known <= len(posted) <= number
    # The creates of some unknown jobs were not sent before the kill. They are sent now.
    done = checked(command.run(*argv, "--resubmit-unknown", "--events", "changes"))
    assert (done.code, done.last["counts"]) == (0, {"completed": number})
    assert len({post.raw_body for post in sandbox.posts}) == number
    assert len(sandbox.posts) == len(posted) + unknown
    for name, one in files.read().items():
        job = sandbox.jobs[one["response"]["body"]["id"]]
        assert job.request["input"] == f"input of {name}"
        assert one["response"]["body"] == sandbox._state.show(job, job.status(time.time()))
    audit(sandbox, state, decided=len(posted) - known)
    tally(sandbox)
