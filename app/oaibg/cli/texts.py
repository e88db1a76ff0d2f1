"""Recognizes a text in the place of another value, so that errors don't repeat prompts."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORDS = 4
"""The least number of words of a text, if nothing else shows that it is one."""
_SHOWN = 20
"""Maximum number of characters that an error repeats of a text."""


def is_text(value: str) -> bool:
    """Whether a value looks like a text, or like JSON, and not like a path or a name."""
    if "\n" in value.strip() or value.lstrip().startswith(("{", "[{", '["', "[ ")):
        return True
    too_long = len(os.path.basename(value).encode(errors="replace")) > 255  # noqa: PTH119
    return too_long or len(value.split()) >= _WORDS


def is_text_not_path(value: str) -> bool:
    """Whether a value that should be the path of a file looks like a text."""
    try:
        exists = os.path.lexists(value)
    except ValueError:  # a NUL
        return False
    if exists or not value.strip():
        return False
    has_suffix = re.search(r"\.\w{1,8}$", value) is not None
    return is_text(value) or (len(value.split()) > 1 and not has_suffix and "/" not in value)


def without_texts(message: str, argv: Iterable[str]) -> str:
    """Return the message with texts on the command line cut, so that no prompt is repeated."""
    for word in argv:
        value = word.partition("=")[2] if word.startswith("--") else word
        if len(value) <= _SHOWN or not is_text(value) or _is_path(value):
            continue
        for form in (value, repr(value)[1:-1], os.path.dirname(value) or value):  # noqa: PTH120
            message = message.replace(form, f"{value[:_SHOWN].split(chr(10))[0]}…")
    return message


def _is_path(value: str) -> bool:
    try:
        return os.path.lexists(value) or os.path.isdir(os.path.dirname(value) or "/dev/null")  # noqa: PTH112, PTH120
    except ValueError:
        return False
