"""Files of the Files API: those that were uploaded, and those that batches leave."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser, parse_options_header

from .checks import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_multipart.multipart import Field, File

BATCH_SECONDS = 30 * 86400
"""How long files of batches are kept unless somebody says otherwise."""

_ALPHABET = string.ascii_letters + string.digits
_NO_FORM = "Could not parse multipart form"


@dataclass
class StoredFile:
    """One file; what it holds is written when it is first read."""

    id: str
    filename: str
    purpose: str
    created: float
    """Unix seconds."""
    write: Callable[[], bytes]
    expires_after: int | None = None
    """Seconds from when it was created; None where it is kept for good."""

    @cached_property
    def content(self) -> bytes:
        """All of its bytes."""
        return self.write()

    def payload(self) -> dict[str, Any]:
        """Return the file object as the API shows it."""
        created = int(self.created)
        kept = self.expires_after
        return {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": len(self.content),
            "created_at": created,
            "expires_at": None if kept is None else created + kept,
            "status": "processed",
            "status_details": None,
        }


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart form that was sent: its plain fields, and the part named `file`."""

    fields: dict[str, str]
    filename: str
    content: bytes | None
    """None where no file was sent."""


def new_file_id() -> str:
    """Return a file id of the API's shape, never the same twice."""
    return "file-" + "".join(secrets.choice(_ALPHABET) for _ in range(22))


def read_upload(raw_body: bytes, content_type: str) -> Upload:
    """Read a multipart form; raise the API's error where it is none, or broken."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise ApiError(400, "Invalid Content-Type. Expected multipart/form-data with a boundary.")
    fields: dict[str, str] = {}
    sent: list[tuple[str, bytes]] = []
    ended: list[bool] = []

    def keep_field(field: Field) -> None:
        name = (field.field_name or b"").decode("utf-8", "replace")
        fields[name] = (field.value or b"").decode("utf-8", "replace")

    def keep_file(file: File) -> None:
        if file.field_name == b"file":
            file.file_object.seek(0)
            name = (file.file_name or b"").decode("utf-8", "replace")
            sent.append((name, file.file_object.read()))
        file.close()

    parser = FormParser(
        "multipart/form-data",
        keep_field,
        keep_file,
        lambda: ended.append(True),
        options[b"boundary"],
        config={"MAX_MEMORY_FILE_SIZE": float("inf")},
    )
    try:
        parser.write(raw_body)
        parser.finalize()
    except FormParserError:
        raise ApiError(400, _NO_FORM) from None
    if not ended:
        raise ApiError(400, _NO_FORM)
    filename, content = sent[-1] if sent else ("", None)
    return Upload(fields, filename, content)
