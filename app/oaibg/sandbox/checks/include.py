"""Checks `include`: the fields that a create or a retrieve adds to its response."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from oaibg.sandbox.checks.values import check_choice, check_type

_INCLUDABLE = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)


def check_include(given: Any) -> None:
    """Raise `FieldError` if the `include` of a request is invalid."""
    check_type(given, "include", list)
    for place, value in enumerate(given or []):
        check_type(value, f"include[{place}]", str, nullable=False)
        check_choice(value, _INCLUDABLE, f"include[{place}]")


def included_in_query(query: bytes) -> list[str]:
    """Return the `include` of a retrieve's query; raise `FieldError` if it is invalid."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    given = [value for key, value in pairs if re.fullmatch(r"include(\[\d*\])?", key)]
    check_include(given)
    return given
