"""The result files of a batch: its output file and its error file."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from typing import TYPE_CHECKING

from oaibg.sandbox.batch.batch import ENDED
from oaibg.sandbox.batch.files import BATCH_SECONDS, StoredFile
from oaibg.sandbox.encoding import to_json
from oaibg.sandbox.job.items import item_id
from oaibg.sandbox.job.job import new_job
from oaibg.sandbox.job.response_object import response_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oaibg.sandbox.batch.batch import Batch
    from oaibg.sandbox.batch.plan import Line
    from oaibg.sandbox.job.job import Job

_UNDONE = {
    "expired": "This request could not be executed before the completion window expired.",
    "cancelled": "This request could not be executed because the batch was cancelled.",
}


def result_files(
    batch: Batch, now: float, on_job: Callable[[Job], None] = lambda _job: None
) -> list[StoredFile]:
    """Return the result files of a batch that has ended. No empty file is created.

    `on_job` is called for the job of each line when its result is written.
    """
    status = batch.status(now)
    if status not in ENDED:
        return []
    lines = batch.plan.lines
    count = batch.plan.done(batch.ran(now)).lines
    completed = [line for line in lines[:count] if line.refusal is None]
    others = [line for line in lines[:count] if line.refusal is not None] + lines[count:]
    files = []
    if completed:
        write = partial(_output_line, batch, on_job)
        files.append(_file(batch, batch.output_file_id, "output", completed, write))
    if others:
        write = partial(_error_line, batch, status)
        files.append(_file(batch, batch.error_file_id, "error", others, write))
    return files


def _file(
    batch: Batch, file_id: str, kind: str, lines: list[Line], write: Callable[[Line], bytes]
) -> StoredFile:
    ended = batch.run_ends + batch.pause
    if batch.cancelled_after is not None:
        ended = batch.cancelled_after + batch.cancel_takes
    expires = batch.request.get("output_expires_after") or {}
    return StoredFile(
        id=file_id,
        filename=f"{batch.id}_{kind}.jsonl",
        purpose="batch_output",
        created=batch.created + ended,
        write=lambda: b"".join(write(line) for line in _unordered(lines)),
        expires_after=expires.get("seconds", BATCH_SECONDS),
    )


def _unordered(lines: list[Line]) -> Iterable[Line]:
    """Return the lines in an order that differs from that of the input."""
    starts = [line.start for line in lines]
    return reversed(lines) if starts == sorted(starts) else lines


def _output_line(batch: Batch, on_job: Callable[[Job], None], line: Line) -> bytes:
    started, body = batch.created + batch.pause, line.body(batch.source)
    job = new_job(body, started, 0.0, batch.personality)
    job.seconds = line.ends - batch.pause
    on_job(job)
    include = body.get("include") or ()
    shown = response_object(job, job.last_status, batch.personality, include)
    return _answered(batch, line, 200, shown)


def _error_line(batch: Batch, status: str, line: Line) -> bytes:
    if line.refusal is not None and line.ends <= batch.ran(math.inf):
        answered, body = batch.personality.error(line.refusal)
        return _answered(batch, line, answered, body)
    return _line(batch, line, None, {"code": f"batch_{status}", "message": _UNDONE[status]})


def _answered(batch: Batch, line: Line, status: int, body: object) -> bytes:
    seed = f"{batch.id} {line.custom_id}".encode("utf-8", "surrogatepass")
    request_id = hashlib.sha256(seed).hexdigest()[:32]
    response = {"status_code": status, "request_id": request_id, "body": body}
    return _line(batch, line, response, None)


def _line(batch: Batch, line: Line, response: object, error: object) -> bytes:
    entry = {
        "id": item_id("batch_req", f"{batch.id} {line.start}"),
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    if batch.personality.batch_lines == "sparse":
        entry = {key: _sparse(value) for key, value in entry.items() if value is not None}
    return to_json(entry) + b"\n"


def _sparse(value: object) -> object:
    """Return a part of a line, with its body as a string."""
    if not isinstance(value, dict) or "body" not in value:
        return value
    return {**value, "body": to_json(value["body"]).decode()}
