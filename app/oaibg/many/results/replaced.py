"""Which lines of a results file no longer count, because their jobs were submitted again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from oaibg.many.results.line_id import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oaibg.many.results.result_line import ResultLine


class ReplacedLines:
    """Looks at the unsuccessful lines of a results file in their order.

    A retry replaces the unsuccessful lines that its job has when the retry begins. The mark of the
    last one identifies it: the ID of its response, or else a digest of the line. If the file lacks
    that line, it was rewritten since, and its lines are results of the retry. `marks` has the marks
    by custom_id.
    """

    def __init__(self, marks: Mapping[str, str]) -> None:
        self.marks = dict(marks)
        self.seen: dict[str, str] = {}
        """The mark of the last unsuccessful line of each job so far, by custom_id."""
        self._repeats: Counter[tuple[str, str]] = Counter()

    def end_with(self, line: ResultLine) -> bool:
        """Return whether this line and the earlier ones of its job no longer count."""
        name = line.response_id or digest(line.raw.decode(errors="replace"))[:16]
        self._repeats[line.custom_id, name] += 1
        repeats = self._repeats[line.custom_id, name]
        mark = name if repeats == 1 else f"{name} {repeats}"
        self.seen[line.custom_id] = mark
        return self.marks.get(line.custom_id) == mark

    def end_here(self, custom_id: str) -> None:
        """Note that a retry replaces the lines of a job so far."""
        if custom_id in self.seen:
            self.marks[custom_id] = self.seen[custom_id]
