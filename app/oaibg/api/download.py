"""Downloads a file; an error that a server sends in place of the file is recognized."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from oaibg.api.decompress import PIECE_BYTES
from oaibg.api.error_body import reports_failure
from oaibg.api.failures import reply_failed, unusable
from oaibg.api.transport import own_code
from oaibg.base.json_text import read_json, value_at

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

_ERROR_BYTES = 1 << 16
"""Maximum size of an error that a server sends in place of a file."""


async def write_file(
    call: AbstractAsyncContextManager[Any],
    into: IO[bytes],
    *,
    may_be_html: bool = False,
    may_be_error: bool = False,
) -> None:
    """Make a call, and write the file in its reply.

    With `may_be_error`, an error in JSON is not accepted as the file: a job's file may be any JSON.
    """
    head = b""
    async with call as reply:
        if "html" in reply.headers.get("content-type", "") and not may_be_html:
            raise reply_failed(reply.http_response, "the reply is an HTML page, not the file")
        async for piece in reply.iter_bytes(PIECE_BYTES):
            if may_be_error and len(head) <= _ERROR_BYTES:
                head += piece
            with own_code():
                into.write(piece)
        if 0 < len(head) <= _ERROR_BYTES and (document := error_in(head)) is not None:
            raise unusable(reply.http_response, "the reply is an error, not the file", document)


def error_in(raw: bytes) -> object:
    """Return the error in a body; None if the body is anything else, such as a result line."""
    with suppress(ValueError):
        document = read_json(raw)
        is_line = value_at(document, "custom_id") is not None
        return document if reports_failure(document) and not is_line else None
    return None
