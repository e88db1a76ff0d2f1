"""Reads the input of a request from a prompt, messages, or the whole `input` field.

Errors are `UsageError`s that name the file or option, the position, and the remedy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from oaibg.base.record import Record
from oaibg.contract.errors import UsageError
from oaibg.request.body import WITHOUT_INPUT
from oaibg.request.fields import read_input, read_messages
from oaibg.request.json_files import name_of, read_text

if TYPE_CHECKING:
    from oaibg.request.attachments import Attachment


class Sources(Record):
    """The options for the input; one of the first six is given, or the body has the input."""

    prompt_argument: str | None = None
    prompt: str | None = None
    prompt_file: str | None = None
    messages_json_file: str | None = None
    input_json_file: str | None = None
    jobs_file: str | None = None
    system_prompt: str | None = None
    developer_prompt: str | None = None
    attach: tuple[str, ...] = ()
    """Paths and patterns of the files to attach to the prompt."""
    others: tuple[str | None, ...] = ()
    """The other files that are read; only one of all files can be stdin."""
    deadline: float = math.inf
    """Until when a pipe is read, as of `time.monotonic()`."""


class Given(Record):
    """The input that was read: the request's `input` field, and the attachments in it."""

    input: str | list[Any] | None
    attachments: tuple[Attachment, ...] = ()
    left_out: tuple[str, ...] = ()
    """A sentence about each pattern of --attach that left out files."""


_CHOICES = {
    "prompt_argument": "PROMPT",
    "prompt": "--prompt",
    "prompt_file": "--prompt-file",
    "messages_json_file": "--messages-json-file",
    "input_json_file": "--input-json-file",
    "jobs_file": "--jobs-file",
}
"""The options for the input, by their names in `Sources`."""

_PROMPTS = ("PROMPT", "--prompt", "--prompt-file")

QUOTE_PATTERN = "Quote the pattern of --attach, so that the shell does not expand it."

_HOW_TO_BEGIN = (
    'Give a prompt in quotes: `oaibg submit "Name three rivers."`. `oaibg submit -` reads it from '
    "stdin, and --prompt-file PATH from a file. For other inputs, see `oaibg submit --help`."
)


def check_sources(sources: Sources) -> None:
    """Raise `UsageError` if more than one option gives the input, or reads stdin."""
    if len(given := _given(sources)) > 1:
        hint = QUOTE_PATTERN if sources.attach else "Put the whole prompt in quotes."
        raise UsageError(
            f"Give only one of {', '.join(given[:-1])} and {given[-1]}.",
            hint=hint if "PROMPT" in given else None,
        )
    files = [getattr(sources, name) for name in _CHOICES] + list(sources.others)
    if files.count("-") > 1:
        raise UsageError("Only one option can read stdin (-); give the others a file's path.")


def read_sources(sources: Sources, body: dict[str, Any] | None = None) -> Given:
    """Return the `input` of the request; None for a jobs file, whose lines have their own.

    `body` is that of --body-json-file, which can be a whole request.
    """
    given = _given(sources)
    if given and body is not None and body.get("input") is not None:
        raise UsageError(
            f"--body-json-file has an `input`, which would replace that of {given[0]}. Give only "
            "one of them."
        )
    if not given and not any((body or {}).get(key) for key in ("input", *WITHOUT_INPUT)):
        raise UsageError("There is no input.", hint=_HOW_TO_BEGIN)
    if given and given[0] in _PROMPTS:
        return _read_prompt_and_files(sources)
    flag = given[0] if given else "an input in --body-json-file"
    if sources.system_prompt is not None or sources.developer_prompt is not None:
        raise UsageError(
            f"--system-prompt and --developer-prompt can't be combined with {flag}; put these "
            "messages into that file."
        )
    if sources.attach:
        raise UsageError(
            f"--attach can't be combined with {flag}; put the content parts into that file."
        )
    if sources.messages_json_file is not None:
        return Given(input=read_messages(sources.messages_json_file, sources.deadline))
    path = sources.input_json_file
    return Given(input=None if path is None else read_input(path, sources.deadline))


def read_prompt(path: str, deadline: float = math.inf) -> str:
    """Return the text of a prompt file (`-` is stdin)."""
    text = read_text(path, deadline)
    if not text.strip():
        raise UsageError(f"{name_of(path)}: the prompt is empty.")
    return text


def _given(sources: Sources) -> list[str]:
    return [flag for name, flag in _CHOICES.items() if getattr(sources, name) is not None]


def _read_prompt_and_files(sources: Sources) -> Given:
    text = sources.prompt if sources.prompt_argument is None else sources.prompt_argument
    if text is not None and not text.strip():
        raise UsageError("The prompt is empty.")
    path = "-" if text == "-" else sources.prompt_file
    prompt = str(text) if path is None else read_prompt(path, sources.deadline)
    texts = {"system": sources.system_prompt, "developer": sources.developer_prompt, "user": prompt}
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "input_text", "text": text}]}
        for role, text in texts.items()
        if text is not None
    ]
    if not sources.attach:
        return Given(input=messages)

    from oaibg.request.attachments import read_attachments

    found = read_attachments(sources.attach)
    messages[-1]["content"] += [attachment.part for attachment in found.attachments]
    return Given(input=messages, attachments=found.attachments, left_out=found.left_out)
