"""The base class of the events, and the records inside them."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from oaibg.base.record import Record

V = 1

EVENTS: dict[str, type[Event]] = {}
"""The classes of all events by name."""


class Event(Record):
    """One line on stdout. Its writer adds `ts` and `v`."""

    event: ClassVar[str]
    by: ClassVar[str]
    """The commands or options that emit the event, in Markdown."""
    of: ClassVar[str | None] = None
    """The job's `custom_id`, which is a common key in a run over several jobs."""
    ended_with: ClassVar[int | None] = None
    """In a run over several jobs: the exit code that the job would have on its own. It is not in
    the line."""
    known_as: ClassVar[str | None] = None
    """The job's key or label, for people. It is not in the line."""
    alias: ClassVar[str | None] = None
    """The key that commands accept in place of the job's ID. It is not in the line."""
    keeps_hint: ClassVar[bool] = False
    """Whether the line has its hint even in a run over several jobs, where it ends only a job."""
    response_id: str | None

    def __init_subclass__(cls, *, name: str, by: str) -> None:
        super().__init_subclass__()
        cls.event, cls.by = name, by
        EVENTS[name] = cls

    def of_many(self, custom_id: str | None) -> Self:
        """Return the event of one job in a run over several: with its name, without exit code."""
        code = exit_code_of(self)
        changes = {} if self.keeps_hint else {"hint": None}
        event = self.but() if code is None else self.but(exit_code=None, **changes)
        ended_with = self.ended_with if code is None else code
        event.__dict__.update(
            of=custom_id, ended_with=ended_with, known_as=self.known_as, alias=self.alias
        )
        return event

    def named(self, known_as: str | None, alias: str | None) -> Self:
        """Return the event with the names of its job, unless it has a name already."""
        if known_as is None or self.known_as is not None or self.of is not None:
            return self
        event = self.but()
        event.__dict__.update(vars(self), known_as=known_as, alias=alias)
        return event

    def to_dict(self, ts: str, *, several: bool = False) -> dict[str, Any]:
        """Return the line's object, written at `ts`: common keys first, then the event's own."""
        common = {"ts": ts, "v": V, "event": self.event, "response_id": self.response_id}
        if several:
            common["custom_id"] = self.of
        return common | self.values()


def exit_code_of(event: Event) -> int | None:
    """Return the exit code that the event ends the process with; None if it continues."""
    return getattr(event, "exit_code", None)


class CallError(Record):
    """The `error` inside `submit_error` and `poll_error`."""

    code: str
    message: str
    http_status: int | None
    request_id: str | None


class Call(Record):
    """An output item that waits for the user: a tool call, or an MCP approval request.

    Its ID is null if the server sent none. `arguments` has at most 500 characters of what the call
    does; if there are more, it ends in `…`, and `show` has them all.
    """

    details: ClassVar[str] = ""
    """All that the call does, for people. It is not in the line."""
    type: str
    id: str | None
    name: str | None
    arguments: str | None = None

    def with_details(self, details: str) -> Self:
        """Return the call with what it does."""
        call = self.but()
        call.__dict__["details"] = details
        return call


class AttachedFile(Record):
    """A file in the request of a dry run: its part's `type`, and the file's size in bytes."""

    path: str
    type: str
    bytes: int
