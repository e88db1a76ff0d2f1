"""Parses an upload: a multipart form with a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser, parse_options_header

from oaibg.sandbox.errors import ApiError

if TYPE_CHECKING:
    from python_multipart.multipart import Field, File

_NO_FORM = "Could not parse multipart form"


@dataclass(frozen=True, slots=True)
class Upload:
    """A parsed multipart form: its fields, and the part named `file`."""

    fields: dict[str, str]
    filename: str
    content: bytes | None
    """None if the form contains no file."""


def read_upload(raw_body: bytes, content_type: str) -> Upload:
    """Parse a multipart form; raise the API's error if it is invalid or incomplete."""
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

    parser = FormParser(
        "multipart/form-data",
        keep_field,
        keep_file,
        lambda: ended.append(True),
        options[b"boundary"],
        config={"MAX_MEMORY_FILE_SIZE": float("inf")},  # in memory, so there is nothing to close
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
