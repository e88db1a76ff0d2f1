"""The end of a run in human mode: what failed and why, the totals, and what to do next."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from typing import TYPE_CHECKING, Any

import pytest

from harness import environment
from oaibg.contract.events import Unsuccessful
from oaibg.output.human import Human
from oaibg.output.stdout import Stdout
from oaibg.sandbox import Fault
from run_events import final, poll, progress, submitted, summary
from runs import ENDLESS, HOT, line, rerun
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.contract.events import Event
    from oaibg.sandbox import Sandbox
    from runs import BatchFiles, Files

FAILED = {"code": "server_error", "message": "Please include the request ID req_1."}


def shown(
    capfd: pytest.CaptureFixture[str], *events: Event, rerun: list[str] | None = None
) -> list[str]:
    """Return what human mode prints of these events, when stderr is a pipe."""
    human = Human(Stdout(), several=True, rerun=lambda: rerun)
    for event in events:
        human.write(event)
    return [row.rstrip() for row in capfd.readouterr().err.splitlines()]


def earlier(name: str, status: str, code: str | None = None, message: str | None = None) -> Any:
    """A job that an earlier run of the same command saw end."""
    return Unsuccessful(custom_id=name, response_id=None, status=status, code=code, message=message)


def test_end_of_a_run(run: Callable[..., Result], files: Files) -> None:
    """The end has a table, each reason with its jobs, the totals, the file, and the retry."""
    metadata = {f"b{number}": {"sandbox_outcome": "failed"} for number in range(5)}
    metadata |= {"c": {"sandbox_outcome": "refusal"}, "d": {"sandbox_outcome": "incomplete"}}
    jobs = {"a": {}, "x": HOT, "y": HOT} | {key: {"metadata": metadata[key]} for key in metadata}
    files.write(*(line(key, **body) for key, body in jobs.items()))
    argv = files.argv("--human", "--max-in-flight", "1")
    result = run(*argv)
    assert result.code == 1
    err = re.sub(
        r"[\d,]+ input tokens · [\d,]+ output tokens \(\d+ reasoning\)", "TOKENS", result.err
    )
    err = re.sub(r"about \$[\d.]+", "COST", err)
    table, end = err.split("\nJob ")[1].split("\n\n", 1)
    assert re.search(r"\na +completed +[01] s +\d+\n", table)
    assert re.search(r"\nc +needs action +[01] s +\d+\n", table)
    assert re.search(r"\nb0 +failed( +\d+)?\n", table)
    retry = " ".join(argv[1:])
    assert [re.sub(r"took \S+ s", "took TIME", row) for row in end.splitlines()] == [
        "5 failed: server_error: The model failed to generate a response.",
        "  b0, b1, b2 and 2 more",
        (
            "2 refused by the API: decimal_out_of_range: HTTP 400: Invalid 'temperature': expected "
            "a value from 0 to 2."
        ),
        "  x, y",
        "1 needs action: the model refused to answer; another attempt needs another prompt",
        "  c",
        "1 incomplete: max_output_tokens",
        "  d",
        "",
        "1 completed, 5 failed, 2 refused, 1 needs action, 1 incomplete. This command took TIME.",
        "TOKENS · COST",
        f"Results: {files.results}",
        f"To retry the 8 jobs that ended without success: oaibg submit {retry} --retry-failed",
    ]


def test_failures_of_earlier_runs(capfd: pytest.CaptureFixture[str]) -> None:
    """Jobs that failed earlier count, too: those that the summary names, and the others."""
    again = FAILED | {"message": "Please include the request ID req_2."}
    rows = shown(
        capfd,
        final("a", "failed", 4, error=FAILED),
        final("b", "failed", 4, error=again),
        summary(
            {"completed": 1500, "failed": 484},
            usage={"input_tokens": 1200, "output_tokens": 300, "total_tokens": 1500},
            cost_usd=0.0329,
            results_file="out.jsonl",
            unsuccessful=[
                earlier("a", "failed", "server_error", "x"),
                earlier("z", "failed", "server_error", "Please include the request ID req_3."),
                earlier("y", "failed", "rate_limit_exceeded"),
            ],
        ),
    )
    assert rows[rows.index("") + 1 :] == [
        "3 failed: server_error: Please include the request ID req_1.",
        "  a, b, z",
        "1 failed: rate_limit_exceeded",
        "  y",
        "480 more failed; their reasons are in the results file.",
        "",
        "1,500 completed, 484 failed. This command took 1 min 30 s.",
        "1,200 input tokens · 300 output tokens · about $0.033",
        "Results: out.jsonl",
        (
            "To retry the 484 jobs that ended without success, repeat the submit command with "
            "--retry-failed."
        ),
    ]


def test_a_large_run_has_no_table(capfd: pytest.CaptureFixture[str]) -> None:
    """More than 20 jobs get no table, only reasons."""
    ends = [final(f"job {number}") for number in range(21)]
    assert "Status" not in "".join(shown(capfd, *ends, summary({"completed": 21})))
    assert "Status" in "".join(shown(capfd, *ends[:20], summary({"completed": 20})))


def test_nothing_to_retry(capfd: pytest.CaptureFixture[str]) -> None:
    """A retry is not offered while jobs are left, nor for jobs that a retry would not help.

    Jobs that were not submitted are submitted by the same command.
    """
    left = summary(
        {"failed": 1, "in_progress": 2, "queued": 48, "not_submitted": 1410},
        results_file="out.jsonl",
        exit_code=130,
        next=["oaibg", "submit", "it's"],
    )
    assert shown(capfd, left)[-3:] == [
        "Results: out.jsonl",
        "Interrupted; 50 jobs keep running, 1,410 were not submitted.",
        """Continue the run: oaibg submit 'it'"'"'s'""",
    ]
    unhelped = {"completed": 1, "needs_action": 1, "outcome_unknown": 1, "not_submitted": 1}
    rows = shown(capfd, summary(unhelped, results_file="out.jsonl"), rerun=["oaibg"])
    assert rows[-4:] == [
        "Results: out.jsonl",
        "1 was not submitted.",
        "To submit the other job: oaibg",
        (
            "To submit the job of unknown outcome again (you may pay twice): oaibg "
            "--resubmit-unknown"
        ),
    ]


@pytest.mark.parametrize("kind", ["jobs", "batch"])
def test_jobs_of_unknown_outcome(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    batch: BatchFiles,
    instant_sleep: None,
    kind: str,
) -> None:
    """After exit 6, `submit`, `monitor` and `show` name the option that submits the jobs again.

    They say that one may pay twice, and don't offer a retry of failures.
    """
    chosen: Files | BatchFiles = files
    if kind == "batch":
        chosen = batch
        sandbox.script(Fault(on="batch_create", kind="status", status=502))
    sandbox.script(Fault(on="create", kind="reset_after", times=4))
    chosen.write(*(line(str(number)) for number in range(4)))
    argv = chosen.argv("--job-key", "k", "--human")
    again = "To submit the 4 jobs of unknown outcome again (you may pay twice)"
    for _ in range(2):
        ended = run(*argv)
        assert ended.code == 6
        assert f"{again}: oaibg submit" in ended.err
        assert "\n4 outcome unknown: The " in ended.err
        assert ended.err.rstrip().endswith("--resubmit-unknown")
        assert "The job '" not in ended.err
        assert "--retry-failed" not in ended.err
    page = run("show", "k", "--human").out.decode()
    stored = run("show", "k").last["unsuccessful"]
    if kind == "jobs":
        said = run(*argv[:-1]).last["unsuccessful"]
        assert sorted(one["message"] for one in stored) == [one["message"] for one in said]
        assert "1, 2 and 1 more" in run("monitor", "k", "--human").err
        followed = run("monitor", "k", "--human").err
        assert followed.endswith(f"{again}, repeat the submit command with --resubmit-unknown.\n")
    message = "was submitted before, but the reply was lost. The job may be running and may be"
    assert f"4 outcome unknown: The job {message} billed." in page
    assert f"{again}: oaibg submit" in page
    assert page.rstrip().endswith("--resubmit-unknown")
    assert "--retry-failed" not in page


def test_a_page_with_needs_action_only(run: Callable[..., Result], files: Files) -> None:
    """`show` of a run offers no retry for jobs that completed without an answer."""
    files.write(line("a", metadata={"sandbox_outcome": "refusal"}))
    run(*files.argv("--job-key", "k"))
    page = run("show", "k", "--human").out.decode()
    assert "1 needs action: the model refused to answer;" in page
    assert "repeat the submit" not in page


def test_reasons_of_a_page(run: Callable[..., Result], files: Files) -> None:
    """The summary names a job of each status and code, and `show` counts the jobs of each."""
    for outcome in ("failed", "incomplete"):
        files.add(12, first=100 if outcome == "failed" else 200, sandbox_outcome=outcome)
    with files.jobs.open("a") as file:
        for number in range(12):
            file.write(json.dumps(line(f"hot {number}", **HOT)) + "\n")
    ended = run(*files.argv("--job-key", "k"))
    for last in (ended.last, run("show", "k").last):
        assert len(last["unsuccessful"]) == 20
        assert {one["status"] for one in last["unsuccessful"]} == {
            "failed",
            "incomplete",
            "refused",
        }
    rows = run("show", "k", "--human").out.decode().splitlines()
    reasons = [row.split(maxsplit=1)[1] for row in rows if "Unsuccessful" in row]
    assert sorted(reason.split(":")[0] for reason in reasons) == [
        "12 failed",
        "12 incomplete",
        "12 refused by the API",
    ]
    assert all(re.search(r" \(.* and \d+ more\)$", reason) for reason in reasons)
    retry = [*run("show", "k").lines[0]["rerun"], "--retry-failed"]
    words = "To retry the 36 jobs that ended without success"
    assert rows[-1].endswith(f"{words}: {shlex.join(retry)}")
    assert run(*rerun(retry)).last["job_key"] == "k"


def test_progress_in_words(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, each `run_progress` is a line in words; jobs that succeed have none."""
    later: dict[str, Any] = {"in_flight": 50, "per_minute": 41.2, "eta_seconds": 2160.0}
    assert shown(
        capfd,
        progress(0),
        progress(524, in_flight=3),
        progress(565, **later, usage={"total_tokens": 1234567}, cost_usd=1.5),
        progress(1999, in_flight=1, per_minute=0.5, eta_seconds=59.6),
        submitted("a", reattached=True),
        poll("a", "in_progress"),
        final("a"),
    ) == [
        "0 of 2,000 done",
        "524 of 2,000 already done, 3 running",
        (
            "565 of 2,000 done, 50 running, 41 a minute, about 36 minutes left, 1,234,567 tokens, "
            "about $1.50"
        ),
        "1,999 of 2,000 done, 1 running, 30 an hour, about 1 minute left",
    ]


