"""The operations of the Files API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from oaibg.sandbox.batch.files import BATCH_SECONDS, StoredFile, new_file_id
from oaibg.sandbox.checks.batch import check_expiry
from oaibg.sandbox.errors import ApiError, FieldError, missing_parameter
from oaibg.sandbox.operations.pages import page_of
from oaibg.sandbox.operations.upload import read_upload
from oaibg.sandbox.wire.reply import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oaibg.sandbox.call import Call

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def create(call: Call) -> Reply:
    """Store an uploaded file."""
    log = call.log
    upload = read_upload(log.raw_body, log.headers.get("content-type", ""))
    content, purpose = upload.content, upload.fields.get("purpose")
    if content is None:
        raise missing_parameter("file")
    if purpose is None:
        raise missing_parameter("purpose")
    log.body = {"purpose": purpose, "filename": upload.filename, "bytes": len(content)}
    if purpose not in _PURPOSES:
        message = f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'"
        raise FieldError(message, "purpose", "invalid_value")
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
    call.state.files[file.id] = file
    log.response_id = file.id
    return json_reply(file.payload())


def list_all(call: Call) -> Reply:
    """List the files, newest first unless `order` is `asc`."""
    query = call.log.query
    purpose = query.get("purpose")
    files = [one for one in list(call.state.all_files().values()) if purpose in (None, one.purpose)]
    files.sort(key=lambda file: file.created, reverse=query.get("order", "desc") != "asc")
    return page_of([(file.id, file.payload) for file in files], query, 10_000, 10_000)


def retrieve(call: Call) -> Reply:
    """Return the file object."""
    return json_reply(_file(call).payload())


def content(call: Call) -> Reply:
    """Return the content of a file."""
    return Reply(200, _file(call).content, "application/octet-stream")


def delete(call: Call) -> Reply:
    """Delete a file. Batches that already use it keep running."""
    file = _file(call)
    call.state.files.pop(file.id, None)
    return json_reply({"id": file.id, "object": "file", "deleted": True})


def _file(call: Call) -> StoredFile:
    file = call.state.all_files().get(call.id)
    if file is None:
        raise ApiError(404, f"No such File object: {call.id}", param="id")
    return file


def _expiry(fields: Mapping[str, str], purpose: str) -> int | None:
    anchor, seconds = (fields.get(f"expires_after[{key}]") for key in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return BATCH_SECONDS if purpose == "batch" else None
    number = int(seconds) if seconds and seconds.isascii() and seconds.isdigit() else seconds
    return check_expiry(anchor, number, "expires_after")
