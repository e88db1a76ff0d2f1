"""Recognizes input in the format of chat completions, and rewrites it for the Responses API.

Each function returns its argument in Responses format; the argument itself, if nothing in it is
foreign. The shapes are those of `openai.types.chat` and `openai.types.responses`.
"""

from __future__ import annotations

import json
from typing import Any

from oaibg.base.json_text import objects, string, value_at

_SHOWN = 2000
"""Maximum length of JSON that an error shows in full."""
_LONG = 80
"""Strings of longer JSON are cut to this length."""

_CHAT_KEYS = (
    *("name", "refusal", "audio", "annotations", "function_call", "tool_calls", "tool_call_id"),
    *("reasoning_content", "reasoning"),
)
"""The keys of chat messages that messages of the Responses API don't have."""
_CHAT_FIELDS = (
    *("messages", "max_tokens", "max_completion_tokens", "reasoning_effort", "verbosity"),
    *("response_format", "functions", "function_call"),
)
"""The fields of chat requests that the Responses API has under another name."""
_CHAT_ONLY = (
    *("n", "stop", "seed", "logprobs", "logit_bias", "frequency_penalty", "presence_penalty"),
    *("modalities", "audio", "prediction", "web_search_options"),
)
"""The fields of chat requests that the Responses API lacks. Other servers may have them."""
_LINE_KEYS = ("custom_id", "method", "url", "body")


def shown(value: Any) -> str:
    """Return JSON for an error, to be copied; long strings of a long value are cut."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else json.dumps(_cut(value), ensure_ascii=False)[:_SHOWN]


def items_of(message: Any) -> list[Any]:
    """Return a chat message as input items: tool calls and results become items of their own."""
    if not isinstance(message, dict) or message.get("type", "message") != "message":
        return [_item(message)]
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function"):
        call_id = message.get("tool_call_id") or message.get("name") or "call_1"
        output = content if isinstance(content, str) else _joined(content)
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    calls = [_call(call) for call in objects(message.get("tool_calls"))]
    if isinstance(message.get("function_call"), dict):
        calls.append(_call({"function": message["function_call"]}))
    if not (calls or content is not None or isinstance(message.get("refusal"), str)):
        return [message]
    kept = {key: value for key, value in message.items() if key not in _CHAT_KEYS}
    if isinstance(content, list):
        kept["content"] = [part_of(part, role) for part in content]
    elif content is None and isinstance(message.get("refusal"), str):
        kept["content"] = [{"type": "refusal", "refusal": message["refusal"]}]
    return [*([] if calls and not kept.get("content") else [kept]), *calls]


def part_of(part: Any, role: object) -> Any:
    """Return a content part of a message with this role."""
    text = "output_text" if role == "assistant" else "input_text"
    if isinstance(part, str):
        return {"type": text, "text": part}
    if not isinstance(part, dict):
        return part
    kind, given = part.get("type"), part.get("image_url")
    is_text = kind in ("text", "input_text", "output_text") and kind != text
    if is_text and isinstance(part.get("text"), str):
        return {**part, "type": text}
    if kind in ("image_url", "input_image") and (kind == "image_url" or isinstance(given, dict)):
        image = given if isinstance(given, dict) else {"url": given}
        detail = image.get("detail", part.get("detail", "auto"))
        return {"type": "input_image", "image_url": image.get("url"), "detail": detail}
    if kind == "file" and isinstance(part.get("file"), dict):
        return {"type": "input_file", **part["file"]}
    return part


def tool_of(tool: Any) -> Any:
    """Return a tool; also those of Anthropic's Messages API and of MCP servers."""
    if not isinstance(tool, dict):
        return tool
    kind = tool.get("type")
    if kind in ("function", "custom") and isinstance(tool.get(kind), dict):
        return {"type": kind, **_not_strict(tool[kind], kind)}
    if kind not in (None, "custom") or not isinstance(tool.get("name"), str):
        return tool
    schema = tool.get("input_schema", tool.get("inputSchema", tool.get("parameters")))
    if not isinstance(schema, dict):
        return tool
    described = {key: tool[key] for key in ("name", "description") if key in tool}
    return {"type": "function", **_not_strict({**described, "parameters": schema})}


