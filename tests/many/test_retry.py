"""`--retry-failed` of a run in background mode: what is submitted again, and what counts then."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness import wait_until
from ledger import audit
from oaibg.sandbox import Fault
from outputs import PICTURE
from runs import ENDLESS, Files, finals, finish, line, lines_of, of, rerun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

RETRY = "--retry-failed"
ONCE = {"sandbox_failures": "1", "sandbox_seconds": "0.01"}
"""Metadata of a job whose first attempt fails."""


def statuses(files: Files) -> dict[str, list[str]]:
    """Return the status in each result line, by custom_id; refusals are "refused"."""
    return {
        name: [one["response"]["body"].get("status", "refused") for one in lines]
        for name, lines in lines_of(files).items()
    }


def inputs(sandbox: Sandbox) -> Counter[str]:
    """Return how often each input was posted."""
    return Counter(post.body["input"].removeprefix("input of ") for post in sandbox.posts)


def test_what_did_not_succeed_is_submitted_again(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, state: Path
) -> None:
    """Only jobs without success are submitted again, once, and their new lines count."""
    outcomes = ("failed", "incomplete", "cancelled", "expired", "completed", "refusal")
    files.write(
        *(line(one, metadata={"sandbox_outcome": one}) for one in outcomes),
        line("bad", temperature="hot"),
        line("once", metadata=ONCE),
    )
    many(*files.argv())
    assert many(*files.argv()).events == ["summary"]
    before = files.results.read_bytes()
    result = many(*files.argv(RETRY))
    again = ["failed", "incomplete", "cancelled", "expired", "bad", "once"]
    assert inputs(sandbox) == dict.fromkeys(again, 2) | {"completed": 1, "refusal": 1}
    assert result.last["counts"] == {
        **dict.fromkeys(("failed", "incomplete", "cancelled", "expired", "refused"), 1),
        "completed": 2,
        "needs_action": 1,
    }
    assert [one["custom_id"] for one in result.last["unsuccessful"]].count("once") == 0
    assert (result.code, result.last["next"]) == (1, None)
    assert files.results.read_bytes().startswith(before)
    assert statuses(files)["once"] == ["failed", "completed"]
    assert statuses(files)["bad"] == ["refused", "refused"]
    assert statuses(files)["refusal"] == ["completed"]
    rerun_ = many(*files.argv())
    assert (rerun_.events, rerun_.last["counts"]) == (["summary"], result.last["counts"])
    audit(sandbox, state, decided=5)


def test_nothing_to_retry(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A new run with the flag is a plain run; once all is completed, the flag sends nothing."""
    files.add(2, sandbox_seconds="0.01")
    assert many(*files.argv(RETRY)).last["counts"] == {"completed": 2}
    assert many(*files.argv(RETRY)).events == ["summary"]
    files.check(sandbox, 2)


