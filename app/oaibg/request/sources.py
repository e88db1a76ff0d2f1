"""Reads the input of a request from a prompt, messages, or the whole `input` field.

Errors are `UsageError`s that name the file or option, the position, and the remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.base.record import Record
from oaibg.contract.errors import UsageError
from oaibg.request.fields import read_input, read_messages
from oaibg.request.json_files import name_of, read_text

if TYPE_CHECKING:
    from oaibg.request.attachments import Attachment


class Sources(Record):
    """The options for the input; exactly one of the first five is given."""

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


class Given(Record):
    """The input that was read: the request's `input` field, and the attachments in it."""

    input: str | list[Any]
    attachments: tuple[Attachment, ...] = ()


def read_sources(sources: Sources) -> Given:
    """Return the `input` of the request; empty for a jobs file, whose lines have their own."""
    choices = ("prompt", "prompt_file", "messages_json_file", "input_json_file", "jobs_file")
    given = [name for name in choices if getattr(sources, name) is not None]
    flags = [f"--{name.replace('_', '-')}" for name in given or choices]
    if len(given) != 1:
        found = "Give only one of" if given else "There is no input; give one of"
        raise UsageError(f"{found} {', '.join(flags[:-1])} and {flags[-1]}.")
    files = [getattr(sources, name) for name in choices[1:]] + list(sources.others)
    if files.count("-") > 1:
        raise UsageError("Only one option can read stdin (-); give the others a file's path.")
    if sources.prompt is not None or sources.prompt_file is not None:
        return _read_prompt_and_files(sources)
    if sources.system_prompt is not None or sources.developer_prompt is not None:
        raise UsageError(
            f"--system-prompt and --developer-prompt can't be combined with {flags[0]}; put these "
            "messages into that file."
        )
    if sources.attach:
        raise UsageError(
            f"--attach can't be combined with {flags[0]}; put the content parts into that file."
        )
    if sources.messages_json_file is not None:
        return Given(input=read_messages(sources.messages_json_file))
    path = sources.input_json_file
    return Given(input=[] if path is None else read_input(path))


def read_prompt(path: str) -> str:
    """Return the text of a prompt file (`-` is stdin)."""
    text = read_text(path)
    if not text.strip():
        raise UsageError(f"{name_of(path)}: the prompt is empty.")
    return text


def _read_prompt_and_files(sources: Sources) -> Given:
    if sources.prompt is not None and not sources.prompt.strip():
        raise UsageError("--prompt: the prompt is empty.")
    prompt = sources.prompt or read_prompt(str(sources.prompt_file))
    texts = {"system": sources.system_prompt, "developer": sources.developer_prompt, "user": prompt}
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "input_text", "text": text}]}
        for role, text in texts.items()
        if text is not None
    ]
    if not sources.attach:
        return Given(input=messages)

    from oaibg.request.attachments import read_attachments

    attachments = tuple(read_attachments(sources.attach))
    messages[-1]["content"] += [attachment.part for attachment in attachments]
    return Given(input=messages, attachments=attachments)
