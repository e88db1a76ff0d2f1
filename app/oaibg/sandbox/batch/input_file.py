"""Reads the input file of a batch and plans its lines."""

from __future__ import annotations

import math
import re
import zlib
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.batch.plan import Line, Plan, listed_error
from oaibg.sandbox.checks.batch import ENDPOINT
from oaibg.sandbox.checks.create import MISSING_MODEL, check_create
from oaibg.sandbox.encoding import from_json
from oaibg.sandbox.errors import ApiError, FieldError, missing_parameter
from oaibg.sandbox.job.job import new_job
from oaibg.sandbox.job.metadata import bad_entry, seconds_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oaibg.sandbox.job.job import Job

_MOST_LINES = 50_000
_MOST_BYTES = 200_000_000
_MOST_ERRORS = 100
_USUAL = -1.0
"""A placeholder for the end of a line whose metadata doesn't set `sandbox_seconds`."""


def read_plan(
    source: bytes, starts: float, seconds: float, find: Callable[[str], Job | None]
) -> Plan:
    """Read the input and plan its lines: they start at `starts` and end spread over `seconds`.

    `find` returns a job by its ID, or None, to check `previous_response_id`.
    """
    if problem := _problem_of_all(source):
        return Plan(errors=[problem])
    lines: list[Line] = []
    errors: list[dict[str, Any]] = []
    earlier_ids: set[str] = set()
    model: str | None = None
    for number, (start, stop) in enumerate(_places(source), 1):
        try:
            request = _check_line(source[start:stop], earlier_ids)
            model = _check_model(request["body"], model)
        except ApiError as error:
            errors.append(listed_error(error.code, error.message, number, error.param))
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


def _problem_of_all(source: bytes) -> dict[str, Any] | None:
    """Return the error of the input as a whole, as a batch lists it; None if there is none."""
    if not source.strip():
        return listed_error("empty_file", "The batch input file is empty.")
    if len(source) > _MOST_BYTES:
        return listed_error("file_too_large", "The batch input file is larger than 200 MB.")
    count = source.count(b"\n") + (not source.endswith(b"\n"))
    if count > _MOST_LINES:
        message = f"The batch input file has {count} requests. The limit is {_MOST_LINES}."
        return listed_error("too_many_requests", message)
    return None


def _places(source: bytes) -> Iterator[tuple[int, int]]:
    """Yield the offsets in bytes at which each line starts and ends."""
    start = 0
    while start < len(source):
        stop = source.find(b"\n", start)
        stop = len(source) if stop < 0 else stop
        yield start, stop
        start = stop + 1


def _check_line(raw: bytes, earlier_ids: set[str]) -> dict[str, Any]:
    """Return the request of a valid line, and add its ID to the earlier IDs."""
    try:
        request = from_json(raw.decode())
    except (ValueError, RecursionError):
        message = "This line is not parseable as valid JSON."
        raise ApiError(400, message, code="invalid_json_line") from None
    if not isinstance(request, dict):
        raise ApiError(400, "This line is not a JSON object.", code="invalid_json_line")
    for key, shape in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if request.get(key) is None:
            raise missing_parameter(key)
        if not isinstance(request[key], shape):
            raise FieldError(f"Invalid type for '{key}'.", key, "invalid_type")
    if request["method"] != "POST":
        raise FieldError("The method must be 'POST'.", "method", "invalid_method")
    if request["url"] != ENDPOINT:
        message = "The URL provided for this request does not match the batch endpoint."
        raise FieldError(message, "url", "invalid_url")
    if request["custom_id"] in earlier_ids:
        message = (
            f"The custom_id '{request['custom_id']}' for this request is a duplicate of another "
            "request. The custom_id parameter must be unique for each request in a batch."
        )
        raise FieldError(message, "custom_id", "duplicate_custom_id")
    earlier_ids.add(request["custom_id"])
    return request


def _check_model(body: Mapping[str, Any], model: str | None) -> str | None:
    """Return the model of the batch; `model` is that of the earlier lines."""
    given = body.get("model")
    if not isinstance(given, str) or given == MISSING_MODEL:
        return model
    if model not in (None, given):
        message = (
            f"The model of this request is '{given}', but that of earlier requests is '{model}'. "
            "All requests of a batch must have the same model."
        )
        raise FieldError(message, "body.model", "mismatched_model")
    return given


def _plan_line(
    request: Mapping[str, Any], start: int, stop: int, find: Callable[[str], Job | None]
) -> Line:
    line = Line(request["custom_id"], start, stop, _own_end(request["body"].get("metadata")))
    try:
        job = _job_of(request["body"], find)
    except ApiError as error:
        line.refusal = error
        return line
    if job.last_status == "stuck":
        line.ends = math.inf
    if job.last_status in ("completed", "incomplete"):
        thought = job.usage["output_tokens_details"]["reasoning_tokens"]
        line.tokens = (job.usage["input_tokens"], job.usage["output_tokens"], thought)
    return line


def _own_end(metadata: object) -> float:
    """Return the end that the metadata sets, if any. The metadata may still be invalid."""
    if not (isinstance(metadata, dict) and isinstance(metadata.get("sandbox_seconds"), str)):
        return _USUAL
    try:
        return seconds_in(metadata, _USUAL)
    except FieldError:
        return _USUAL


def _job_of(body: dict[str, Any], find: Callable[[str], Job | None]) -> Job:
    """Return the job of a line; raise the API's error if the line is refused."""
    for key in ("background", "stream"):
        if body.get(key):
            message = f"'{key}' is not supported in a batch."
            raise FieldError(message, key, "unsupported_parameter")
    check_create(body, find)
    status = (body.get("metadata") or {}).get("sandbox_status")
    if status is not None:
        raise _wanted_error(status)
    return new_job(body, 0.0, 0.0)


def _wanted_error(status: str) -> ApiError:
    if not re.fullmatch("[45][0-9][0-9]", status):
        return bad_entry("sandbox_status must be a status from 400 to 599")
    kind = "invalid_request_error" if status < "500" else "server_error"
    return ApiError(int(status), f"The sandbox returns the requested status {status}.", kind=kind)
