"""What the user hands in, text and JSON files, read and validated. No network, no SDK.

Everything wrong is a `UsageError` that names the file, the position and what to do.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from oaibg.errors import UsageError
from oaibg.nesting import DEPTH, is_deep
from oaibg.record import Record

if TYPE_CHECKING:
    from oaibg.attachments import Attachment

INPUT_BYTES_MAX = 256 << 20
"""What one input file may have; many times what the API takes."""

ROLES = ("system", "developer", "user", "assistant")

_EXAMPLE = '[{"role": "user", "content": "Hello"}]'


class Sources(Record):
    """Where the input comes from, as the options name it; exactly one of five is given."""

    prompt: str | None = None
    prompt_file: str | None = None
    messages_json_file: str | None = None
    input_json_file: str | None = None
    jobs_file: str | None = None
    system_prompt: str | None = None
    developer_prompt: str | None = None
    attach: tuple[str, ...] = ()
    """Paths and patterns of files that go with the prompt."""
    others: tuple[str | None, ...] = ()
    """The other files that are read: stdin can be only one of all."""


class Given(Record):
    """What was read: the request's `input`, and the files in it."""

    input: str | list[Any]
    attachments: tuple[Attachment, ...] = ()


def read_sources(sources: Sources) -> Given:
    """The `input` field of the request; of a jobs file nothing, as its lines have it."""
    choices = ("prompt", "prompt_file", "messages_json_file", "input_json_file", "jobs_file")
    given = [name for name in choices if getattr(sources, name) is not None]
    flags = [f"--{name.replace('_', '-')}" for name in given or choices]
    if len(given) != 1:
        listed = ", ".join(flags)
        found = f"Give only one of {listed}" if given else f"No input; give one of {listed}"
        raise UsageError(f"{found}.")
    files = [getattr(sources, name) for name in choices[1:]] + list(sources.others)
    if files.count("-") > 1:
        raise UsageError("stdin (-) can be read only once; name a file for the other options.")
    if sources.prompt is None and sources.prompt_file is None:
        if sources.system_prompt is not None or sources.developer_prompt is not None:
            raise UsageError(
                f"--system-prompt and --developer-prompt go with a prompt; with {flags[0]} they "
                "stand in the file."
            )
        if sources.attach:
            raise UsageError(
                f"--attach goes with a prompt; with {flags[0]} the parts stand in the file."
            )
        if sources.messages_json_file is not None:
            return Given(input=read_messages(sources.messages_json_file))
        path = sources.input_json_file
        return Given(input=read_input(path) if path is not None else [])
    if sources.prompt is not None and not sources.prompt.strip():
        raise UsageError("--prompt: the prompt is empty.")
    prompt = sources.prompt or read_prompt(str(sources.prompt_file))
    messages = prompt_messages(
        prompt, system=sources.system_prompt, developer=sources.developer_prompt
    )
    if not sources.attach:
        return Given(input=messages)

    from oaibg.attachments import read_attachments

    attachments = tuple(read_attachments(sources.attach))
    messages[-1]["content"] += [attachment.part for attachment in attachments]
    return Given(input=messages, attachments=attachments)


def prompt_messages(
    prompt: str, *, system: str | None = None, developer: str | None = None
) -> list[dict[str, Any]]:
    """Messages of one `input_text` part each: system, developer, user; absent ones left out."""
    texts = (("system", system), ("developer", developer), ("user", prompt))
    return [
        {"role": role, "content": [{"type": "input_text", "text": text}]}
        for role, text in texts
        if text is not None
    ]


def read_prompt(path: str) -> str:
    """The text of a prompt file, or of stdin for `-`."""
    text = _decoded(path)
    if not text.strip():
        raise UsageError(f"{_name(path)}: the prompt is empty.")
    return text


def read_messages(path: str) -> list[Any]:
    """The array of messages in a JSON file, as it stands."""
    value, name = read_json(path), _name(path)
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        raise UsageError(
            f"{name}: an object with a `messages` key; give the array itself, as {_EXAMPLE}."
        )
    if not isinstance(value, list):
        raise UsageError(
            f"{name}: expected an array of messages, as {_EXAMPLE}, found {kind_of(value)}."
        )
    if not value:
        raise UsageError(f"{name}: the array of messages is empty.")
    for index, message in enumerate(value):
        _check_message(message, f"{name}: message {index}")
    return value


def read_input(path: str) -> str | list[Any]:
    """The whole `input` field of a request: a string, or an array of any input items."""
    value, name = read_json(path), _name(path)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value:
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise UsageError(
                    f"{name}: item {index}: expected an object, found {kind_of(item)}."
                )
        return value
    raise UsageError(
        f"{name}: expected a text or an array of input items, found {kind_of(value)}"
        f"{'' if value else ', empty'}."
    )


