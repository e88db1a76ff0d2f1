"""Scripted faults: what goes wrong, at which request, and how often. Standard library only."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

OPERATIONS = (
    "create",
    "retrieve",
    "cancel",
    "stream",
    "file_create",
    "file_content",
    "batch_create",
    "batch_retrieve",
    "batch_list",
    "batch_cancel",
    "any",
)
KINDS = (
    "status",
    "reset_before",
    "reset_after",
    "hang_before",
    "hang_after",
    "delay",
    "drip",
    "truncate",
    "html",
    "raw",
    "cut",
    "plain",
    "silent",
    "gap",
    "keepalive",
    "error_event",
)
STREAM_KINDS = ("cut", "plain", "silent", "gap", "keepalive", "error_event")

_FRAMING = ("content-length", "transfer-encoding", "connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. Raises `ValueError` if its fields make no sense.

    `on` says which requests it may hit. A create with `stream=true` counts as `create` and as
    `stream`; a retrieve with `stream=true` as `stream` alone; deletes, input items, the other
    operations on files and unknown paths only as `any`. A key that the API refuses is refused
    after the fault had its turn.

    Kinds, where "took effect" means that the job was created, cancelled, and so on:

    - `status`: answers `status` (500) with `body` and `headers`; took no effect. Without a body,
      what the API or a gateway sends with that status
    - `reset_before`, `reset_after`: aborts the TCP connection (RST), before or after it took effect
    - `hang_before`, `hang_after`: no answer for `seconds` (default: until the client gives up),
      then continues normally; before or after it took effect
    - `delay`: took effect at once, answers after `seconds` (1)
    - `drip`: the right answer, one byte every `seconds` (1)
    - `truncate`: the right headers, but only `after` bytes of the body (default: half of it, or
      1 KiB of a stream), then the connection is closed
    - `html`, `raw`: took effect; answers `status` (200) with an HTML page, or with `body` as it is
    - `cut`: a stream that ends, without any error, after `after` events (0)
    - `plain`: `stream=true` is ignored, and plain JSON answered
    - `silent`: a stream that stops after `after` events (0), and stays open for `seconds`
      (default: until the client gives up)
    - `gap`: a stream that leaves out one event, whichever it is, after `after` events (0), and
      continues
    - `keepalive`: a stream that sends, after `after` events (0), an event of the unknown type
      `keepalive`, which has no number, and an SSE comment, and continues
    - `error_event`: a stream that ends, after `after` events (0), with an event of the type
      `error`, which has the next number; the job continues
    """

    kind: str
    on: str = "any"
    times: int = 1
    """How many requests it hits; 0 for all of them."""
    skip: int = 0
    """How many matching requests it lets pass first (to the faults after it)."""
    response_id: str | None = None
    """Hits only requests that name this id, of whatever it is, in their path; never a create."""
    status: int | None = None
    body: object = None
    """A string is sent as it is, anything else as JSON; `None` is the kind's default."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to the answer, of every kind that gives one; they replace those of the same name."""
    seconds: float | None = None
    after: int | None = None
    """Bytes (`truncate`) or events (of a stream) that are sent before it strikes."""

    def __post_init__(self) -> None:
        """Refuse what could never work, with a message that names the field."""
        _require(self.kind in KINDS, "kind", f"one of {', '.join(KINDS)}", self.kind)
        _require(self.on in OPERATIONS, "on", f"one of {', '.join(OPERATIONS)}", self.on)
        counts = {"times": self.times, "skip": self.skip, "after": self.after or 0}
        for name, count in counts.items():
            _require(_is_int(count) and count >= 0, name, "a whole number, 0 or more", count)
        named = self.response_id is None or isinstance(self.response_id, str)
        _require(named, "response_id", "a string", self.response_id)
        _require(
            self.status is None or (_is_int(self.status) and 200 <= self.status <= 599),
            "status",
            "200 to 599",
            self.status,
        )
        _require(self.status not in (204, 304), "status", "one that has a body", self.status)
        _require(
            self.seconds is None or (_is_number(self.seconds) and 0 <= self.seconds < math.inf),
            "seconds",
            "a number, 0 or more",
            self.seconds,
        )
        _require(isinstance(self.headers, Mapping), "headers", "an object", self.headers)
        for key, value in self.headers.items():
            _require(_is_header(key, value), "headers", "plain names and values", {key: value})
            _require(key.lower() not in _FRAMING, "headers", "none of the framing", key)
        if self.kind in STREAM_KINDS:
            _require(
                self.on in ("create", "stream", "any"), "on", f"stream for {self.kind}", self.on
            )
        if self.kind == "raw":
            _require(self.body is not None, "body", "given for raw", self.body)


def parse_faults(value: object) -> list[Fault]:
    """Read faults from parsed JSON: a list of objects with the fields of `Fault`.

    Raises `ValueError` with a message that says which fault is wrong, counted from 1.
    """
    if not isinstance(value, list):
        raise ValueError("expected a JSON array of faults")  # noqa: TRY004 - one error for callers
    return [_parse_fault(one, number) for number, one in enumerate(value, 1)]


class FaultScript:
    """The faults that are still to come, in order. Safe to use from several threads."""

    def __init__(self) -> None:
        """Begin with no faults."""
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Append faults to the script."""
        with self._lock:
            self._pending.extend(_Pending(fault) for fault in faults)

    def clear(self) -> None:
        """Drop the faults that have not struck yet."""
        with self._lock:
            self._pending.clear()

    def take(self, operations: Collection[str], response_id: str | None) -> Fault | None:
        """Return the fault that hits this request, if any, and count it as used.

        `operations` are the names in `Fault.on` that the request goes by; the first fault
        that matches, and has let enough requests pass, wins.
        """
        if not self._pending:
            return None
        with self._lock:
            for pending in self._pending:
                if not _matches(pending.fault, operations, response_id):
                    continue
                if pending.passed < pending.fault.skip:
                    pending.passed += 1
                    continue
                pending.hits += 1
                if pending.hits == pending.fault.times:
                    self._pending.remove(pending)
                return pending.fault
        return None


@dataclass(slots=True, eq=False)
class _Pending:
    fault: Fault
    passed: int = 0
    hits: int = 0


def _matches(fault: Fault, operations: Collection[str], response_id: str | None) -> bool:
    if fault.on != "any" and fault.on not in operations:
        return False
    if fault.response_id is not None and fault.response_id != response_id:
        return False
    return fault.kind not in STREAM_KINDS or "stream" in operations


def _parse_fault(value: object, number: int) -> Fault:
    if not isinstance(value, dict):
        raise ValueError(f"fault {number}: expected an object")  # noqa: TRY004 - as above
    known = {one.name for one in fields(Fault)}
    if unknown := [key for key in value if key not in known]:
        raise ValueError(f"fault {number}: unknown field {unknown[0]!r}")
    if "kind" not in value:
        raise ValueError(f"fault {number}: kind is missing")
    try:
        return Fault(**value)
    except ValueError as error:
        raise ValueError(f"fault {number}: {error}") from None


def _require(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, not {value!r}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_header(key: Any, value: Any) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, str)
        and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", key) is not None
        and re.fullmatch(r"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|",
                         value) is not None
    )  # fmt: skip
