"""Why jobs of a run did not succeed, in groups, and which of them can be submitted again."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from oaibg.contract.advice import for_people
from oaibg.contract.codes import COUNTS
from oaibg.contract.run_status import ALIVE
from oaibg.output.human.names import plain, status_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.text import Text

    from oaibg.contract.events import Summary

_NAMES = 3
"""Maximum number of jobs that are named for a reason."""

_NOT_FAILED = (*ALIVE, *(COUNTS.keys() - {"refused", "not_found"}))
"""The statuses of jobs that did not fail, so that a retry would not help."""


_WORDS = {
    "refusal": "the model refused to answer; another attempt needs another prompt",
    "tool_calls": "waiting for tool results or an approval",
    "empty": "there is no text",
    "not_text": "there is no text, but output of another kind",
}
"""The words for the codes of completed jobs without an answer."""


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
        if self.status == "needs_action":
            return _WORDS.get(str(self.code), self.code or "")
        code = None if self.code == self.status else self.code
        return ": ".join(filter(None, (code, for_people(self.message or ""))))

    def counted(self, count: int) -> Text:
        """Return the reason with its number of jobs."""
        head = status_count(self.status, count)
        if self.status == "refused":
            head.append(" by the API")  # not by the model
        return head.append(plain(f": {self.words}" if self.words else ""))


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
        words = why.counted(count).plain
        some = named(names, count)
        yield f"{least}{words} ({some})" if some else f"{least}{words}"


def named(names: Sequence[str | None], count: int) -> str:
    """Return the first names of so many jobs, in their order: `a, b, c and 2 more`."""
    shown = sorted((name for name in names if name is not None), key=_natural)[:_NAMES]
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    return f"{', '.join(shown)}{more}" if shown else ""


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people do: row 9 comes before row 10."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if at % 2 else (-1, part) for at, part in enumerate(parts)]


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
        yield f"To retry {_jobs(count)} that ended without success", ["--retry-failed"]
    if count := event.counts.get("outcome_unknown", 0):
        jobs = f"{_jobs(count)} of unknown outcome"
        yield f"To submit {jobs} again (you may pay twice)", ["--resubmit-unknown"]


def retry_words(words: str, options: list[str], rerun: Sequence[str] | None) -> str:
    """Return how to submit jobs again; `rerun` is the submit command, if it is known."""
    if rerun is None:
        how = "".join(f" with {option}" for option in options)
        return f"{words}, repeat the submit command{how}."
    return f"{words}: {shlex.join([*rerun, *options])}"


def _jobs(count: int) -> str:
    return "the job" if count == 1 else f"the {count:,} jobs"