def read_tools(path: str) -> list[Any]:
    """The `tools` array of a request."""
    value, name = read_json(path), _name(path)
    if not isinstance(value, list):
        example = '[{"type": "web_search"}]'
        raise UsageError(
            f"{name}: expected an array of tools, as {example}, found {kind_of(value)}."
        )
    for index, tool in enumerate(value):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise UsageError(f"{name}: tool {index}: expected an object with a `type`.")
    return value


def read_json_schema(path: str) -> dict[str, Any]:
    """The `text.format` of structured output, from a bare schema or `{name, schema, strict}`.

    A bare schema is named after its title and asked for strictly.
    """
    value, name = read_json(path), _name(path)
    if not isinstance(value, dict):
        raise UsageError(f"{name}: expected a JSON Schema, found {kind_of(value)}.")
    if isinstance(value.get("schema"), dict):
        if not isinstance(value.get("name"), str):
            raise UsageError(f'{name}: `schema` needs a `name` beside it, as "name": "answer".')
        return {"type": "json_schema", **value}
    title = value.get("title")
    words = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in str(title))
    return {
        "type": "json_schema",
        "name": words[:64] if isinstance(title, str) and words else "answer",
        "schema": value,
        "strict": True,
    }


def read_object(path: str) -> dict[str, Any]:
    """A JSON object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UsageError(f"{_name(path)}: expected an object, found {kind_of(value)}.")
    return value


def parse_metadata(pairs: list[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as the request's `metadata`, within the API's limits."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--metadata {pair!r}: expected KEY=VALUE.")
        if key in metadata:
            raise UsageError(f"--metadata {key!r}: given twice.")
        if len(key) > 64 or len(value) > 512:
            raise UsageError(
                f"--metadata {key[:80]!r}: a key may have 64 characters and a value 512."
            )
        metadata[key] = value
    if len(metadata) > 16:
        raise UsageError(f"--metadata: {len(metadata)} pairs, the API takes 16.")
    return metadata


def read_json(path: str) -> Any:
    """The JSON value of a file, or of stdin for `-`.

    Strict where silence would lose something: no NaN or Infinity, and no key twice in an object.
    """
    text, name = _decoded(path), _name(path)
    if not text.strip():
        raise UsageError(f"{name}: the file is empty.")
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}.") from error


def parse_json(text: str, *, one_line: bool = False) -> Any:
    """The JSON value of a text, as strictly as `read_json`.

    Args:
        text: the JSON.
        one_line: whether it is a line of a file, so that its own lines are not told.

    Raises:
        ValueError: its message says what is wrong, and where.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        row = "" if one_line else f"line {error.lineno}, "
        raise ValueError(f"{row}column {error.colno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if isinstance(value, list | dict) and is_deep(value):
        raise ValueError(f"nested too deeply; {DEPTH} levels are allowed")
    return value


def _check_message(message: object, where: str) -> None:
    if not isinstance(message, dict):
        raise UsageError(f"{where}: expected an object, found {kind_of(message)}.")
    kind = message.get("type", "message")
    if kind != "message":
        raise UsageError(
            f"{where}: type {kind!r} is no message; use --input-json-file for other input items."
        )
    role = message.get("role")
    if role not in ROLES:
        found = "no role" if role is None else f"role {role!r}"
        raise UsageError(f"{where}: {found}; expected one of {', '.join(ROLES)}.")
    content = message.get("content")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        found = "no content" if "content" not in message else f"content is {kind_of(content)}"
        raise UsageError(f"{where}: {found}; expected a text or an array of parts.")
    if not content:
        raise UsageError(f"{where}: content is an empty array.")
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise UsageError(
                f"{where}, content part {index}: expected an object, found {kind_of(part)}."
            )
        if not isinstance(part.get("type"), str):
            raise UsageError(
                f'{where}, content part {index}: no type; a text is {{"type": "input_text", '
                '"text": …}.'
            )


def _decoded(path: str) -> str:
    name = _name(path)
    try:
        if path == "-":
            if sys.stdin is None:
                raise UsageError("stdin is closed; there is nothing to read.")
            raw = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
        else:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib would only wrap it
                raw = file.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{name}: {os.strerror(error.errno or 0)}.") from error
    except ValueError as error:
        raise UsageError(f"{name!r}: no valid path ({error}).") from error
    if len(raw) > INPUT_BYTES_MAX:
        raise UsageError(f"{name}: larger than {INPUT_BYTES_MAX >> 20} MiB, the most that is read.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: byte {error.start}: not UTF-8 ({error.reason}).") from error


def _name(path: str) -> str:
    return "stdin" if path == "-" else path


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "an array", str: "a text", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found
