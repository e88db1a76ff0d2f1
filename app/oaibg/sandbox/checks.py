"""What the API refuses: the checks of creates, and the error envelope they end in."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

from .samples import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# fmt: off
KNOWN_PARAMETERS = frozenset({
    "access_programs", "background", "background_options", "context_management", "conversation",
    "image", "include", "input", "instructions", "max_output_tokens", "max_tool_calls",
    "metadata", "model", "moderation", "parallel_tool_calls", "previous_response_id", "prompt",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning",
    "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature",
    "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
})
# fmt: on
MISSING_MODEL = "missing-model"
BATCH_ENDPOINT = "/v1/responses"

_BATCH_PARAMETERS = (
    "completion_window",
    "endpoint",
    "input_file_id",
    "metadata",
    "output_expires_after",
)

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_VERBOSITIES = ("low", "medium", "high")
_WINDOWS = ("soonest", "2h", "8h")
_ROLES = ("user", "assistant", "system", "developer")
# fmt: off
_PARTS = (
    "input_text", "input_image", "input_audio", "output_text", "refusal", "input_file",
    "computer_screenshot", "summary_text", "encrypted_content",
)
# fmt: on
_SOURCES: dict[object, tuple[str, ...]] = {
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_data", "file_id", "file_url"),
}
_DETAILS = ("low", "high", "auto", "original")
_TEXT_MAX = 10485760
_FORMATS = ("text", "json_object", "json_schema")
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
_TRUNCATIONS = ("auto", "disabled")

_Type = type | tuple[type, ...]
_SHAPES: dict[str, tuple[_Type, str]] = {
    "background": (bool, "a boolean"),
    "background_options": (dict, "an object"),
    "input": ((str, list), "a string or an array"),
    "instructions": (str, "a string"),
    "max_output_tokens": (int, "an integer"),
    "max_tool_calls": (int, "an integer"),
    "metadata": (dict, "an object"),
    "model": (str, "a string"),
    "parallel_tool_calls": (bool, "a boolean"),
    "previous_response_id": (str, "a string"),
    "reasoning": (dict, "an object"),
    "service_tier": (str, "a string"),
    "store": (bool, "a boolean"),
    "stream": (bool, "a boolean"),
    "temperature": ((int, float), "a number"),
    "text": (dict, "an object"),
    "tool_choice": ((str, dict), "a string or an object"),
    "tools": (list, "an array"),
    "top_p": ((int, float), "a number"),
    "truncation": (str, "a string"),
}


class ApiError(Exception):
    """An error answer of the API.

    `envelope()` gives `{"error": {"message", "type", "param", "code"}}`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        """Take the HTTP status and the envelope's fields; `kind` is its `type`."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code

    def envelope(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


class FieldError(ApiError):
    """The refusal of a create because of one of its fields, which `param` names."""


def check_create(body: object, find: Callable[[str], object]) -> dict[str, Any]:
    """Return the body of a create if the API would take it, else raise `ApiError`.

    `find` gives the response that `previous_response_id` names, or None.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    for key in body:
        if key not in KNOWN_PARAMETERS:
            raise _bad(f"Unknown parameter: '{key}'.", key, "unknown_parameter")
    for key, (shape, expected) in _SHAPES.items():
        _check_type(body.get(key), shape, expected, key)
    _check_presence(body)
    for check in _CHECKS:
        check(body)
    if body.get("model") == MISSING_MODEL:
        message = f"The requested model '{MISSING_MODEL}' does not exist."
        raise ApiError(404, message, param="model", code="model_not_found")
    previous = body.get("previous_response_id")
    if previous is not None and find(previous) is None:
        message = f"Previous response with id '{previous}' not found."
        raise _bad(message, "previous_response_id", "previous_response_not_found")
    return body


