"""The lines of a batch: how its input is read, when each ends, and what its files say of it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NoReturn

from .checks import BATCH_ENDPOINT, MISSING_MODEL, ApiError, FieldError, check_create
from .jobs import as_number, item_id, new_job
from .wire import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .jobs import Job

MOST_LINES = 50_000
MOST_BYTES = 200_000_000

_MOST_ERRORS = 100
_USUAL = -1.0
"""The end of a line that has no time of its own, before it is given one."""

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
        body: dict[str, Any] = _parse(source[self.start : self.stop])["body"]
        return body


@dataclass(frozen=True, slots=True)
class Done:
    """What had ended at some time."""

    lines: int = 0
    completed: int = 0
    tokens: Tokens = (0, 0, 0)

    def plus(self, line: Line) -> Done:
        """Return what has ended once this line has, too."""
        return Done(
            self.lines + 1,
            self.completed + (line.refusal is None),
            (
                self.tokens[0] + line.tokens[0],
                self.tokens[1] + line.tokens[1],
                self.tokens[2] + line.tokens[2],
            ),
        )


@dataclass
class Plan:
    """What will become of an input: its lines in the order in which they end, or its errors."""

    lines: list[Line] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    """As the API lists them; where there are some, there are no lines."""
    model: str | None = None

    @property
    def over(self) -> float:
        """When the last line ends, in seconds after the create."""
        return self.lines[-1].ends if self.lines else 0.0

    def done(self, until: float) -> Done:
        """Return what has ended until then, in seconds after the create."""
        return self._sums[bisect_right(self.lines, until, key=lambda line: line.ends)]

    @cached_property
    def _sums(self) -> list[Done]:
        return list(accumulate(self.lines, Done.plus, initial=Done()))


def read_plan(source: bytes, starts: float, seconds: float, find: Callable[[str], object]) -> Plan:
    """Read an input, and plan its lines from `starts` on, spread over `seconds`.

    `find` gives the response that a line's `previous_response_id` names, or None.
    """
    if problem := _problem_of_all(source):
        return Plan(errors=[problem])
    lines: list[Line] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    model: str | None = None
    for number, (start, stop) in enumerate(_places(source), 1):
        try:
            request = _check_line(source[start:stop], seen)
            model = _check_model(request["body"], model)
        except ApiError as error:
            errors.append(_listed(error, number))
            if len(errors) == _MOST_ERRORS:
                break
            continue
        lines.append(_plan_line(request, start, stop, find))
    if errors:
        return Plan(errors=errors)
    lines.sort(key=lambda line: zlib.crc32(line.custom_id.encode("utf-8", "surrogatepass")))
    for place, line in enumerate(lines, 1):
        usual = starts + seconds * place / len(lines)
        line.ends = usual if line.ends == _USUAL else max(starts, line.ends)
    lines.sort(key=lambda line: line.ends)
    return Plan(lines, [], model)


def response_line(batch_id: str, line: Line, status: int, body: object) -> bytes:
    """Return what a file says of a line that was answered."""
    request_id = hashlib.sha256(f"{batch_id} {line.custom_id}".encode("utf-8", "surrogatepass"))
    response = {"status_code": status, "request_id": request_id.hexdigest()[:32], "body": body}
    return _written(batch_id, line, response, None)


def undone_line(batch_id: str, line: Line, code: str, message: str) -> bytes:
    """Return what a file says of a line that never ran."""
    return _written(batch_id, line, None, {"code": code, "message": message})


def _problem_of_all(source: bytes) -> dict[str, Any] | None:
    """Return what is wrong with an input as a whole, as the API lists it."""
    if not source.strip():
        return _error("empty_file", "The batch input file is empty.")
    if len(source) > MOST_BYTES:
        return _error("file_too_large", "The batch input file is larger than 200 MB.")
    count = source.count(b"\n") + (not source.endswith(b"\n"))
    if count > MOST_LINES:
        message = f"The batch input file has {count} requests. It may have {MOST_LINES}."
        return _error("too_many_requests", message)
    return None


def _places(source: bytes) -> Iterator[tuple[int, int]]:
    """Give where the lines begin and end."""
    start = 0
    while start < len(source):
        stop = source.find(b"\n", start)
        stop = len(source) if stop < 0 else stop
        yield start, stop
        start = stop + 1


def _check_line(raw: bytes, seen: set[str]) -> dict[str, Any]:
    """Return a line's request where the batch can have it; `seen` are the ids before it."""
    try:
        request = _parse(raw)
    except (ValueError, RecursionError):
        message = "This line is not parseable as valid JSON."
        raise ApiError(400, message, code="invalid_json_line") from None
    if not isinstance(request, dict):
        raise ApiError(400, "This line is not a JSON object.", code="invalid_json_line")
    for key, shape in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if request.get(key) is None:
            message = f"Missing required parameter: '{key}'."
            raise ApiError(400, message, param=key, code="missing_required_parameter")
        if not isinstance(request[key], shape):
            raise ApiError(400, f"Invalid type for '{key}'.", param=key, code="invalid_type")
    if request["method"] != "POST":
        raise ApiError(400, "The method must be 'POST'.", param="method", code="invalid_method")
    if request["url"] != BATCH_ENDPOINT:
        message = "The URL provided for this request does not match the batch endpoint."
        raise ApiError(400, message, param="url", code="invalid_url")
    if request["custom_id"] in seen:
        message = (
            f"The custom_id '{request['custom_id']}' for this request is a duplicate of another "
            "request. The custom_id parameter must be unique for each request in a batch."
        )
        raise ApiError(400, message, param="custom_id", code="duplicate_custom_id")
    seen.add(request["custom_id"])
    return request


