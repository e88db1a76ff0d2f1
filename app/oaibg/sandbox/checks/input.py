"""Checks the `input` of a create: its items, their content parts, and the parts' URLs."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.checks.values import check_choice, check_length, check_type
from oaibg.sandbox.errors import FieldError, missing_parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES = ("user", "assistant", "system", "developer")
# fmt: off
_PARTS = (
    "input_text", "input_image", "input_audio", "output_text", "refusal", "input_file",
    "computer_screenshot", "summary_text", "encrypted_content",
)
_OF_ASSISTANT = ("output_text", "refusal")
_FOREIGN = (
    "audio", "function_call", "name", "reasoning_content", "refusal", "tool_call_id", "tool_calls",
)
# fmt: on
_SOURCES: dict[object, tuple[str, ...]] = {
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_data", "file_id", "file_url"),
}
_ITEMS: dict[object, dict[str, tuple[type, ...]]] = {
    "message": {"role": (str,), "content": (str, list)},
    "function_call": {"call_id": (str,), "name": (str,), "arguments": (str,)},
    "function_call_output": {"call_id": (str,), "output": (str, list)},
    "custom_tool_call": {"call_id": (str,), "name": (str,), "input": (str,)},
    "custom_tool_call_output": {"call_id": (str,), "output": (str, list)},
    "mcp_approval_request": {"id": (str,)},
    "mcp_approval_response": {"approval_request_id": (str,), "approve": (bool,)},
    "item_reference": {"id": (str,)},
}
"""The required keys of items, and their types; other items are not checked."""
_INPUT_PARTS = tuple(part for part in _PARTS if part not in _OF_ASSISTANT)
_DETAILS = ("low", "high", "auto", "original")
_LONGEST_TEXT = 10485760


def check_input(body: Mapping[str, Any]) -> None:
    """Raise `FieldError` if an item of the input is invalid."""
    given = body.get("input")
    for place, item in enumerate(given if isinstance(given, list) else []):
        where = f"input[{place}]"
        check_type(item, where, dict, nullable=False)
        check_type(item.get("type"), f"{where}.type", str)
        kind = item.get("type") or "message"
        required = _ITEMS.get(kind, {})
        for key, types in required.items():
            if item.get(key) is None:
                raise missing_parameter(f"{where}.{key}")
            check_type(item[key], f"{where}.{key}", *types)
        if kind == "message":
            check_choice(item["role"], _ROLES, f"{where}.role")
            if foreign := [key for key in _FOREIGN if key in item]:
                param = f"{where}.{foreign[0]}"
                raise FieldError(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
        key = "content" if kind == "message" else "output"
        parts = item.get(key) if key in required else None
        choices = _OF_ASSISTANT if item.get("role") == "assistant" else _INPUT_PARTS
        for index, part in enumerate(parts if isinstance(parts, list) else []):
            _check_part(part, f"{where}.{key}[{index}]", choices)


def _check_part(part: Any, where: str, choices: tuple[str, ...]) -> None:
    check_type(part, where, dict, nullable=False)
    kind = part.get("type")
    needed = ("type", "text") if kind in ("input_text", "output_text") else ("type",)
    for key in needed:
        if part.get(key) is None:
            raise missing_parameter(f"{where}.{key}")
        check_type(part[key], f"{where}.{key}", str)
    check_choice(kind, choices, f"{where}.type")
    check_length(part.get("text") or "", f"{where}.text", _LONGEST_TEXT)
    sources = _SOURCES.get(kind, ())
    for key in (*sources, "filename"):
        check_type(part.get(key), f"{where}.{key}", str)
    if sources and all(part.get(key) is None for key in sources):
        raise missing_parameter(f"{where}.{sources[0]}")
    if kind == "input_image":
        check_choice(part.get("detail"), _DETAILS, f"{where}.detail")
        _check_url(part.get("image_url"), f"{where}.image_url", "image/")
    elif kind == "input_file":
        _check_url(part.get("file_url"), f"{where}.file_url")
        _check_data_url(part.get("file_data"), f"{where}.file_data")


def _check_url(url: str | None, param: str, media: str = "") -> None:
    if url is None or url.startswith(("https://", "http://")):
        return
    if not (media and url.startswith("data:")):
        message = (
            f"Invalid '{param}'. Expected a valid URL, but got a value with an invalid format."
        )
        raise FieldError(message, param, "invalid_value")
    _check_data_url(url, param, media)


def _check_data_url(url: str | None, param: str, media: str = "") -> None:
    """Raise `FieldError` unless `url` is None or a Base64 data URL of the media type `media`."""
    if url is None:
        return
    head, comma, data = url.partition(",")
    try:
        good = head.startswith(f"data:{media}") and head.endswith(";base64") and bool(comma)
        binascii.a2b_base64(data if good else "", strict_mode=True)
    except ValueError:
        good = False
    if not good:
        kind = "an image" if media else "a supported"
        message = f"Invalid '{param}'. Expected a base64-encoded data URL with {kind} MIME type."
        raise FieldError(message, param, "invalid_value")
