"""Scripted faults: what goes wrong, for which requests, and how often. Standard library only."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from oaibg.sandbox.job.metadata import OUTCOMES

# fmt: off
OPERATIONS = (
    "create", "retrieve", "cancel", "stream", "container_content", "file_create", "file_content",
    "batch_create", "batch_retrieve", "batch_list", "batch_cancel", "any",
)
# fmt: on
KINDS: Mapping[str, str] = {
    "status": "replies with `status` (default: 500) and `body`; the request has no effect",
    "reset_before": "resets the TCP connection before the request takes effect",
    "reset_after": "resets the TCP connection after the request takes effect",
    "restart": "as `reset_before`, and restarts the server: some "
    "personalities lose their running jobs",
    "hang_before": "waits for `seconds` (default: until the client disconnects), then continues",
    "hang_after": "as `hang_before`, but the request takes effect before the wait",
    "delay": "waits for `seconds` (default: 1) after the request takes effect, then replies",
    "drip": "sends the reply one byte at a time, every `seconds` (default: 1)",
    "truncate": "closes the connection after `after` bytes of the body (default: half of it; "
    "for a stream, 1024)",
    "html": "replies with an HTML page and `status` (default: 200) after the request takes effect",
    "raw": "replies with `body` and `status` (default: 200) after the request takes effect",
    "outcome": "the created job ends with the outcome `body`, such as `failed`",
    "cut": "ends a stream without an error after `after` events (default: 0)",
    "plain": "ignores `stream=true` and replies with JSON",
    "silent": "stops a stream after `after` events (default: 0), and keeps it open for `seconds` "
    "(default: until the client disconnects)",
    "gap": "leaves out one event of a stream after `after` events (default: 0)",
    "keepalive": "inserts a `keepalive` event without a `sequence_number`, and an SSE comment, "
    "into a stream after `after` events (default: 0)",
    "error_event": "ends a stream with an `error` event after `after` events (default: 0); "
    "the job keeps running",
    "no_deltas": "sends a stream without `response.output_text.delta` events: the text only comes "
    "as a whole",
    "empty_end": "sends an empty `output` in the last event of a stream, as some gateways do",
}
"""The kinds of faults and what each does. A request takes effect when, for example, its job is
created or cancelled."""
STREAM_KINDS = (
    "cut",
    "plain",
    "silent",
    "gap",
    "keepalive",
    "error_event",
    "no_deltas",
    "empty_end",
)

_FRAMING = ("content-length", "transfer-encoding", "connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One scripted fault. Raises `ValueError` if its fields are invalid.

    A create with `stream=true` counts as `create` and as `stream`; a retrieve with `stream=true`
    only as `stream`. Deletes, input items, the other operations on files and unknown paths only
    match `any`. Faults apply before the server checks the API key.
    """

    kind: str
    """One of `KINDS`, which says what each does."""
    on: str = "any"
    """The operation that it affects: one of `OPERATIONS`."""
    times: int = 1
    """How many requests it affects; 0 for all."""
    skip: int = 0
    """How many matching requests pass first; later faults may affect them."""
    response_id: str | None = None
    """Affects only requests with this ID in their path: of a response, container, file or batch."""
    status: int | None = None
    body: object = None
    """A string is sent unchanged, anything else as JSON; None is the default of the kind. For
    `status`, that is what the API or, for 502 and 504, a gateway sends with this status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to any reply; they replace headers of the same name."""
    seconds: float | None = None
    after: int | None = None
    """How many bytes (`truncate`) or stream events are sent before the fault."""

    def __post_init__(self) -> None:
        """Raise `ValueError` with a message that names the invalid field."""
        _require(self.kind in tuple(KINDS), "kind", f"one of {', '.join(KINDS)}", self.kind)
        _require(self.on in OPERATIONS, "on", f"one of {', '.join(OPERATIONS)}", self.on)
        counts = {"times": self.times, "skip": self.skip, "after": self.after or 0}
        for name, count in counts.items():
            _require(_is_int(count) and count >= 0, name, "a whole number, 0 or more", count)
        named = self.response_id is None or isinstance(self.response_id, str)
        _require(named, "response_id", "a string", self.response_id)
        with_body = _is_int(self.status) and self.status not in (204, 304)
        _require(
            self.status is None or (with_body and 200 <= self.status <= 599),
            "status",
            "200 to 599 (except 204 and 304)",
            self.status,
        )
        _require(
            self.seconds is None or (_is_number(self.seconds) and 0 <= self.seconds < math.inf),
            "seconds",
            "a number, 0 or more",
            self.seconds,
        )
        _require(isinstance(self.headers, Mapping), "headers", "an object", self.headers)
        for key, value in self.headers.items():
            _require(_is_header(key, value), "headers", "valid HTTP headers", {key: value})
            if key.lower() in _FRAMING:
                raise ValueError(f"headers can't contain {key}: the server sets it")
        if self.kind in STREAM_KINDS:
            expected = f"create, stream or any for the kind {self.kind}"
            _require(self.on in ("create", "stream", "any"), "on", expected, self.on)
        if self.kind == "raw" and self.body is None:
            raise ValueError("body is required for the kind raw")
        if self.kind == "outcome":
            expected = f"one of {', '.join(OUTCOMES)} for the kind outcome"
            _require(self.body in tuple(OUTCOMES), "body", expected, self.body)
            _require(self.on == "create", "on", "create for the kind outcome", self.on)


def parse_faults(value: object) -> list[Fault]:
    """Read faults from parsed JSON: a list of objects with the fields of `Fault`.

    Raises `ValueError` with the number of the invalid fault, counted from 1.
    """
    if not isinstance(value, list):
        raise ValueError("expected a JSON array of faults")  # noqa: TRY004 - one error for callers
    return [_parse_fault(one, number) for number, one in enumerate(value, 1)]


class FaultScript:
    """The pending faults, in order. Thread-safe."""

    def __init__(self) -> None:
        """Start without faults."""
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Append faults to the script."""
        with self._lock:
            self._pending.extend(_Pending(fault) for fault in faults)

    def clear(self) -> None:
        """Remove all pending faults."""
        with self._lock:
            self._pending.clear()

    def take(self, operations: Collection[str], response_id: str | None) -> Fault | None:
        """Return the fault that affects this request, if any, and count this use of it.

        `operations` are the operations in `Fault.on` that match the request. The first matching
        fault that has skipped enough requests applies.
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
        raise ValueError(f"fault {number}: expected a JSON object")  # noqa: TRY004 - as above
    known = {one.name for one in fields(Fault)}
    if unknown := [key for key in value if key not in known]:
        raise ValueError(f"fault {number}: unknown field {unknown[0]!r}")
    if "kind" not in value:
        raise ValueError(f"fault {number}: kind is required")
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