def test_running_jobs_are_followed(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """With the flag, running jobs are followed; so is a retry that is still running."""
    files.write(line("slow", metadata=ENDLESS), line("once", metadata=ONCE))
    many(*files.argv("--poll-seconds", "1", "--max-wait-seconds", "30"))
    argv = files.argv(RETRY, "--poll-seconds", "1", "--max-wait-seconds", "30")
    files.write(line("slow", metadata=ENDLESS), line("once", metadata=ENDLESS))
    result = many(*argv)
    assert (result.code, len(sandbox.posts)) == (3, 3)
    assert RETRY not in result.last["next"]
    again = many(*argv)
    assert (again.code, len(sandbox.posts)) == (3, 3)
    assert {one["reattached"] for one in of(again, "submitted")} == {True}
    finish(sandbox)
    done = many(*rerun(result.last["next"]))
    assert finals(done) == {"slow": "completed", "once": "completed"}
    assert (done.code, len(sandbox.posts)) == (0, 3)


def test_a_retry_of_unknown_outcome(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """A retry whose reply was lost is sent again only with --resubmit-unknown."""
    files.write(line("a", metadata=ONCE), line("b", temperature="hot"))
    many(*files.argv())
    files.write(line("a", metadata=ONCE), line("b"))
    sandbox.script(Fault(on="create", kind="reset_before", times=2))
    result = many(*files.argv(RETRY))
    assert (result.code, result.last["next"]) == (6, None)
    assert result.last["counts"] == {"outcome_unknown": 2}
    assert many(*files.argv(RETRY)).last["counts"] == {"outcome_unknown": 2}
    done = many(*files.argv("--resubmit-unknown"))
    assert (done.code, done.last["counts"]) == (0, {"completed": 2})
    assert statuses(files) == {"a": ["failed", "completed"], "b": ["refused", "completed"]}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(on="create", kind="status", status=401, times=0), 8),
        (Fault(on="create", kind="status", status=503, times=0), 7),
    ],
)
def test_a_retry_that_waits_for_a_rerun(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    instant_sleep: None,
    fault: Fault,
    code: int,
) -> None:
    """A retry that could not be sent is sent by a rerun without the flag."""
    files.write(line("a", metadata=ONCE), line("b", temperature="hot"))
    many(*files.argv())
    files.write(line("a", metadata=ONCE), line("b"))
    sandbox.script(fault)
    result = many(*files.argv(RETRY))
    assert result.code == code, result.lines
    sandbox._state.faults.clear()
    sandbox.requests.clear()
    done = many(*rerun(result.last["next"]))
    assert (done.code, done.last["counts"], len(sandbox.posts)) == (0, {"completed": 2}, 2)
    assert many(*files.argv()).events == ["summary"]


