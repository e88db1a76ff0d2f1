"""Recognizes a text in the place of another value, so that errors don't repeat prompts."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORDS = 4
"""Minimum number of words in a text, if nothing else shows that a value is one."""
_SHOWN = 20
"""Maximum number of characters of a text that an error repeats."""


def is_text(value: str) -> bool:
    """Whether a value looks like a text, or like JSON, and not like a path or a name."""
    return _is_clear(value) or len(value.split()) >= _WORDS


def is_text_not_path(value: str) -> bool:
    """Whether a value that should be the path of a file looks like a text."""
    try:
        exists = os.path.lexists(value)
    except ValueError:  # a NUL
        return False
    if exists or not value.strip():
        return False
    if is_like_path(value):
        return _is_clear(value)
    return is_text(value) or (len(value.split()) > 1 and "/" not in value)


def is_like_path(value: str) -> bool:
    """Whether a value has the form of a path: it begins like one, or ends with an extension."""
    begins_as_path = value.startswith(("/", "./", "../", "~"))
    return begins_as_path or re.search(r"\.[A-Za-z]\w{0,7}$", value) is not None


def _is_clear(value: str) -> bool:
    is_json = value.lstrip().startswith(("{", "[{", '["', "[ "))
    too_long = len(os.path.basename(value).encode(errors="replace")) > 255  # noqa: PTH119
    return is_json or too_long or "\n" in value.strip()


def without_texts(message: str, argv: Iterable[str]) -> str:
    """Return the message with texts on the command line cut, so that no prompt is repeated."""
    for word in argv:
        value = word.partition("=")[2] if word.startswith("--") else word
        if len(value) <= _SHOWN or not is_text(value) or _names_a_path(value):
            continue
        for form in (value, repr(value)[1:-1], os.path.dirname(value) or value):  # noqa: PTH120
            message = message.replace(form, f"{value[:_SHOWN].split(chr(10))[0]}…")
    return message


def _names_a_path(value: str) -> bool:
    try:
        exists = os.path.lexists(value) or os.path.isdir(os.path.dirname(value))  # noqa: PTH112, PTH120
    except ValueError:
        return False
    return exists or (is_like_path(value) and not _is_clear(value))