def test_hostile_reasons(capfd: pytest.CaptureFixture[str]) -> None:
    """Names and reasons are never markup or control, and stay on their line."""
    hostile = "\x1b[31m[red]x\nNext: evil"
    error = {"code": f"{hostile}!", "message": hostile}
    rows = shown(capfd, final(hostile, hostile, 4, error=error), summary({hostile: 1}))
    assert not [row for row in rows if row.startswith("Next") or "\x1b" in row]
    safe = "\\x1b[31m[red]x Next: evil"
    assert f"1 {safe}: {safe}!: {safe}" in rows
    assert f"  {safe}" in rows


@pytest.mark.process
def test_interrupted_run(sandbox: Sandbox, state: Path, files: Files) -> None:
    """After Ctrl-C, the end says what keeps running, and the same command continues the run."""
    files.write(line("a"), *(line(name, metadata=ENDLESS) for name in ("b", "c", "d")))
    argv = files.argv("--human", "--max-in-flight", "2")
    settings = environment(sandbox.base_url, state)
    with Terminal(*argv, environment=settings, columns=200) as screen:
        screen.wait_for(lambda text: "1 of 4 done" in text and "2 queued · 1 to submit" in text)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 130
        assert "Interrupted; 2 jobs keep running, 1 was not submitted.\n" in screen.text
        assert "1 completed, 2 queued, 1 not submitted. This command took" in screen.text
        assert re.search(rf"\nContinue the run: .* submit .*{files.results}", screen.text)
        assert "1 of 4 done" not in screen.text
    with Terminal(*argv, environment=settings, columns=200) as screen:
        screen.wait_for(lambda text: re.search(r"\nb  queued\nc  queued\n?$", text))
