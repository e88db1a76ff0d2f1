"""What the summary of a run says: usage, the results file, the jobs without success, the code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from oaibg.sandbox import Fault
from runs import HOT, BatchFiles, Files, line, new_jobs, of, rerun

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

UNSUCCESSFUL = [
    line("good"),
    line("failed", metadata={"sandbox_outcome": "failed"}),
    line("cut", metadata={"sandbox_outcome": "incomplete"}),
    line("calls", metadata={"sandbox_outcome": "function_call"}),
    line("declined", metadata={"sandbox_outcome": "refusal"}),
    line("empty", text={"format": {"type": "json_object"}}, metadata={"sandbox_empty": "1"}),
    line("hot", **HOT),
]
"""A job that completes, and one of each kind that doesn't."""

REASONS = {
    "failed": ("failed", "server_error"),
    "cut": ("incomplete", "max_output_tokens"),
    "calls": ("needs_action", "tool_calls"),
    "declined": ("needs_action", "refusal"),
    "empty": ("needs_action", "empty"),
    "hot": ("refused", "decimal_out_of_range"),
}
"""The status and the code of each of these jobs, by custom_id."""


def by_name(result: Result) -> dict[str, Any]:
    """Return the jobs without success that the summary names, by custom_id."""
    return {one["custom_id"]: one for one in result.last["unsuccessful"]}


def reasons(result: Result) -> dict[str, tuple[str, str]]:
    """Return the status and the code of the jobs without success that the summary names."""
    keys = ["custom_id", "response_id", "status", "code", "message"]
    assert all(list(one) == keys for one in result.last["unsuccessful"])
    return {name: (one["status"], one["code"]) for name, one in by_name(result).items()}


@pytest.mark.parametrize("kind", ["background", "batch"])
def test_jobs_without_success(
    many: Callable[..., Result], files: Files, batch: BatchFiles, kind: str
) -> None:
    """The summary names each job without success and says why; a rerun says the same."""
    run_files = batch if kind == "batch" else files
    run_files.write(*UNSUCCESSFUL)
    first = many(*run_files.argv())
    assert reasons(first) == REASONS
    again = many(*run_files.argv())
    assert again.events == ["summary"]
    assert reasons(again) == REASONS
    assert by_name(again) == by_name(first)


def test_results_file(many: Callable[..., Result], files: Files) -> None:
    """The summary has the absolute path of the results file."""
    files.add(1)
    assert many(*files.argv()).last["results_file"] == str(files.results)


def test_at_most_twenty(many: Callable[..., Result], files: Files) -> None:
    """The summary names at most 20 jobs; the counts have them all."""
    files.add(25, sandbox_outcome="failed")
    for _ in range(2):
        result = many(*files.argv())
        assert len(result.last["unsuccessful"]) == 20
        assert result.last["counts"] == {"failed": 25}


@pytest.mark.parametrize("kind", ["background", "batch"])
def test_usage(many: Callable[..., Result], files: Files, batch: BatchFiles, kind: str) -> None:
    """`usage` is the sum of all results of the run, those of earlier processes included."""
    run_files = batch if kind == "batch" else files
    run_files.write(*(line(f"job {number}") for number in range(3)))
    first = many(*run_files.argv())
    bodies = [one["response"]["body"] for one in run_files.by_id().values()]
    wanted = summed([body["usage"] for body in bodies])
    assert wanted["total_tokens"] > 0
    assert first.last["usage"] == wanted
    assert many(*run_files.argv()).last["usage"] == wanted
    text = run_files.results.read_text().splitlines(keepends=True)
    run_files.results.write_text("".join(text[:2]))
    assert many(*run_files.argv()).last["usage"] == wanted


def summed(usages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of all numbers in several `usage` objects."""
    return {
        key: summed([one[key] for one in usages])
        if isinstance(value, dict)
        else sum(one[key] for one in usages)
        for key, value in usages[0].items()
    }


def test_several_ids(many: Callable[..., Result], sandbox: Sandbox) -> None:
    """`monitor` of several IDs sums their usage, and names those without success."""
    done, failed = new_jobs(sandbox, 1, 0.01) + new_jobs(sandbox, 1, 0.01, "failed")
    result = many("monitor", done, failed, "resp_unknown")
    usages = [one["usage"] for one in of(result, "final") if one["usage"] is not None]
    assert result.last["usage"] == summed(usages)
    named = result.last["unsuccessful"]
    assert {one["response_id"]: (one["status"], one["code"]) for one in named} == {
        failed: ("failed", "server_error"),
        "resp_unknown": ("not_found", "not_found"),
    }
    assert result.last["results_file"] is None


def test_a_running_job_outranks_an_unknown_outcome(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """While a job is running the run exits with 3, even if another job's outcome is unknown."""
    files.write(line("lost"), line("slow", metadata={"sandbox_seconds": "600"}))
    sandbox.script(Fault(on="create", kind="reset_after"))
    result = many(*files.argv("--max-in-flight", "1", "--max-wait-seconds", "60"))
    assert result.last["counts"] == {"outcome_unknown": 1, "queued": 1}
    assert result.code == 3
    for job in sandbox.jobs.values():
        job.seconds = 0.01
    after = many(*rerun(result.last["next"]))
    assert (after.code, after.last["next"]) == (6, None)
    assert after.last["counts"] == {"completed": 1, "outcome_unknown": 1}
    assert json.dumps(after.last["unsuccessful"]).count("outcome_unknown") == 2