def check_batch(body: object, purpose_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Return the body of a batch's create if the API would take it, else raise `ApiError`.

    `purpose_of` gives the purpose of the file that `input_file_id` names, or None.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    for key in body:
        if key not in _BATCH_PARAMETERS:
            raise _bad(f"Unknown parameter: '{key}'.", key, "unknown_parameter")
    for key in ("input_file_id", "endpoint", "completion_window"):
        if body.get(key) is None:
            raise _bad(f"Missing required parameter: '{key}'.", key, "missing_required_parameter")
        _check_type(body[key], str, "a string", key)
    for key, only in (("endpoint", BATCH_ENDPOINT), ("completion_window", "24h")):
        if body[key] != only:
            message = f"Invalid value: '{body[key]}'. Value must be '{only}'."
            raise _bad(message, key, "invalid_value")
    _check_type(body.get("metadata"), dict, "an object", "metadata")
    _check_metadata(body)
    _check_type(body.get("output_expires_after"), dict, "an object", "output_expires_after")
    if (expires := body.get("output_expires_after")) is not None:
        check_expiry(expires.get("anchor"), expires.get("seconds"), "output_expires_after")
    file_id = body["input_file_id"]
    purpose = purpose_of(file_id)
    if purpose is None:
        raise _bad(f"File with id '{file_id}' not found.", "input_file_id", "file_not_found")
    if purpose != "batch":
        message = f"The purpose of file '{file_id}' must be 'batch', but it is '{purpose}'."
        raise _bad(message, "input_file_id", "invalid_file_purpose")
    return body


def check_expiry(anchor: object, seconds: object, param: str) -> int:
    """Return after how many seconds a file expires; raise `ApiError` for what the API refuses."""
    if anchor != "created_at":
        message = f"Invalid value: '{anchor}'. Value must be 'created_at'."
        raise _bad(message, f"{param}.anchor", "invalid_value")
    _check_type(seconds, int, "an integer", f"{param}.seconds", nullable=False)
    if not (isinstance(seconds, int) and 3600 <= seconds <= 2592000):
        message = f"Invalid '{param}.seconds': expected a value from 3600 to 2592000."
        raise _bad(message, f"{param}.seconds", "integer_out_of_range")
    return seconds


def not_found(response_id: str, status: int = 404) -> ApiError:
    """Return the error for a response that is unknown, or no longer kept."""
    return ApiError(status, f"Response with id '{response_id}' not found.")


def refused_key(key: str) -> ApiError:
    """Return the error for a key that the API does not know; the key itself is masked."""
    message = (
        f"Incorrect API key provided: {key[:7]}{'*' * 8}. "
        "You can find your API key at https://platform.openai.com/account/api-keys."
    )
    return ApiError(401, message, code="invalid_api_key")


def _check_presence(body: Mapping[str, Any]) -> None:
    if body.get("model") is None and body.get("prompt") is None:
        raise _bad("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    others = ("previous_response_id", "prompt", "conversation")
    if body.get("input") is None and all(body.get(key) is None for key in others):
        message = "Missing required parameter: 'input'."
        raise _bad(message, "input", "missing_required_parameter")


def _check_settings(body: Mapping[str, Any]) -> None:
    reasoning = body.get("reasoning") or {}
    text = body.get("text") or {}
    _check_choice(reasoning.get("effort"), _EFFORTS, "reasoning.effort")
    _check_choice(text.get("verbosity"), _VERBOSITIES, "text.verbosity")
    _check_choice(body.get("service_tier"), _TIERS, "service_tier")
    _check_choice(body.get("truncation"), _TRUNCATIONS, "truncation")
    for key, lowest, highest in (("temperature", 0, 2), ("top_p", 0, 1)):
        value = body.get(key)
        if value is not None and not lowest <= value <= highest:
            message = f"Invalid '{key}': expected a value from {lowest} to {highest}."
            raise _bad(message, key, "decimal_out_of_range")
    limit = body.get("max_output_tokens")
    if limit is not None and limit < 16:
        message = (
            "Invalid 'max_output_tokens': integer below minimum value. "
            f"Expected a value >= 16, but got {limit} instead."
        )
        raise _bad(message, "max_output_tokens", "integer_below_min_value")


def _check_window(body: Mapping[str, Any]) -> None:
    options = body.get("background_options")
    if options is None:
        return
    param = "background_options.completion_window"
    window = options.get("completion_window")
    _check_choice(window, _WINDOWS, param)
    if body.get("background") is not True:
        raise _bad("'background_options' requires 'background' to be true.", "background_options")
    if window not in (None, "soonest"):
        if body.get("stream"):
            raise _bad(f"Completion window '{window}' does not support streaming.", param)
        if body.get("service_tier") not in (None, "auto", "default"):
            raise _bad(f"Completion window '{window}' requires the default service tier.", param)


def _check_metadata(body: Mapping[str, Any]) -> None:
    metadata = body.get("metadata") or {}
    if len(metadata) > 16:
        message = (
            "Invalid 'metadata': too many properties. Expected an object with at most "
            f"16 properties, but got an object with {len(metadata)} properties instead."
        )
        raise _bad(message, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        param = f"metadata.{key}"
        if len(key) > 64:
            message = f"Invalid 'metadata': key '{key[:64]}' is longer than 64 characters."
            raise _bad(message, "metadata", "property_name_above_max_length")
        _check_type(value, str, "a string", param, nullable=False)
        if len(value) > 512:
            message = (
                f"Invalid '{param}': string too long. Expected a string with maximum length 512, "
                f"but got a string with length {len(value)} instead."
            )
            raise _bad(message, param, "string_above_max_length")


def _check_input(body: Mapping[str, Any]) -> None:
    given = body.get("input")
    for place, item in enumerate(given if isinstance(given, list) else []):
        where = f"input[{place}]"
        _check_type(item, dict, "an object", where, nullable=False)
        if item.get("type", "message") != "message":
            continue
        for key in ("role", "content"):
            if item.get(key) is None:
                param = f"{where}.{key}"
                message = f"Missing required parameter: '{param}'."
                raise _bad(message, param, "missing_required_parameter")
        _check_choice(item["role"], _ROLES, f"{where}.role")
        content = item["content"]
        _check_type(content, (str, list), "a string or an array", f"{where}.content")
        for index, part in enumerate(content if isinstance(content, list) else []):
            _check_part(part, f"{where}.content[{index}]")


def _check_part(part: object, where: str) -> None:
    if not isinstance(part, dict):
        _check_type(part, dict, "an object", where, nullable=False)
        return
    kind = part.get("type")
    needed = ("type", "text") if kind in ("input_text", "output_text") else ("type",)
    for key in needed:
        param = f"{where}.{key}"
        if part.get(key) is None:
            message = f"Missing required parameter: '{param}'."
            raise _bad(message, param, "missing_required_parameter")
        _check_type(part[key], str, "a string", param)
    _check_choice(kind, _PARTS, f"{where}.type")
    if len(part.get("text") or "") > _TEXT_MAX:
        message = (
            f"Invalid '{where}.text': string too long. Expected a string with maximum length "
            f"{_TEXT_MAX}, but got a string with length {len(part['text'])} instead."
        )
        raise _bad(message, f"{where}.text", "string_above_max_length")
    sources = _SOURCES.get(kind, ())
    for key in (*sources, "filename"):
        _check_type(part.get(key), str, "a string", f"{where}.{key}")
    if sources and all(part.get(key) is None for key in sources):
        param = f"{where}.{sources[0]}"
        raise _bad(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if kind == "input_image":
        _check_choice(part.get("detail"), _DETAILS, f"{where}.detail")
        _check_url(part.get("image_url"), f"{where}.image_url", "image/")
    elif kind == "input_file":
        _check_url(part.get("file_url"), f"{where}.file_url")
        _check_data(part.get("file_data"), f"{where}.file_data")


def _check_url(url: str | None, param: str, media: str = "") -> None:
    if url is None or url.startswith(("https://", "http://")):
        return
    if not (media and url.startswith("data:")):
        message = (
            f"Invalid '{param}'. Expected a valid URL, but got a value with an invalid format."
        )
        raise _bad(message, param, "invalid_value")
    _check_data(url, param, media)


def _check_data(url: str | None, param: str, media: str = "") -> None:
    """Refuse what is no data URL in Base64 of a media type that begins so."""
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
        raise _bad(message, param, "invalid_value")


def _check_format(body: Mapping[str, Any]) -> None:
    wanted = (body.get("text") or {}).get("format")
    if wanted is None:
        return
    _check_type(wanted, dict, "an object", "text.format")
    _check_choice(wanted.get("type", ""), _FORMATS, "text.format.type")
    if wanted["type"] != "json_schema":
        return
    for key, shape, expected in (("name", str, "a string"), ("schema", dict, "an object")):
        param = f"text.format.{key}"
        if wanted.get(key) is None:
            message = f"Missing required parameter: '{param}'."
            raise _bad(message, param, "missing_required_parameter")
        _check_type(wanted[key], shape, expected, param)
    try:
        sample(wanted["schema"])
    except ValueError as error:
        message = f"Invalid schema for response_format '{wanted['name']}': {error}"
        raise _bad(message, "text.format.schema", "invalid_json_schema") from None


def _check_tools(body: Mapping[str, Any]) -> None:
    for place, tool in enumerate(body.get("tools") or []):
        _check_type(tool, dict, "an object", f"tools[{place}]", nullable=False)
        needed = ("type", "name") if tool.get("type") == "function" else ("type",)
        for key in needed:
            if not isinstance(tool.get(key), str):
                param = f"tools[{place}].{key}"
                message = f"Missing required parameter: '{param}'."
                raise _bad(message, param, "missing_required_parameter")


_CHECKS: tuple[Callable[[Mapping[str, Any]], None], ...] = (
    _check_settings,
    _check_window,
    _check_metadata,
    _check_input,
    _check_format,
    _check_tools,
)


def _check_type(
    value: object, shape: _Type, expected: str, param: str, *, nullable: bool = True
) -> None:
    if value is None and nullable:
        return
    number_wanted = shape is not bool and isinstance(value, bool)
    if number_wanted or not isinstance(value, shape):
        message = (
            f"Invalid type for '{param}': expected {expected}, but got {_name(value)} instead."
        )
        raise _bad(message, param, "invalid_type")


def _check_choice(value: object, choices: tuple[str, ...], param: str) -> None:
    if value is not None and value not in choices:
        listed = ", ".join(f"'{choice}'" for choice in choices[:-1])
        message = f"Invalid value: '{value}'. Supported values are: {listed} and '{choices[-1]}'."
        raise _bad(message, param, "invalid_value")


def _name(value: object) -> str:
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), "something else")


def _bad(message: str, param: str, code: str | None = None) -> FieldError:
    return FieldError(400, message, param=param, code=code)