def test_corrected_requests(
    many: Callable[..., Result], run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A corrected request is accepted for jobs without success, and only with the flag."""
    good, once = line("good"), line("once", metadata={"sandbox_outcome": "failed"})
    files.write(good, once, line("bad", temperature="hot"))
    many(*files.argv())
    files.write(good, line("once", input="better"), line("bad", temperature=0.5))
    sandbox.requests.clear()
    plain = run(*files.argv())
    assert (plain.code, plain.last["code"]) == (2, "job_key_reused")
    assert "'once' (line 2), 'bad' (line 3)" in plain.last["message"]
    assert RETRY in plain.last["hint"]
    files.write(line("good", input="other"), line("once", input="better"), line("bad"))
    wrong = run(*files.argv(RETRY))
    assert (wrong.code, wrong.last["code"]) == (2, "job_key_reused")
    assert "'good' (line 1)." in wrong.last["message"]
    assert RETRY not in wrong.last["hint"]
    assert RETRY not in run(*files.argv()).last["hint"]
    assert not sandbox.requests
    files.write(good, line("once", input="better"), line("bad", temperature=0.5))
    result = many(*files.argv(RETRY))
    assert (result.code, result.last["counts"]) == (0, {"completed": 3})
    assert statuses(files)["bad"] == ["refused", "completed"]
    assert many(*files.argv()).events == ["summary"]
    assert len(sandbox.posts) == 2


def test_a_lost_state(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    state: Path,
) -> None:
    """Without the state, the last line of each job counts, and says whether its request changed."""
    files.write(line("a", metadata=ONCE), line("bad", temperature="hot"))
    many(*files.argv())
    many(*files.argv(RETRY))
    state.rename(state.with_name("away"))
    sandbox.requests.clear()
    assert many(*files.argv()).last["counts"] == {"completed": 1, "refused": 1}
    files.write(line("a", input="other"), line("bad"))
    changed = run(*files.argv(RETRY))
    assert (changed.code, changed.last["code"]) == (2, "job_key_reused")
    assert "'a' (line 1)." in changed.last["message"]
    files.write(line("a", metadata=ONCE), line("bad"))
    assert many(*files.argv(RETRY)).last["counts"] == {"completed": 2}
    assert inputs(sandbox) == {"bad": 1}


def test_a_lost_results_file(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Without the results file, the state says which jobs did not succeed."""
    files.write(line("a", metadata=ONCE), line("b"))
    many(*files.argv())
    files.results.unlink()
    result = many(*files.argv(RETRY))
    assert (result.code, inputs(sandbox)) == (0, {"a": 2, "b": 1})
    assert statuses(files) == {"a": ["completed"], "b": ["completed"]}


def test_results_of_version_0_4(
    many: Callable[..., Result], run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Lines with the `id` of version 0.4 belong to the run as long as the request is the same."""
    files.write(line("a", metadata=ONCE), line("b"))
    starts = of(many(*files.argv()), "submit_start")
    hashes = {one["custom_id"]: one["request_sha256"] for one in starts}
    old = []
    for raw in files.results.read_text().splitlines():
        one = json.loads(raw)
        parts = (sandbox.base_url, str(files.jobs), one["custom_id"], hashes[one["custom_id"]])
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        old.append(json.dumps(one | {"id": f"batch_req_{digest[:32]}"}) + "\n")
    files.results.write_text("".join(old))
    assert many(*files.argv()).last["counts"] == {"completed": 1, "failed": 1}
    assert many(*files.argv(RETRY)).last["counts"] == {"completed": 2}
    own = json.loads(old[0])["id"]
    files.results.write_text("".join(old).replace(own, f"batch_req_{'0' * 32}"))
    assert run(*files.argv()).code == 2


def test_a_job_that_the_api_lost(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """A job that the API no longer has is submitted again, even if that happens twice."""
    files.add(1, **ENDLESS)
    wait = ("--poll-seconds", "5", "--max-wait-seconds", "60")
    many(*files.argv(*wait))
    sandbox.forget(*sandbox.jobs)
    assert many(*files.argv(*wait)).last["counts"] == {"not_found": 1}
    assert many(*files.argv(*wait, RETRY)).code == 3
    sandbox.forget(*sandbox.jobs)
    assert many(*files.argv(*wait)).last["counts"] == {"not_found": 1}
    assert many(*files.argv()).events == ["summary"]
    assert many(*files.argv(*wait, RETRY)).code == 3
    finish(sandbox)
    assert many(*files.argv()).last["counts"] == {"completed": 1}
    assert (len(sandbox.posts), len(lines_of(files)["job 0"])) == (3, 3)


def test_a_second_retry(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Each run with the flag makes one more attempt; usage is that of all attempts."""
    files.write(line("a", metadata={"sandbox_outcome": "incomplete"}))
    results = [many(*files.argv(*more)) for more in ((), (RETRY,), (RETRY,), ())]
    assert {(one.code, one.last["counts"]["incomplete"]) for one in results} == {(4, 1)}
    assert statuses(files) == {"a": ["incomplete"] * 3}
    totals = [one.last["usage"]["input_tokens"] for one in results]
    assert totals == [totals[0] * times for times in (1, 2, 3, 3)]
    assert len(sandbox.posts) == 3


def test_artifacts_of_a_retry(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, tmp_path: Path
) -> None:
    """The files of a retry go to the folder of its job."""
    out = ("--artifacts-dir", str(tmp_path / "out"))
    files.write(line("a", metadata=ONCE))
    many(*files.argv(*out))
    body = {"id": "resp_1", "status": "completed", "output": [PICTURE]}
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(body)))
    many(*files.argv(*out, RETRY))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_dry_run(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A dry run ignores the flag."""
    files.write(line("a"))
    plain, flagged = (many(*files.argv("--dry-run", *more)).lines for more in ((), (RETRY,)))
    times = {"ts": None, "elapsed_seconds": None}
    assert [one | times for one in plain] == [one | times for one in flagged]
    assert not sandbox.requests


@pytest.mark.process
def test_two_retries_at_once(command: Command, sandbox: Sandbox, files: Files) -> None:
    """A second process with the flag ends with exit 7, and each job is submitted once more."""
    files.write(line("a", metadata={"sandbox_outcome": "failed"}))
    assert command.run(*files.argv()).code == 4
    files.write(line("a", metadata=ENDLESS))
    process = command.start(*files.argv(RETRY))
    wait_until(lambda: len(sandbox.posts) == 2)
    second = command.run(*files.argv(RETRY))
    assert (second.code, second.last["code"]) == (7, "job_key_busy")
    assert RETRY not in second.last["next"]
    finish(sandbox)
    assert command.end(process).code == 0
    assert len(sandbox.posts) == 2
