"""Reads a line of results, in whichever form a server wrote it.

The Batch API's form is `{"id", "custom_id", "response": {"status_code", "request_id", "body"},
"error"}`, with one of the last two null (https://platform.openai.com/docs/guides/batch). Other
servers leave out what is null, send the body as a JSON string, or have their own kinds of errors.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from oaibg.api.error_body import MESSAGES, ErrorBody, read_error
from oaibg.api.payload import Payload
from oaibg.base.json_text import is_altered, json_line, read_json, string
from oaibg.contract.errors import ApiRefused, ExitCode
from oaibg.engine import report_end
from oaibg.engine.recap import NEEDS_ACTION, REFUSED, Recap
from oaibg.engine.verdicts import may_pass
from oaibg.state.rows import NOT_FOUND

if TYPE_CHECKING:
    from oaibg.contract.errors import OaibgError
    from oaibg.contract.events import Unsuccessful

MISSING = "missing"
"""The status of a job that has no result in the files of its batch. As the code of its error, it
means that the file is gone, so that the job may have completed."""

UNDELIVERED = f"batch_{MISSING}"
"""The code of the error of a job that has no result, although its batch's files were read."""

SUCCESSFUL = frozenset({"completed", NEEDS_ACTION})
"""The statuses of jobs that are never submitted again."""

_NOT_RUN = frozenset({"expired", "cancelled", NOT_FOUND, MISSING})
"""The statuses of jobs without a response; the code of their error has them."""


_HEAD = re.compile(rb'\{"id": ?(?:null|"[^"\\]*"), ?"custom_id": ?("(?:[^"\\]|\\.)*")')
"""The start of a line, as oaibg and the Batch API write it."""


class ResultLine(NamedTuple):
    """A line of a results file, or of a batch's output file."""

    id: object
    custom_id: str
    status: str
    """The terminal status of the job, `NEEDS_ACTION`, or `REFUSED` if the API refused it."""
    raw: bytes
    recap: Recap
    response_id: str | None = None

    @property
    def unsuccessful(self) -> Unsuccessful | None:
        """The job's entry in a summary's `unsuccessful`; None if it completed with an answer."""
        return self.recap.unsuccessful(self.custom_id, self.response_id)


class Ending(NamedTuple):
    """How a job of a run ended: its last payload, or the refusal of the API to create it."""

    payload: Payload | None
    refusal: OaibgError | None = None

    @property
    def status(self) -> str:
        """The status under which a run counts the job."""
        return self.recap.status

    @property
    def recap(self) -> Recap:
        """What totals and tables show of the job."""
        if self.payload is not None:
            return Recap.of(self.payload, report_end.end_code(self.payload))
        refusal = self.refusal
        code, message = (refusal.code, refusal.message) if refusal is not None else (None, None)
        return Recap(status=REFUSED, code=code, message=message)


def read_line(raw: bytes) -> ResultLine | None:
    """Parse a line of results; None if it is not a result."""
    try:
        line = Payload(raw).data
    except ValueError:
        return None
    custom_id, ending = line.get("custom_id"), ending_of(line)
    if not isinstance(custom_id, str) or ending is None:
        return None
    raw = json_line(line) if is_altered(raw) else raw  # the file stays UTF-8
    recap = ending.recap
    response_id = None if ending.payload is None else ending.payload.id
    return ResultLine(line.get("id"), custom_id, recap.status, raw, recap, response_id)


def custom_id_of(raw: bytes) -> str | None:
    """Return the custom_id of a line without parsing all of it; None if that is impossible."""
    head = _HEAD.match(raw)
    with suppress(ValueError):
        value = read_json(head[1]) if head is not None else None
        return value if isinstance(value, str) else None
    return None


def not_run(id_: str | None, custom_id: str, code: str, message: str) -> ResultLine:
    """Return the line of a job that has no response; the code names its status."""
    error = {"code": code, "message": message}
    line = {"id": id_, "custom_id": custom_id, "response": None, "error": error}
    ending = ending_of(line)
    assert ending is not None  # noqa: S101 - it has an error
    return ResultLine(id_, custom_id, ending.status, json_line(line), ending.recap)


def ending_of(line: dict[str, Any]) -> Ending | None:
    """Return what a parsed line reports; None if it is not a result."""
    response = line.get("response") or {}
    if not isinstance(response, dict):
        return None
    body = _parsed(response.get("body"))
    error = _error(line.get("error")) or _error_beside(response)
    http_status = _whole(response.get("status_code"))
    if http_status is not None and http_status >= 300:
        refusal = _refusal(_error(body) or error, response)
        if not may_pass(http_status):
            return Ending(None, refusal)
        why = {"code": refusal.code, "message": refusal.message}
        return Ending(Payload.of({"status": "failed", "error": why}))
    if isinstance(body, dict) and body:
        payload = Payload.of(body)
        if payload.status is not None:
            return Ending(payload)
        refused = _error(body) if any(body.get(key) for key in MESSAGES) else error
        if refused is not None:
            return Ending(None, _refusal(refused, response))
        return Ending(Payload.of({**body, "status": "completed"}))
    if error is None:
        return None
    status = str(error.code).removeprefix("batch_")
    status = status if status in _NOT_RUN else "failed"
    own = {"code": error.code, "message": error.words}
    return Ending(Payload.of({"status": status, "error": own}))


def code_of(status: str) -> ExitCode:
    """Return the exit code of a job from the status of its result."""
    return _CODES.get(status, ExitCode.UNSUCCESSFUL)


_CODES = {
    "completed": ExitCode.OK,
    NEEDS_ACTION: ExitCode.NEEDS_ACTION,
    REFUSED: ExitCode.ERROR,
    NOT_FOUND: ExitCode.NOT_FOUND,
    MISSING: ExitCode.ERROR,
}


def _refusal(error: ErrorBody | None, response: dict[str, Any]) -> ApiRefused:
    status = _whole(response.get("status_code"))
    code, words = (error.code, error.words) if error is not None else (None, None)
    http = None if status is None else f"HTTP {status}"
    is_named = http is not None and (words or "").startswith(http)  # as in our own lines
    return ApiRefused(
        ": ".join(filter(None, (None if is_named else http, words)))
        or "The server gave no reason.",
        code=code or (http and f"http_{status}"),
        http_status=status,
        request_id=string(response.get("request_id")),
        outcome="not_created",
    )


def _error(value: object) -> ErrorBody | None:
    """Return an error in any form; None if there is none."""
    value = _parsed(value)
    return read_error(value) if value else None


def _error_beside(response: dict[str, Any]) -> ErrorBody | None:
    """Return the error that a server wrote into `response` in place of a body."""
    return read_error(response) if any(response.get(key) for key in MESSAGES) else None


def _parsed(value: object) -> object:
    """Return what a string with a JSON object contains; any other value unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return read_json(value.encode("utf-8", "surrogatepass"))
        except ValueError:
            return value
    return value


def _whole(value: object) -> int | None:
    digits = str(value) if isinstance(value, int | str) else ""
    return int(digits) if digits.isdecimal() and len(digits) <= 3 else None
