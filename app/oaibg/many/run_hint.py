"""The hint of a summary: where the results are, and what to do about the other jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.contract.errors import ExitCode
from oaibg.contract.run_status import ALIVE
from oaibg.engine.end_hints import SAVE_AGAIN, submit_again, to_continue
from oaibg.engine.recap import NEEDS_ACTION, REFUSED
from oaibg.state.rows import NOT_FOUND, UNSUCCESSFUL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oaibg.contract.events import Summary

_FIX = "`unsuccessful` says what to fix first."

_WITHOUT_RESULT = frozenset({*ALIVE, "outcome_unknown", "not_submitted", "unknown"})
"""The statuses of jobs that have no line in the results file."""

_BEFORE_NEXT = {
    ExitCode.ERROR: _FIX,
    ExitCode.USAGE: _FIX,
    ExitCode.AUTH: _FIX,
    ExitCode.UNAVAILABLE: "`unsuccessful` says what went wrong. Wait a minute.",
}
"""What to do before `next`, by the exit code of a run that could not continue."""


def hint_of(
    summary: Summary, problem: str, *, left: int, repeated: int = 0, is_cancelled: bool = False
) -> str | None:
    """Return the hint of a summary; None if there is nothing to do.

    `problem` is the last warning that says what to do; `left` is the number of jobs that are
    running or were not submitted. `repeated` is the number of unsuccessful jobs that were submitted
    more than once, and `is_cancelled` is whether the run was cancelled.
    """
    if is_cancelled:
        return _after_cancelled(summary, problem)
    before = _BEFORE_NEXT.get(ExitCode(summary.exit_code))
    if problem and before is None:
        return problem
    if summary.next is not None:
        keeps = "Submitted jobs keep running." if _may_run(summary) else ""
        return f"{before or keeps} {to_continue(summary.next, 'continue')}".lstrip()
    parts = [_place(summary), *_of_unsuccessful(summary.counts, summary.job_key, repeated)]
    if left:
        again = "run the same command" if summary.job_key is None else "repeat the submit command"
        parts.append(f"{_jobs(left)} did not end. To continue, {again}.")
    return " ".join(filter(None, parts)) or None


def after_cancel(summary: Summary) -> str:
    """Return the hint of a summary after a cancel."""
    code = ExitCode(summary.exit_code)
    match code:
        case ExitCode.OK:
            done = "The jobs are cancelled, unless they had ended."
            return f"{done} {_not_submitted(summary.counts)}".rstrip()
        case ExitCode.UNSUCCESSFUL:
            parts = ["`counts` says how the jobs ended.", _place(summary)]
            return " ".join(filter(None, (*parts, _not_submitted(summary.counts))))
        case ExitCode.NOT_FOUND | ExitCode.OUTCOME_UNKNOWN:
            rest = _not_submitted(summary.counts)
            uncertain = _of_uncertain(summary.counts, summary.job_key, names_command=not rest)
            return " ".join(filter(None, (*uncertain, rest)))
        case ExitCode.AUTH | ExitCode.UNAVAILABLE:
            return f"{_BEFORE_NEXT[code]} Then run the same command again."
        case _:
            wait = "" if summary.next is None else ", or `next` to wait for their end"
            return f"Jobs may still be running. Run the same command again{wait}."


def _after_cancelled(summary: Summary, problem: str) -> str:
    """Return the hint of a cancelled run: nothing in it submits the jobs that were left."""
    counts = summary.counts
    parts = [problem.removesuffix(SAVE_AGAIN).rstrip() or _place(summary)]
    if summary.next is not None:
        before = _BEFORE_NEXT.get(ExitCode(summary.exit_code))
        parts = [before, to_continue(summary.next, "wait for the jobs that are running")]
    elif failed := _failed(counts, summary.job_key):
        parts.append(
            f"{_jobs(failed)} ended without success: see `unsuccessful`. Submit them again only if "
            "the user asks."
        )
    parts += _of_uncertain(counts, summary.job_key, names_command=False)
    parts += _of_calls(counts)
    return " ".join(filter(None, ("The run was cancelled.", *parts, _not_submitted(counts))))


def _not_submitted(counts: Mapping[str, int]) -> str:
    """Return what a rerun of a cancelled run would do; empty if it would submit nothing."""
    count = counts.get("not_submitted", 0)
    if not count:
        return ""
    were, them = ("was", "it") if count == 1 else ("were", "them")
    return (
        f"{_jobs(count)} {were} not submitted. The submit command would submit and bill {them}: "
        "repeat it only if the user asks."
    )


def _may_run(summary: Summary) -> bool:
    return not summary.counts.keys().isdisjoint((*ALIVE, "unknown"))


def _of_unsuccessful(counts: Mapping[str, int], job_key: str | None, repeated: int) -> list[str]:
    """Return what to do about the jobs that ended without an answer."""
    parts = _of_uncertain(counts, job_key)
    if failed := _failed(counts, job_key):
        again = submit_again(job_key, "--retry-failed")
        first = "correct what the API refused, then " if counts.get(REFUSED) else ""
        how = f"To submit again, {first}{again}; you pay again."
        if repeated or counts.get("cancelled"):
            how = f"{_times(repeated)}Only if the user asks for another attempt, {first}{again}; "
            how += "each attempt is billed."
        parts.append(f"{_jobs(failed)} ended without success: see `unsuccessful`. {how}")
    return parts + _of_calls(counts)


def _failed(counts: Mapping[str, int], job_key: str | None) -> int:
    """Return the number of jobs that a retry would submit again."""
    ended = UNSUCCESSFUL if job_key is not None else UNSUCCESSFUL - {NOT_FOUND}
    return sum(counts.get(status, 0) for status in (*ended, REFUSED))


def _times(repeated: int) -> str:
    """Return that jobs failed more than once; empty if none has."""
    have = "has" if repeated == 1 else "have"
    times = f"{_jobs(repeated)} {have} failed more than once: report this to the user. "
    return times if repeated else ""


def _of_calls(counts: Mapping[str, int]) -> list[str]:
    """Return what to do about the jobs that wait for something, or lack an answer."""
    if not counts.get(NEEDS_ACTION):
        return []
    return ["For each `needs_action` job, `oaibg show ID` says what to do."]


def _of_uncertain(
    counts: Mapping[str, int], job_key: str | None, *, names_command: bool = True
) -> list[str]:
    """Return what to do about the jobs that may be running although nobody can follow them."""
    parts = []
    if unknown := counts.get("outcome_unknown", 0):
        again = submit_again(job_key, "--resubmit-unknown")
        how = f" To submit again, {again}." if names_command else ""
        parts.append(
            f"{_jobs(unknown)} may be running: ask the person who pays before you submit again, "
            f"because you may then pay twice.{how}"
        )
    if job_key is None and (missing := counts.get(NOT_FOUND, 0)):
        parts.append(
            f"{_jobs(missing)} counted as `not_found` may be running elsewhere: check the ID and "
            "OPENAI_BASE_URL before you submit again."
        )
    return parts


def _place(summary: Summary) -> str | None:
    """Return where the results are; None if there are none."""
    if summary.results_file is not None:
        if summary.counts.keys() <= _WITHOUT_RESULT:
            return None
        return f"The results are in {summary.results_file}."
    if summary.counts.get("completed"):
        return "To print an answer, run `oaibg show ID --output-text`."
    return None


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
