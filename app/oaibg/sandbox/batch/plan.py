"""What will become of a batch's lines: when each ends, and how many have ended at some time."""

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
"""In, out, and how many of the latter were for reasoning."""


@dataclass(slots=True)
class Line:
    """What is kept of a line of the input, which itself is read again when it is needed."""

    custom_id: str
    start: int
    """Where it is in the input, in bytes."""
    stop: int
    ends: float
    """Seconds after the create of the batch; infinite for a stuck one."""
    refusal: ApiError | None = None
    """Why the API does not run it."""
    tokens: Tokens = (0, 0, 0)

    def body(self, source: bytes) -> dict[str, Any]:
        """Return the body of its request."""
        body: dict[str, Any] = from_json(source[self.start : self.stop].decode())["body"]
        return body


@dataclass(frozen=True, slots=True)
class Done:
    """What had ended at some time."""

    lines: int = 0
    completed: int = 0
    tokens: Tokens = (0, 0, 0)

    def plus(self, line: Line) -> Done:
        """Return what has ended once this line has, too."""
        (given, out, thought), (more_given, more_out, more_thought) = self.tokens, line.tokens
        return Done(
            self.lines + 1,
            self.completed + (line.refusal is None),
            (given + more_given, out + more_out, thought + more_thought),
        )


@dataclass
class Plan:
    """What will become of an input: its lines in the order in which they end, or its errors."""

    lines: list[Line] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    """As the API lists them; if there are any, there are no lines."""
    model: str | None = None

    @property
    def last_end(self) -> float:
        """When the last line ends, in seconds after the create."""
        return self.lines[-1].ends if self.lines else 0.0

    def done(self, until: float) -> Done:
        """Return what has ended until then, in seconds after the create."""
        return self._sums[bisect_right(self.lines, until, key=lambda line: line.ends)]

    @cached_property
    def _sums(self) -> list[Done]:
        return list(accumulate(self.lines, Done.plus, initial=Done()))


def listed_error(
    code: str | None, message: str, line: int | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return an error as a batch lists it; without `line`, an error of the whole input."""
    return {"code": code, "message": message, "line": line, "param": param}
