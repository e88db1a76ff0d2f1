"""Checks and converts the values of single options."""

from __future__ import annotations

import math
import os
from typing import TypeVar

from typer import BadParameter, Context

from oaibg.cli import environment
from oaibg.cli.texts import is_text, is_text_not_path
from oaibg.contract.errors import UsageError
from oaibg.request.json_files import read_text

_SECONDS_MIN = 0.05
_SECONDS_MAX = 1_000_000_000
_NAME_MAX = 1024
_LABEL_MAX = 200
_NOT_A_NAME = "not a response ID or job key (1 to 1,024 printable characters)."
_T = TypeVar("_T")


def seconds(value: str | float) -> float:
    """Return a number of seconds, from 50 ms to 31 years."""
    return _seconds(value)


def wait_limit(value: str | float) -> float:
    """Return a number of seconds as `seconds` does; 0 is no limit."""
    return 0.0 if _number(value) == 0 else _seconds(value, ", or 0 for no limit")


def dollars(value: str | float) -> float:
    """Return a finite number of US dollars above 0."""
    number = _number(value)
    if not 0 < number < math.inf:
        raise BadParameter(f"{value!r} is not a positive number of US dollars.")
    return number


AUTO = "auto"
"""The value of options of runs over a jobs file that lets the run itself choose."""


def seconds_or_auto(value: str | float) -> float | str:
    """Return a number of seconds as `seconds` does, or `AUTO`."""
    return AUTO if value == AUTO else seconds(value)


def whole_number(value: str, least: int = 1, most: float = math.inf, or_else: str = "") -> int:
    """Return a whole number in a range."""
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        wanted = f"of {least} or more" if most == math.inf else f"from {least} to {most:,}"
        raise BadParameter(f"{value!r} is not a whole number {wanted}{or_else}.")
    return number


def jobs_at_once(value: str) -> int | str:
    """Return the number of jobs to run at once, or `AUTO`."""
    return AUTO if value == AUTO else whole_number(value, most=100_000, or_else=f", or {AUTO}")


def not_empty(value: str | None) -> str | None:
    """Return a text that is not blank."""
    if value is not None and not value.strip():
        raise BadParameter("the value is empty.")
    return value


def each_not_empty(values: list[str] | None) -> list[str] | None:
    """Return texts that are not blank."""
    return [str(not_empty(value)) for value in values or []] or None


def job_key(value: str | None) -> str | None:
    """Return a valid job key."""
    if value is not None and not (0 < len(value) <= 512 and value.isprintable()):
        raise BadParameter("a job key must have 1 to 512 printable characters.")
    return value


def label(value: str | None) -> str | None:
    """Return a valid label: one line that isn't blank."""
    text = not_empty(value)
    if text is not None and not (len(text) <= _LABEL_MAX and text.isprintable()):
        raise BadParameter(
            f"a label must be one line of at most {_LABEL_MAX} printable characters."
        )
    return text


def name(value: str | None) -> str | None:
    """Return a text that can be a response ID or a job key."""
    if value is not None and not _may_be_name(value):
        raise BadParameter(_NOT_A_NAME)
    return value


def _may_be_name(value: str) -> bool:
    return 0 < len(value) <= _NAME_MAX and value.isprintable()


class Names(list[_T]):
    """The IDs and keys on the command line, each once. Typer treats `Names[str]` as a list."""

    def __init__(self, names: list[_T], *, from_stdin: bool) -> None:
        super().__init__(dict.fromkeys(names))
        self.from_stdin = from_stdin
        self.are_several = len(self) > 1 or from_stdin
        """Whether this is a run over several jobs; with names from stdin it always is."""


def names(values: list[str] | None) -> Names[str]:
    """Return the IDs and keys; `-`, for those on stdin, stays until `read_names`."""
    found = [value if value == "-" else str(name(value)) for value in values or []]
    return Names(found, from_stdin="-" in found)


def read_names(names: Names[str], deadline: float = math.inf) -> None:
    """Put the names on stdin in the place of `-`; raises `UsageError`, or as `read_text`."""
    if names.from_stdin:
        at = names.index("-")
        names[:] = dict.fromkeys([*names[:at], *_names_on_stdin(deadline), *names[at + 1 :]])
        if not names:
            raise UsageError("stdin contains no IDs or keys.")


def _seconds(value: str | float, or_else: str = "") -> float:
    number = _number(value)
    if not _SECONDS_MIN <= number <= _SECONDS_MAX:
        hint = " `auto` is for jobs files: submit --jobs-file PATH." if value == AUTO else ""
        allowed = f"{_SECONDS_MIN} to {_SECONDS_MAX:,}{or_else}"
        raise BadParameter(f"{value!r} is not a number of seconds from {allowed}.{hint}")
    return number


def _number(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _names_on_stdin(deadline: float) -> list[str]:
    found: list[str] = []
    for number, line in enumerate(read_text("-", deadline).splitlines(), 1):
        found += line.split()
        if not all(map(_may_be_name, line.split())):
            raise UsageError(f"stdin, line {number}: {_NOT_A_NAME}")
    return found


def text_path(value: str | None) -> str | None:
    """Return the path of an input file, as given; refuses what looks like the input itself."""
    if value is not None and is_text_not_path(value):
        raise BadParameter(
            "there is no such file, and the value looks like the text itself. Save it to a file, "
            "and give the file's path. A prompt can be given with --prompt TEXT."
        )
    return value


def attached_paths(values: list[str] | None) -> list[str] | None:
    """Return the paths and patterns of --attach, as given."""
    for value in values or []:
        if is_text(value):
            text_path(value)
    return values


def input_path(value: str | None) -> str | None:
    """Return the path of a file that is read more than once, as given."""
    if value == "-":
        raise BadParameter("the file is read more than once; give a path instead of -.")
    text_path(value)
    try:
        if value:
            os.path.realpath(value)
    except ValueError as error:
        raise BadParameter(f"not a valid path ({error}).") from error
    except OSError as error:
        raise BadParameter(f"the working directory no longer exists ({error.strerror}).") from error
    return value


def output_path(value: str | None) -> str | None:
    """Return the absolute path of an output file; checks what can be checked before the run."""
    if value is None:
        return None
    if value in ("", "-"):
        raise BadParameter("give the path of a file; `oaibg show` prints a result to stdout.")
    path = _in_directory(value)
    if os.path.isdir(path):  # noqa: PTH112
        raise BadParameter(f"{path} is a directory.")
    return path


def output_folder(value: str | None) -> str | None:
    """Return the absolute path of a directory for output files; it need not exist yet."""
    if value is None:
        return None
    if value in ("", "-"):
        raise BadParameter("give the path of a directory.")
    path = _in_directory(value)
    if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112
        raise BadParameter(f"{path} is not a directory.")
    return path


def human(context: Context, value: bool) -> bool:
    """Return whether human mode is on, by --human or the environment.

    The text of `show --output-text` stays as it is.
    """
    if value or context.resilient_parsing or context.params.get("output_text"):
        return value
    return environment.human()


def _in_directory(value: str) -> str:
    """Return the absolute path of something to write; the directory that has it must exist."""
    try:
        path = os.path.abspath(value)  # noqa: PTH100
    except OSError as error:
        raise BadParameter(f"the working directory no longer exists ({error.strerror}).") from error
    folder = os.path.dirname(path)  # noqa: PTH120
    if not os.path.isdir(folder):  # noqa: PTH112
        raise BadParameter(
            f"the directory {folder} does not exist; create it, and run the command again."
        )
    return path
