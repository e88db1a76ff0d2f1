"""Why jobs of a run did not succeed, in groups, and which of them can be submitted again."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from oaibg.contract.codes import COUNTS
from oaibg.contract.run_status import ALIVE
from oaibg.output.human.names import status_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from oaibg.contract.events import Summary

_NAMES = 3
"""Maximum number of jobs that are named for a reason."""

_NOT_FAILED = (*ALIVE, *(COUNTS.keys() - {"refused", "not_found"}))
"""The statuses of jobs that did not fail, so that a retry would not help."""


class Why(NamedTuple):
    """Why a job did not succeed."""

    status: str
    code: str | None
    message: str | None

    @property
    def kind(self) -> tuple[str | None, ...]:
        """What jobs with the same reason have in common. Messages may contain IDs."""
        if self.status == "needs_action":
            return self.status, self.code  # the message is the model's
        return self.status, self.code, re.sub(r"\S*\d\S*", "", self.message or "")

    @property
    def words(self) -> str:
        """The reason, without the status."""
        code = None if self.code == self.status else self.code
        message = None if self.status == "needs_action" else self.message
        return ": ".join(filter(None, (code, message)))


def grouped(whys: Mapping[str | None, Why]) -> list[tuple[Why, list[str | None]]]:
    """Return each reason with the names of its jobs, most frequent first."""
    groups: dict[tuple[str | None, ...], list[str | None]] = {}
    for name, why in whys.items():
        groups.setdefault(why.kind, []).append(name)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [(whys[names[0]], names) for names in ordered]


def reasons_of(event: Summary) -> Iterator[str]:
    """Yield each reason with its number of jobs and some of them; a summary names 20 at most."""
    jobs = event.unsuccessful
    groups = grouped({one.custom_id: Why(one.status, one.code, one.message) for one in jobs})
    listed = Counter(one.status for one in jobs)
    reasons = Counter(why.status for why, _ in groups)
    for why, names in groups:
        count, total = len(names), event.counts[why.status]
        least = ""
        if reasons[why.status] == 1:
            count = total
        elif listed[why.status] < total:
            least = "at least "
        words = ": ".join(filter(None, (status_count(why.status, count).plain, why.words)))
        some = named(names, count)
        yield f"{least}{words} ({some})" if some else f"{least}{words}"


def named(names: Sequence[str | None], count: int) -> str:
    """Return the first names of so many jobs: `a, b, c and 2 more`."""
    shown = [name for name in names[:_NAMES] if name is not None]
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    return f"{', '.join(shown)}{more}" if shown else ""


def failed(counts: Mapping[str, int]) -> int:
    """Return the number of jobs that a retry submits again."""
    return sum(count for status, count in counts.items() if status not in _NOT_FAILED)


def retries(event: Summary) -> Iterator[tuple[str, list[str]]]:
    """Yield what a repeated submit can do for jobs that are left, and the option that it needs.

    There is nothing to yield while `next` does something for them, or if there is no jobs file.
    """
    if event.results_file is None or event.next is not None:
        return
    if count := event.counts.get("not_submitted", 0):
        yield f"To submit the {'other job' if count == 1 else f'other {count:,} jobs'}", []
    if count := failed(event.counts):
        yield f"To retry {_these(count)}", ["--retry-failed"]
    if count := event.counts.get("outcome_unknown", 0):
        jobs = f"{_these(count)} of unknown outcome"
        yield f"To submit {jobs} again (you may pay twice)", ["--resubmit-unknown"]


def repeated(words: str, option: list[str]) -> str:
    """Return how to repeat a submit whose command is unknown."""
    how = "".join(f" with {one}" for one in option)
    return f"{words}, repeat the submit command{how}."


def _these(count: int) -> str:
    return "this job" if count == 1 else f"these {count:,} jobs"
