"""The operations of the Files API and of the Batch API."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from .batches import ENDED, new_batch
from .checks import ApiError, FieldError, check_batch, check_expiry
from .files import BATCH_SECONDS, StoredFile, new_file_id, read_upload
from .pages import page_of
from .wire import Reply, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .app import LoggedRequest, State
    from .batches import Batch

Act = Callable[["State", "LoggedRequest"], Reply]

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def create_file(state: State, log: LoggedRequest) -> Reply:
    """Keep an uploaded file."""
    upload = read_upload(log.raw_body, log.headers.get("content-type", ""))
    purpose = upload.fields.get("purpose")
    for key, given in (("file", upload.content), ("purpose", purpose)):
        if given is None:
            message = f"Missing required parameter: '{key}'."
            raise FieldError(400, message, param=key, code="missing_required_parameter")
    content = upload.content or b""
    log.body = {"purpose": purpose, "filename": upload.filename, "bytes": len(content)}
    if purpose not in _PURPOSES:
        message = f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'"
        raise FieldError(400, message, param="purpose", code="invalid_value")
    if purpose == "batch" and not upload.filename.endswith(".jsonl"):
        raise ApiError(400, "Invalid file format for Batch API. Must be .jsonl")
    file = StoredFile(
        id=new_file_id(),
        filename=upload.filename,
        purpose=purpose,
        created=time.time(),
        write=lambda: content,
        expires_after=_expiry(upload.fields, purpose),
    )
    state.files[file.id] = file
    log.response_id = file.id
    return Reply(body=to_json(file.payload()))


def list_files(state: State, log: LoggedRequest) -> Reply:
    """List the files, newest first unless `order` says otherwise."""
    settle(state, time.time())
    purpose = log.query.get("purpose")
    files = [file for file in list(state.files.values()) if purpose in (None, file.purpose)]
    files.sort(key=lambda file: file.created, reverse=log.query.get("order", "desc") != "asc")
    return page_of([(file.id, file.payload) for file in files], log.query, 10_000, 10_000)


def retrieve_file(state: State, log: LoggedRequest) -> Reply:
    """Show a file."""
    return Reply(body=to_json(_file(state, log).payload()))


def file_content(state: State, log: LoggedRequest) -> Reply:
    """Hand out what a file holds."""
    file = _file(state, log)
    return Reply(body=file.content, media_type="application/octet-stream")


def delete_file(state: State, log: LoggedRequest) -> Reply:
    """Let go of a file; batches that read it go on."""
    file = _file(state, log)
    state.files.pop(file.id, None)
    return Reply(body=to_json({"id": file.id, "object": "file", "deleted": True}))


def create_batch(state: State, log: LoggedRequest) -> Reply:
    """Begin a batch; what is wrong with its lines shows later."""
    if log.body is None and log.raw_body.strip() != b"null":
        raise ApiError(400, "We could not parse the JSON body of your request.")

    def purpose_of(file_id: str) -> str | None:
        file = state.files.get(file_id)
        return None if file is None else file.purpose

    request = check_batch(log.body, purpose_of)
    source = state.files[request["input_file_id"]].content
    try:
        batch = new_batch(
            request,
            source,
            time.time(),
            state.seconds,
            state.batch_window,
            state.find,
            state.personality,
        )
    except ValueError as error:
        raise FieldError(400, str(error), param="metadata", code="invalid_value") from None
    state.batches[batch.id] = batch
    log.response_id = batch.id
    # Whatever its time: the API has validated nothing by then.
    return Reply(body=to_json(batch.payload(batch.created - 1)))


def retrieve_batch(state: State, log: LoggedRequest) -> Reply:
    """Show a batch."""
    return _shown(_batch(state, log))


def list_batches(state: State, log: LoggedRequest) -> Reply:
    """List the batches, newest first."""
    now = time.time()
    batches = reversed(list(state.batches.values()))
    return page_of([(one.id, partial(one.payload, now)) for one in batches], log.query, 20, 100)


def cancel_batch(state: State, log: LoggedRequest) -> Reply:
    """Begin to cancel a batch; 409 where it has ended."""
    batch = _batch(state, log)
    now = time.time()
    if not batch.cancel(now):
        raise ApiError(409, f"Cannot cancel a batch with status '{batch.status(now)}'.")
    return _shown(batch)


def settle(state: State, now: float) -> None:
    """Put the files of batches that have ended among those of the server."""
    for batch in list(state.batches.values()):
        if not batch.has_files and batch.status(now) in ENDED:
            for file in batch.files(now):
                state.files.setdefault(file.id, file)
            batch.has_files = True


def _file(state: State, log: LoggedRequest) -> StoredFile:
    settle(state, time.time())
    file = state.files.get(log.response_id or "")
    if file is None:
        raise ApiError(404, f"No such File object: {log.response_id}", param="id")
    return file


def _batch(state: State, log: LoggedRequest) -> Batch:
    batch = state.batches.get(log.response_id or "")
    if batch is None:
        raise ApiError(404, f"No batch found with id '{log.response_id}'.")
    return batch


def _shown(batch: Batch) -> Reply:
    return Reply(body=to_json(batch.payload(time.time())))


def _expiry(fields: Mapping[str, str], purpose: str) -> int | None:
    anchor, seconds = (fields.get(f"expires_after[{key}]") for key in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return BATCH_SECONDS if purpose == "batch" else None
    number = int(seconds) if seconds and seconds.isascii() and seconds.isdigit() else seconds
    return check_expiry(anchor, number, "expires_after")
