"""The settings of a request, with the API's defaults, as a response echoes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def settings_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a response object that echoes the request."""

    def given(key: str, default: object = None) -> Any:
        value = request.get(key)
        return default if value is None else value

    tier = given("service_tier", "auto")
    return {
        "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"),
        "max_tool_calls": given("max_tool_calls"),
        "model": given("model", "gpt-5.2"),
        "parallel_tool_calls": given("parallel_tool_calls", True),
        "previous_response_id": given("previous_response_id"),
        "prompt_cache_key": given("prompt_cache_key"),
        "prompt_cache_retention": given("prompt_cache_retention"),
        "reasoning": {"effort": "medium", "summary": None, **given("reasoning", {})},
        "safety_identifier": given("safety_identifier"),
        "service_tier": "priority" if tier == "fast" else tier,
        "store": given("store", True),
        "temperature": given("temperature", 1.0),
        "text": {
            "verbosity": "medium",
            **given("text", {}),
            "format": _format(given("text", {}).get("format")),
        },
        "tool_choice": given("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in given("tools", [])],
        "top_logprobs": given("top_logprobs", 0),
        "top_p": given("top_p", 1.0),
        "truncation": given("truncation", "disabled"),
        "user": given("user"),
        **{key: request[key] for key in ("prompt", "image") if request.get(key) is not None},
    }


def _format(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {"type": "text"}
    if given.get("type") == "json_schema":
        return {"description": None, "strict": True, **given}
    return dict(given)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    return dict(tool)
