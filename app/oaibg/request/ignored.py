"""Which files a pattern leaves out: those that `.gitignore` ignores, and installed packages.

The rules are those of `gitignore(5)`, for the `.gitignore` files of a repository or a directory.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import NamedTuple

_FOLDERS = ("node_modules", "__pycache__")
_VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
"""A file that each virtual environment of Python has."""


class Ignored:
    """What is ignored below the directory `base`; not `base` itself, which the user has named."""

    def __init__(self, base: str) -> None:
        self._base = os.path.abspath(base)  # noqa: PTH100
        self._root = _repository(self._base) or self._base
        self._is_ignored = cache(self._judge)

    def place_of(self, path: str) -> str | None:
        """Return the ignored directory that has this file, or the file if it is ignored, or None.

        The place is relative to the working directory.
        """
        here = os.path.abspath(path)  # noqa: PTH100
        parts = os.path.relpath(here, self._base).split(os.sep)  # noqa: PTH206
        if parts[0] == os.pardir:
            return None
        for number in range(1, len(parts) + 1):
            place = os.path.join(self._base, *parts[:number])  # noqa: PTH118
            if self._is_ignored(place, number < len(parts)):
                return os.path.relpath(place) + ("/" if number < len(parts) else "")
        return None

    def _judge(self, path: str, is_folder: bool) -> bool:
        folder, name = os.path.split(path)
        marker = os.path.join(path, _VIRTUAL_ENVIRONMENT)  # noqa: PTH118
        if is_folder and (name in _FOLDERS or os.path.isfile(marker)):  # noqa: PTH113
            return True
        inside = os.path.relpath(folder, self._root).split(os.sep)  # noqa: PTH206
        folders = [self._root]
        for part in [] if inside == [os.curdir] else inside:
            folders.append(os.path.join(folders[-1], part))  # noqa: PTH118
        ignored = False
        for one in folders:
            relative = os.path.relpath(path, one).replace(os.sep, "/")
            for rule in _rules(os.path.join(one, ".gitignore")):  # noqa: PTH118
                if (is_folder or not rule.for_folders) and rule.regex.fullmatch(relative):
                    ignored = not rule.negated
        return ignored


class _Rule(NamedTuple):
    regex: re.Pattern[str]
    negated: bool
    for_folders: bool


@cache
def _rules(path: str) -> list[_Rule]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return []
    return [rule for line in lines if (rule := _rule(line)) is not None]


def _rule(line: str) -> _Rule | None:
    """Return the rule of a line; None for a comment, a blank line, or an invalid pattern."""
    line = re.sub(r"(?<!\\) +$", "", line)
    if not line or line.startswith("#"):
        return None
    negated, pattern = line.startswith("!"), line.removeprefix("!")
    for_folders, pattern = pattern.endswith("/"), pattern.rstrip("/")
    start = "" if "/" in pattern else "(?:.*/)?"
    try:
        regex = re.compile(start + _regex(pattern.removeprefix("/")), re.DOTALL)
    except re.error:
        return None
    return _Rule(regex, negated, for_folders)


_PIECE = re.compile(
    r"(?P<anywhere>(?:^|(?<=/))\*\*/)|(?P<below>(?<=/)\*\*$)|(?P<many>\*+)|(?P<one>\?)"
    r"|\[(?P<no>[!^]?)(?P<set>\]?[^\]]*)\]|\\(?P<escaped>.)|(?P<plain>.)",
    re.DOTALL,
)
_REGEXES = {"anywhere": "(?:.*/)?", "below": ".+", "many": "[^/]*", "one": "[^/]"}


def _regex(pattern: str) -> str:
    pieces = []
    for found in _PIECE.finditer(pattern):
        kind = str(found.lastgroup)
        if kind == "set":
            inside = re.sub(r"[\\\[]", r"\\\g<0>", found["set"].replace("]", r"\]"))
            pieces.append(f"(?!/)[{'^' if found['no'] else ''}{inside}]")
        else:
            pieces.append(_REGEXES.get(kind) or re.escape(found[kind]))
    return "".join(pieces)


def _repository(folder: str) -> str | None:
    """Return the directory of the repository that has a directory; None if there is none."""
    while not os.path.lexists(os.path.join(folder, ".git")):  # noqa: PTH118
        folder, name = os.path.split(folder)
        if not name:
            return None
    return folder
