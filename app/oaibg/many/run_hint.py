"""The hint of a summary: where the results are, and what to do about the other jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.contract.run_status import ALIVE
from oaibg.engine.end_hints import submit_again, to_continue
from oaibg.engine.recap import NEEDS_ACTION, REFUSED
from oaibg.state.rows import NOT_FOUND, UNSUCCESSFUL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oaibg.contract.events import Summary

_FIX = "`unsuccessful` says what to fix first."

_BEFORE_NEXT = {
    ExitCode.ERROR: _FIX,
    ExitCode.USAGE: _FIX,
    ExitCode.AUTH: _FIX,
    ExitCode.UNAVAILABLE: "`unsuccessful` says what went wrong. Wait a minute.",
}
"""What to do before `next`, by the exit code of a run that could not continue."""


def hint_of(summary: Summary, problem: str, *, left: int) -> str | None:
    """Return the hint of a summary; None if there is nothing to do.

    `problem` is the last warning that says what to do; `left` is the number of jobs that are
    running or were not submitted.
    """
    before = _BEFORE_NEXT.get(ExitCode(summary.exit_code))
    if problem and before is None:
        return problem
    if summary.next is not None:
        keeps = "Submitted jobs keep running." if _may_run(summary) else ""
        return f"{before or keeps} {to_continue(summary.next, 'continue')}".lstrip()
    parts = [_place(summary), *_of_unsuccessful(summary.counts, summary.job_key)]
    if left:
        parts.append(f"{_jobs(left)} did not end. To continue, repeat the submit command.")
    return " ".join(filter(None, parts)) or None


def after_cancel(summary: Summary) -> str:
    """Return the hint of a summary after a cancel."""
    code = ExitCode(summary.exit_code)
    match code:
        case ExitCode.OK:
            return f"The jobs are cancelled, unless they had ended. {_rest(summary)}".rstrip()
        case ExitCode.UNSUCCESSFUL:
            return f"`counts` says how the jobs ended. {_place(summary) or ''}".rstrip()
        case ExitCode.NOT_FOUND | ExitCode.OUTCOME_UNKNOWN:
            return " ".join(_of_uncertain(summary.counts, summary.job_key))
        case ExitCode.AUTH | ExitCode.UNAVAILABLE:
            return f"{_BEFORE_NEXT[code]} Then run the same command again."
        case _:
            wait = "" if summary.next is None else ", or `next` to wait for their end"
            return f"Jobs may still be running. Run the same command again{wait}."


def _rest(summary: Summary) -> str:
    """Return how to submit the jobs that a cancelled run has left; empty if there are none."""
    left = summary.counts.get("not_submitted", 0)
    were = "was" if left == 1 else "were"
    again = f"{_jobs(left)} {were} not submitted. To submit the rest, repeat the submit command."
    return again if left else ""


def _may_run(summary: Summary) -> bool:
    return not summary.counts.keys().isdisjoint((*ALIVE, "unknown"))


def _of_unsuccessful(counts: Mapping[str, int], job_key: str | None) -> list[str]:
    """Return what to do about the jobs that ended without an answer."""
    parts = _of_uncertain(counts, job_key)
    ended = UNSUCCESSFUL if job_key is not None else UNSUCCESSFUL - {NOT_FOUND}
    if failed := sum(counts.get(status, 0) for status in (*ended, REFUSED)):
        again = submit_again(job_key, "--retry-failed")
        first = "correct what the API refused, then " if counts.get(REFUSED) else ""
        parts.append(
            f"{_jobs(failed)} ended without success: see `unsuccessful`. To submit again, {first}"
            f"{again}; you pay again."
        )
    if counts.get(NEEDS_ACTION):
        parts.append("For each `needs_action` job, `oaibg show ID` says what to do.")
    return parts


def _of_uncertain(counts: Mapping[str, int], job_key: str | None) -> list[str]:
    """Return what to do about the jobs that may be running although nobody can follow them."""
    parts = []
    if unknown := counts.get("outcome_unknown", 0):
        again = submit_again(job_key, "--resubmit-unknown")
        parts.append(
            f"{_jobs(unknown)} may be running: ask the person who pays before you submit again, "
            f"because you may then pay twice. To submit again, {again}."
        )
    if job_key is None and (missing := counts.get(NOT_FOUND, 0)):
        parts.append(
            f"{_jobs(missing)} of `not_found` may be running elsewhere: check the ID and "
            "OPENAI_BASE_URL before you submit again."
        )
    return parts


def _place(summary: Summary) -> str | None:
    """Return where the results are; None if there are none."""
    if summary.results_file is not None:
        return f"The results are in {summary.results_file}."
    if summary.counts.get("completed"):
        return "To print an answer, run `oaibg show ID --output-text`."
    return None


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
