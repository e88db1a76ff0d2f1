"""Refuses a prompt that was probably meant as something else: a file, a response ID or a key."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from oaibg.api.payload import is_api_id
from oaibg.cli.texts import is_like_path
from oaibg.contract.errors import UsageError
from oaibg.request.sources import QUOTE_PATTERN

if TYPE_CHECKING:
    from oaibg.cli.options import SubmitOptions

_AS_IT_IS = "To send this word as it is, use --prompt."

_USES = {
    ".jsonl .csv .tsv": "To submit its jobs: `oaibg submit --jobs-file {path} --results-file …`.",
    ".json": "To send its messages: `oaibg submit --messages-json-file {path}`.",
    ".png .jpg .jpeg .webp .gif .pdf": "To attach it: `oaibg submit PROMPT --attach {path}`.",
}
"""What to do with files that don't contain a prompt, by the ends of their names."""

_USE = "To send its text: `oaibg submit --prompt-file {path}`."


def check_prompt(options: SubmitOptions) -> None:
    """Raise `UsageError` if the prompt names a file, or if the argument is not a prompt.

    A single word that looks like a path, or that names a job, is not a prompt: nobody wants to pay
    for the answer to it. --prompt accepts such a word.
    """
    argument = options.prompt_argument
    text = options.prompt if argument is None else argument
    if text is None:
        return
    if os.path.isfile(text):  # noqa: PTH113 - a prompt can be too long for a path
        raise _is_file(text, options)
    if argument is None or len(text.split()) != 1:
        return
    if os.path.isdir(text):  # noqa: PTH112
        hint = "To attach its files to a prompt, use --attach 'FOLDER/*'."
        raise UsageError(f"{text} is a directory, not a prompt.", hint=f"{hint} {_AS_IT_IS}")
    if is_like_path(text):
        hint = "There is no such file. To read a prompt from a file, use --prompt-file PATH."
        raise UsageError(f"{text} looks like a path, not a prompt.", hint=f"{hint} {_AS_IT_IS}")
    if options.job_key is None and (what := _kind_of_name(text, options)) is not None:
        hint = f"To follow it, run `oaibg monitor {shlex.quote(text)}`."
        raise UsageError(f"{text} is {what}, not a prompt.", hint=f"{hint} {_AS_IT_IS}")


def _is_file(text: str, options: SubmitOptions) -> UsageError:
    uses = {end: use for ends, use in _USES.items() for end in ends.split()}
    hint = uses.get(os.path.splitext(text)[1].lower(), _USE)  # noqa: PTH122
    if options.attach:
        hint = f"{QUOTE_PATTERN} For several files, repeat --attach."
    return UsageError(f"{text} is a file, not a prompt.", hint=hint.format(path=shlex.quote(text)))


def _kind_of_name(word: str, options: SubmitOptions) -> str | None:
    """Return what a word names in the local state, or by its form; None if it names nothing."""
    if is_api_id(word):
        return "a batch ID" if word.startswith("batch_") else "a response ID"
    if options.dry_run:  # it costs nothing, and doesn't need the local state
        return None

    from oaibg.cli.known_names import known

    return "the key or ID of a job" if word in known() else None
