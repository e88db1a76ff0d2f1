"""Checks the create of a response."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.checks.include import check_include
from oaibg.sandbox.checks.input import check_input
from oaibg.sandbox.checks.tool_outputs import check_tool_outputs
from oaibg.sandbox.checks.values import check_choice, check_metadata, check_object, check_type
from oaibg.sandbox.errors import ApiError, FieldError, missing_parameter
from oaibg.sandbox.job.outcomes import output_at
from oaibg.sandbox.schema_sample import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oaibg.sandbox.job.job import Job

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

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_VERBOSITIES = ("low", "medium", "high")
_WINDOWS = ("soonest", "2h", "8h")
_FORMATS = ("text", "json_object", "json_schema")
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
_TRUNCATIONS = ("auto", "disabled")

_TOOL_KEYS: dict[object, tuple[str, ...]] = {
    "function": ("name",),
    "custom": ("name",),
    "mcp": ("server_label",),
}

_TYPES: dict[str, tuple[type, ...]] = {
    "background": (bool,),
    "background_options": (dict,),
    "input": (str, list),
    "instructions": (str,),
    "max_output_tokens": (int,),
    "max_tool_calls": (int,),
    "metadata": (dict,),
    "model": (str,),
    "parallel_tool_calls": (bool,),
    "previous_response_id": (str,),
    "reasoning": (dict,),
    "service_tier": (str,),
    "store": (bool,),
    "stream": (bool,),
    "temperature": (int, float),
    "text": (dict,),
    "tool_choice": (str, dict),
    "tools": (list,),
    "top_p": (int, float),
    "truncation": (str,),
}


def check_create(given: object, find: Callable[[str], Job | None]) -> dict[str, Any]:
    """Return the body of a create if it is valid, else raise `ApiError`.

    `find` returns a job by its ID, or None, to check `previous_response_id`.
    """
    body = check_object(given, KNOWN_PARAMETERS)
    for key, types in _TYPES.items():
        check_type(body.get(key), key, *types)
    _check_presence(body)
    _check_settings(body)
    _check_window(body)
    check_metadata(body.get("metadata"))
    check_input(body)
    check_include(body.get("include"))
    _check_format(body)
    _check_tools(body)
    if body.get("model") == MISSING_MODEL:
        message = f"The requested model '{MISSING_MODEL}' does not exist."
        raise ApiError(404, message, param="model", code="model_not_found")
    _check_loop(body, find)
    return body


def _check_loop(body: Mapping[str, Any], find: Callable[[str], Job | None]) -> None:
    """Check the previous response, and that its open calls are answered."""
    previous_id = body.get("previous_response_id")
    previous = None if previous_id is None else find(previous_id)
    if previous_id is not None and previous is None:
        message = f"Previous response with id '{previous_id}' not found."
        raise FieldError(message, "previous_response_id", "previous_response_not_found")
    check_tool_outputs(body, output_at(previous, time.time()) if previous else [])


def _check_presence(body: Mapping[str, Any]) -> None:
    if body.get("model") is None and body.get("prompt") is None:
        raise missing_parameter("model")
    others = ("previous_response_id", "prompt", "conversation")
    if body.get("input") in (None, "", []) and all(body.get(key) is None for key in others):
        raise missing_parameter("input")


def _check_settings(body: Mapping[str, Any]) -> None:
    reasoning = body.get("reasoning") or {}
    text = body.get("text") or {}
    check_choice(reasoning.get("effort"), _EFFORTS, "reasoning.effort")
    check_choice(text.get("verbosity"), _VERBOSITIES, "text.verbosity")
    check_choice(body.get("service_tier"), _TIERS, "service_tier")
    check_choice(body.get("truncation"), _TRUNCATIONS, "truncation")
    for key, lowest, highest in (("temperature", 0, 2), ("top_p", 0, 1)):
        value = body.get(key)
        if value is not None and not lowest <= value <= highest:
            message = f"Invalid '{key}': expected a value from {lowest} to {highest}."
            raise FieldError(message, key, "decimal_out_of_range")
    limit = body.get("max_output_tokens")
    if limit is not None and limit < 16:
        message = (
            "Invalid 'max_output_tokens': integer below minimum value. "
            f"Expected a value >= 16, but got {limit} instead."
        )
        raise FieldError(message, "max_output_tokens", "integer_below_min_value")


def _check_window(body: Mapping[str, Any]) -> None:
    options = body.get("background_options")
    if options is None:
        return
    param = "background_options.completion_window"
    window = options.get("completion_window")
    check_choice(window, _WINDOWS, param)
    if body.get("background") is not True:
        message = "'background_options' requires 'background' to be true."
        raise FieldError(message, "background_options")
    if window not in (None, "soonest"):
        if body.get("stream"):
            raise FieldError(f"Completion window '{window}' does not support streaming.", param)
        if body.get("service_tier") not in (None, "auto", "default"):
            message = f"Completion window '{window}' requires the default service tier."
            raise FieldError(message, param)


def _check_format(body: Mapping[str, Any]) -> None:
    wanted = (body.get("text") or {}).get("format")
    if wanted is None:
        return
    check_type(wanted, "text.format", dict)
    check_choice(wanted.get("type", ""), _FORMATS, "text.format.type")
    if wanted["type"] != "json_schema":
        return
    if "json_schema" in wanted:
        param = "text.format.json_schema"
        raise FieldError(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    for key, shape in (("name", str), ("schema", dict)):
        if wanted.get(key) is None:
            raise missing_parameter(f"text.format.{key}")
        check_type(wanted[key], f"text.format.{key}", shape)
    try:
        sample(wanted["schema"])
    except ValueError as error:
        message = f"Invalid schema for response_format '{wanted['name']}': {error}"
        raise FieldError(message, "text.format.schema", "invalid_json_schema") from None


def _check_tools(body: Mapping[str, Any]) -> None:
    for place, tool in enumerate(body.get("tools") or []):
        check_type(tool, f"tools[{place}]", dict, nullable=False)
        needed = ("type", *_TOOL_KEYS.get(tool.get("type"), ()))
        for key in needed:
            if not isinstance(tool.get(key), str):
                raise missing_parameter(f"tools[{place}].{key}")
        if tool["type"] == "function":
            _check_parameters(tool, f"tools[{place}].parameters")


def _check_parameters(tool: Mapping[str, Any], where: str) -> None:
    check_type(tool.get("parameters"), where, dict)
    try:
        sample(tool.get("parameters"))
    except ValueError as error:
        message = f"Invalid schema for function '{tool['name']}': {error}"
        raise FieldError(message, where, "invalid_function_parameters") from None
