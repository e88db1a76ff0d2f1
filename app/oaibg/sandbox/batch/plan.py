"""The plan of a batch's lines: when each ends, and the totals at any time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.encoding import from_json

if TYPE_CHECKING:
    from oaibg.sandbox.errors import ApiError

Tokens = tuple[int, int, int]
"""Input tokens, output tokens, and the reasoning tokens among the output tokens."""


@dataclass(slots=True)
class Line:
    """One line of the input. Its body is not kept in memory, but parsed again when needed."""

    custom_id: str
    start: int
    """The offset in the input, in bytes."""
    stop: int
    ends: float
    """Seconds after the create of the batch; infinite for a stuck line."""
    refusal: ApiError | None = None
    """The error with which the API refuses the line, if any."""
    tokens: Tokens = (0, 0, 0)

    def body(self, source: bytes) -> dict[str, Any]:
        """Return the body of the request."""
        body: dict[str, Any] = from_json(source[self.start : self.stop].decode())["body"]
        return body


@dataclass(frozen=True, slots=True)
class Done:
    """Totals of the lines that have ended at some time."""

    lines: int = 0
    completed: int = 0
    tokens: Tokens = (0, 0, 0)

    def plus(self, line: Line) -> Done:
        """Return the totals including one more line."""
        (given, out, thought), (more_given, more_out, more_thought) = self.tokens, line.tokens
        return Done(
            self.lines + 1,
            self.completed + (line.refusal is None),
            (given + more_given, out + more_out, thought + more_thought),
        )


@dataclass
class Plan:
    """The lines of an input in the order in which they end, or the errors of the input."""

    lines: list[Line] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    """As a batch lists them. If there are errors, there are no lines."""
    model: str | None = None

    @property
    def last_end(self) -> float:
        """The end of the last line, in seconds after the create."""
        return self.lines[-1].ends if self.lines else 0.0

    def done(self, until: float) -> Done:
        """Return the totals of the lines that end by `until`, in seconds after the create."""
        return self._sums[bisect_right(self.lines, until, key=lambda line: line.ends)]

    @cached_property
    def _sums(self) -> list[Done]:
        return list(accumulate(self.lines, Done.plus, initial=Done()))


def listed_error(
    code: str | None, message: str, line: int | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return an error as a batch lists it; without `line`, an error of the whole input."""
    return {"code": code, "message": message, "line": line, "param": param}
