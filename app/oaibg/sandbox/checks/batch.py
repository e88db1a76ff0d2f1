"""Checks the create of a batch and the expiry of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.sandbox.checks.values import check_metadata, check_object, check_type
from oaibg.sandbox.errors import FieldError, missing_parameter

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINT = "/v1/responses"
"""The only endpoint that the sandbox supports in a batch."""

_KNOWN_PARAMETERS = (
    "completion_window",
    "endpoint",
    "input_file_id",
    "metadata",
    "output_expires_after",
)


def check_batch(given: object, purpose_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Return the body of a batch's create if it is valid, else raise `ApiError`.

    `purpose_of` returns the purpose of a file by its ID, or None if the file is unknown.
    """
    body = check_object(given, _KNOWN_PARAMETERS)
    for key in ("input_file_id", "endpoint", "completion_window"):
        if body.get(key) is None:
            raise missing_parameter(key)
        check_type(body[key], key, str)
    _check_only(body["endpoint"], ENDPOINT, "endpoint")
    _check_only(body["completion_window"], "24h", "completion_window")
    check_type(body.get("metadata"), "metadata", dict)
    check_metadata(body.get("metadata"))
    check_type(body.get("output_expires_after"), "output_expires_after", dict)
    if (expires := body.get("output_expires_after")) is not None:
        check_expiry(expires.get("anchor"), expires.get("seconds"), "output_expires_after")
    file_id = body["input_file_id"]
    purpose = purpose_of(file_id)
    if purpose is None:
        raise FieldError(f"File with id '{file_id}' not found.", "input_file_id", "file_not_found")
    if purpose != "batch":
        message = f"The purpose of file '{file_id}' must be 'batch', but it is '{purpose}'."
        raise FieldError(message, "input_file_id", "invalid_file_purpose")
    return body


def check_expiry(anchor: object, seconds: object, param: str) -> int:
    """Return the seconds until a file expires; raise `ApiError` if they are invalid."""
    _check_only(anchor, "created_at", f"{param}.anchor")
    check_type(seconds, f"{param}.seconds", int, nullable=False)
    if not (isinstance(seconds, int) and 3600 <= seconds <= 2592000):
        message = f"Invalid '{param}.seconds': expected a value from 3600 to 2592000."
        raise FieldError(message, f"{param}.seconds", "integer_out_of_range")
    return seconds


def _check_only(value: object, only: str, param: str) -> None:
    if value != only:
        message = f"Invalid value: '{value}'. Value must be '{only}'."
        raise FieldError(message, param, "invalid_value")