def format_of(value: Any) -> Any:
    """Return a chat `response_format`, which may be under that key, as a `text.format`."""
    inner = value_at(value, "response_format")
    given = inner if isinstance(inner, dict) else value
    schema = value_at(given, "json_schema")
    return {"type": "json_schema", **schema} if isinstance(schema, dict) else given


def body_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a request; without the fields that the Responses API lacks."""
    if foreign_field(body) is None:
        return body
    result: dict[str, Any] = {}
    for key, value in body.items():
        if key == "messages" and isinstance(value, list):
            result["input"] = [item for message in value for item in items_of(message)]
        elif key in ("max_tokens", "max_completion_tokens"):
            result["max_output_tokens"] = value
        elif key == "reasoning_effort":
            result["reasoning"] = {"effort": value}
        elif key == "verbosity":
            result.setdefault("text", {})["verbosity"] = value
        elif key == "response_format":
            result.setdefault("text", {})["format"] = format_of(value)
        elif key in ("functions", "tools") and isinstance(value, list):
            result["tools"] = [tool_of(tool) for tool in value]
        elif key in ("function_call", "tool_choice"):
            result["tool_choice"] = _choice(value)
        elif key not in _CHAT_ONLY:
            result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    return result


def foreign_field(body: dict[str, Any]) -> str | None:
    """Return the first field that belongs to a chat request; None if there is none."""
    renamed = (key for key in _CHAT_FIELDS if body.get(key) is not None)
    other = "tool_choice" if _choice(body.get("tool_choice")) != body.get("tool_choice") else None
    return next(renamed, other)


def line_of(line: Any) -> Any:
    """Return a line of a jobs file: fields of the request move into its body."""
    if not isinstance(line, dict):
        return line
    outer = {key: value for key, value in line.items() if key in _LINE_KEYS}
    fields = {key: value for key, value in line.items() if key not in _LINE_KEYS}
    if isinstance(line.get("body"), dict):
        body = body_of(line["body"])
        if body is line["body"] or fields:
            return line
    elif "messages" in fields or ("model" in fields and fields.keys() & {"input", "prompt"}):
        prompt = {"input": fields.pop("prompt")} if "prompt" in fields else {}
        body = body_of({**prompt, **fields})
    else:
        return line
    url = {"url": "/v1/responses"} if "url" in outer else {}
    return {**outer, **url, "body": body}


def _item(item: Any) -> Any:
    """Return an item whose arguments or output are JSON texts; in chat, they may be values."""
    kind = value_at(item, "type")
    key = {"function_call": "arguments", "function_call_output": "output"}.get(str(kind))
    if key is None or not isinstance(item.get(key), dict):
        return item
    return {**item, key: json.dumps(item[key], ensure_ascii=False)}


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    name, arguments = string(value_at(function, "name")), value_at(function, "arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    call_id = call.get("id") or name or "call_1"
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": text}


def _choice(choice: Any) -> Any:
    function = value_at(choice, "function")
    name = value_at(function if isinstance(function, dict) else choice, "name")
    is_foreign = isinstance(function, dict) or (isinstance(choice, dict) and "type" not in choice)
    return {"type": "function", "name": name} if is_foreign and name is not None else choice


def _not_strict(tool: dict[str, Any], kind: str = "function") -> dict[str, Any]:
    """Return a function with the default of chat for `strict`; Responses has another default."""
    return tool if kind != "function" or "strict" in tool else {**tool, "strict": False}


def _joined(content: Any) -> str:
    return "".join(str(part.get("text", "")) for part in objects(content))


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_cut(entry) for entry in value]
    return f"{value[:_LONG]}…" if isinstance(value, str) and len(value) > _LONG else value
