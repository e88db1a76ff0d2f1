"""Reads an error body, in whichever form a server sends it."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from oaibg.base.json_text import string, value_at

KNOWN_CODES = frozenset(
    {
        *("invalid_api_key", "account_deactivated", "billing_not_active"),
        *("billing_hard_limit_reached", "insufficient_quota", "credit_balance_exhausted"),
        *("organization_spend_limit_exceeded", "project_spend_limit_exceeded"),
        *("organization_usage_limit_exceeded", "rate_limit_exceeded", "slow_down"),
        *("server_is_overloaded", "server_error", "conversation_locked", "conversation_busy"),
        *("unsupported_country_region_territory", "model_not_found", "unsupported_model"),
        *("response_not_found", "previous_response_not_found", "context_length_exceeded"),
        *("unknown_parameter", "unsupported_parameter", "unsupported_value", "invalid_value"),
        *("invalid_type", "missing_required_parameter", "invalid_request_error", "invalid_prompt"),
        *("invalid_json_schema", "invalid_function_parameters", "invalid_encrypted_content"),
        *("invalid_image", "invalid_image_url", "invalid_image_format", "invalid_base64_image"),
        *("content_filter", "content_policy_violation", "string_above_max_length"),
        *("integer_below_min_value", "integer_above_max_value", "decimal_out_of_range"),
        *("decimal_below_min_value", "decimal_above_max_value", "array_above_max_length"),
        *("empty_array", "empty_string", "object_above_max_properties"),
        # Azure's, which sends no `type`.
        *("DeploymentNotFound", "OperationNotSupported"),
    }
)
"""Codes of the API. A reply with one of them comes from the API even if it has no `type`."""

ABSENT = ("", "none", "null")
"""How servers spell the lack of a code, a type or a file ID, in lower case."""

MESSAGES = ("message", "detail", "error", "errors")
"""The keys under which servers send an error's message."""
_PAGE_TEXTS = [
    re.compile(rf"<{tag}\b[^>]*>\s*([^<]{{1,200}}?)\s*<", re.IGNORECASE) for tag in ("pre", "title")
]
"""Where an HTML page says what it is about."""


class ErrorBody(NamedTuple):
    """What an error body says; values that it lacks are None."""

    code: str | None
    kind: str | None
    """The error's `type`."""
    param: str | None
    words: str | None
    """The message, on one line; for JSON without a message, the JSON."""
    envelope: bool
    """Whether it is the API's own error: an object `error` with a message, and a `type` or a code
    of the API's."""
    is_json: bool


def read_error(document: object) -> ErrorBody:
    """Return what a body says; `document` is its parsed JSON, or its text.

    The API's form is `{"error": {"message", "type", "param", "code"}}`. Other servers send
    `{"error": "…"}`, `{"detail": …}`, JSON of their own (also in a list), plain text or an HTML
    page.
    """
    if isinstance(document, str):
        return ErrorBody(None, None, None, _text(document), envelope=False, is_json=False)
    if (inner := _only(document)) is not None:
        return read_error(inner)._replace(envelope=False)
    error = value_at(document, "error")
    if isinstance(error, dict):
        return _of_fields(error, is_own=True)
    return _of_fields(document, is_own=False)


def error_event(members: dict[str, Any]) -> ErrorBody | None:
    """Return the error in the data of a stream event; None if it has none.

    It is `{"type": "error", "code", "message", "param"}`, or `{"error": {…}}` as in a reply.
    """
    if is_error(members):
        return read_error(members)
    if members.get("type") == "error":
        return _of_fields({**members, "type": None}, is_own=True)
    return None


def is_error(document: object) -> bool:
    """Whether an object has an error; in a response that did not fail, `error` is null."""
    error = value_at(document, "error")
    return isinstance(error, dict | list | str) and bool(error)


def reports_failure(document: object) -> bool:
    """Whether JSON that is not a response says, in any server's form, that the call failed."""
    document = _only(document) or document
    if is_error(document) or value_at(document, "type") == "error":
        return True
    if value_at(document, "success") is False or string(value_at(document, "code")) in KNOWN_CODES:
        return True
    return bool(value_at(document, "detail") or value_at(document, "errors"))


def _only(document: object) -> object:
    """Return the only object of a list; None for anything else."""
    one = document[0] if isinstance(document, list) and len(document) == 1 else None
    return one if isinstance(one, dict) else None


def is_page(text: str) -> bool:
    """Whether a body is an HTML page."""
    return text.lstrip("\ufeff \t\r\n").startswith("<")


def _of_fields(fields: object, *, is_own: bool) -> ErrorBody:
    code, kind = _name(value_at(fields, "code")), _name(value_at(fields, "type"))
    message, param = value_at(fields, "message"), value_at(fields, "param")
    named = isinstance(message, str) and message.strip() and (kind or code in KNOWN_CODES)
    words = next(filter(None, (value_at(fields, key) for key in MESSAGES)), fields)
    return ErrorBody(
        code,
        kind,
        param if isinstance(param, str) and param else None,
        _line(words if isinstance(words, str) else json.dumps(words, separators=(",", ":"))),
        envelope=bool(is_own and named),
        is_json=True,
    )


def _text(text: str) -> str | None:
    """Return plain text, or the message or the title of an HTML page."""
    if not is_page(text):
        return _line(text)
    found = next(filter(None, (pattern.search(text) for pattern in _PAGE_TEXTS)), None)
    return f"an HTML page ({_line(found[1])})" if found else "an HTML page"


def _name(value: object) -> str | None:
    """Return a code or a type as a string; gateways spell the lack of one in several ways."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return None if str(value).strip().lower() in ABSENT else str(value)


def _line(text: str) -> str | None:
    return " ".join(text.split()) or None
