"""Finds the files of a path or pattern, without ignored files and links that lead outside."""

from __future__ import annotations

import os
import re
from glob import glob, has_magic

from oaibg.base.record import Record
from oaibg.request.ignored import Ignored


class Found(Record):
    """The files of a path or pattern: the name for messages, and the path, of each."""

    files: list[tuple[str, str]]
    ignored: dict[str, int] = {}  # noqa: RUF012 - records are frozen
    """What was left out because it is ignored, and the number of its files."""
    outside: list[str] = []  # noqa: RUF012
    """Links that were left out because they lead outside."""


def find_files(pattern: str) -> Found:
    """Return the files of a path, or those that match a pattern; see `read_attachments`.

    Raises `ValueError` for an invalid path.
    """
    path = pattern if os.path.lexists(pattern) else os.path.expanduser(pattern)  # noqa: PTH111
    if os.path.lexists(path) or not has_magic(path):
        return Found(files=[(pattern, path)])
    path = _with_literal_brackets(path)
    base = _base_of(path)
    within = {os.path.realpath(base), os.path.realpath(os.curdir)}
    ignoring = Ignored(base)
    files: list[tuple[str, str]] = []
    ignored: dict[str, int] = {}
    outside: list[str] = []
    for match in sorted(glob(path, recursive=True)):  # noqa: PTH207
        if os.path.isdir(match):  # noqa: PTH112
            continue
        if (place := ignoring.place_of(match)) is not None:
            ignored[place] = ignored.get(place, 0) + 1
        elif _is_outside(match, within):
            outside.append(match)
        else:
            files.append((match, match))
    return Found(files=files, ignored=ignored, outside=outside)


def _with_literal_brackets(pattern: str) -> str:
    """Return a pattern in which brackets are literal if files or directories have such names.

    Many web frameworks name directories like `[id]`.
    """
    done = ""
    for part in re.split(r"(/+)", pattern):
        literal = re.sub(r"\[", "[[]", part)
        done += literal if literal != part and glob(done + literal, recursive=True) else part  # noqa: PTH207
    return done


def _base_of(pattern: str) -> str:
    """Return the directory that a pattern names before its first wildcard."""
    parts = pattern.split("/")
    at = next(number for number, part in enumerate(parts) if has_magic(part.replace("[[]", "")))
    return "/".join(parts[:at]).replace("[[]", "[") or ("/" if pattern.startswith("/") else ".")


def _is_outside(path: str, within: set[str]) -> bool:
    real = os.path.realpath(path)
    return not any(os.path.commonpath([real, folder]) == folder for folder in within)