def _check_model(body: Mapping[str, Any], model: str | None) -> str | None:
    """Return the one model of a batch, of which `model` was seen before this line."""
    given = body.get("model")
    if not isinstance(given, str) or given == MISSING_MODEL:
        return model
    if model not in (None, given):
        message = (
            f"The model '{given}' of this request is not '{model}', as before it. "
            "All requests of a batch must have the same model."
        )
        raise ApiError(400, message, param="body.model", code="mismatched_model")
    return given


def _plan_line(
    request: Mapping[str, Any], start: int, stop: int, find: Callable[[str], object]
) -> Line:
    line = Line(request["custom_id"], start, stop, _own_end(request["body"].get("metadata")))
    try:
        job = _job_of(request["body"], find)
    except ApiError as error:
        line.refusal = error
        return line
    if job.outcome == "stuck":
        line.ends = math.inf
    if job.outcome in ("completed", "incomplete"):
        thought = job.usage["output_tokens_details"]["reasoning_tokens"]
        line.tokens = (job.usage["input_tokens"], job.usage["output_tokens"], thought)
    return line


def _own_end(metadata: object) -> float:
    """Return when a line ends by its metadata, of which a refused line may have any."""
    seconds = metadata.get("sandbox_seconds") if isinstance(metadata, dict) else None
    if not isinstance(seconds, str):
        return _USUAL
    try:
        return as_number(seconds, "sandbox_seconds", math.inf)
    except ValueError:
        return _USUAL


def _job_of(body: dict[str, Any], find: Callable[[str], object]) -> Job:
    """Return what a line runs as; raise the API's error where it is refused."""
    for key in ("background", "stream"):
        if body.get(key):
            message = f"'{key}' is not supported in a batch."
            raise FieldError(400, message, param=key, code="unsupported_parameter")
    check_create(body, find)
    status = (body.get("metadata") or {}).get("sandbox_status")
    try:
        if status is not None:
            raise _wanted_error(status)
        return new_job(body, 0.0, 0.0)
    except ValueError as error:
        raise FieldError(400, str(error), param="metadata", code="invalid_value") from None


def _wanted_error(status: str) -> ApiError:
    if not re.fullmatch("[45][0-9][0-9]", status):
        raise ValueError("sandbox_status must be 400 to 599")
    kind = "invalid_request_error" if status < "500" else "server_error"
    return ApiError(int(status), f"The sandbox was asked for status {status}.", kind=kind)


def _parse(raw: bytes) -> Any:
    return _DECODER.decode(raw.decode())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _listed(error: ApiError, number: int) -> dict[str, Any]:
    return {**_error(error.code, error.message), "line": number, "param": error.param}


def _error(code: str | None, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "line": None, "param": None}


def _written(batch_id: str, line: Line, response: object, error: object) -> bytes:
    seed = f"{batch_id} {line.start}"
    entry = {
        "id": item_id("batch_req", seed),
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    return to_json(entry) + b"\n"
