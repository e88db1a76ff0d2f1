"""The options with paths: which files a command reads, and which it writes.

A file that is written must not be a file that is read, a file of the local state, another file
that is written, or the file behind stdin, stdout or stderr. Links are followed, and hard links
count as the same file.
"""

from __future__ import annotations

import os
import stat
import sys
from itertools import combinations
from typing import TYPE_CHECKING

from oaibg.base.file_names import folded
from oaibg.cli import environment
from oaibg.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oaibg.base.record import Record

INPUTS = (
    "attach",
    "body_json_file",
    "input_json_file",
    "jobs_file",
    "json_schema_file",
    "messages_json_file",
    "prompt_file",
    "tools_json_file",
)
"""The options whose files are read."""

OUTPUTS = ("results_file", "output_json_file", "output_text_file", "artifacts_dir")
"""The options whose files are written."""

_NO_TABLES = (
    *(".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers", ".parquet", ".feather", ".arrow"),
    *(".docx", ".pdf", ".zip", ".gz"),
)
"""Extensions of formats in which no results file is written."""

_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}


def check_paths(options: Record, attached: Iterable[str] = ()) -> None:
    """Raise `UsageError` if a command would overwrite a file that it must not.

    `attached` are the files that `--attach` has found.
    """
    outputs = list(_outputs(options))
    if not outputs:
        return
    inputs = list(_inputs(options, attached))
    for flag, path in outputs:
        _check_format(flag, path)
        for other, other_path in inputs:
            if is_same_file(path, other_path):
                raise UsageError(
                    f"{other} and {flag} can't name the same file.",
                    hint=f"The file is unchanged. Give {flag} another path.",
                )
        _check_place(flag, path)
    for (flag, path), (other, other_path) in combinations(outputs, 2):
        if is_same_file(path, other_path):
            raise UsageError(f"{flag} and {other} can't name the same file.")


def is_same_file(one: str, other: str | int) -> bool:
    """Whether two paths (or a path and a descriptor) are one file other than the null device."""
    if os.path.realpath(one) == os.devnull:
        return False
    try:
        return os.path.samestat(os.stat(one), os.stat(other))  # noqa: PTH116
    except OSError:
        return not isinstance(other, int) and _place(one) == _place(other)


def _place(path: str) -> str:
    """Return the absolute path of a file that may not exist yet; on macOS, case doesn't matter."""
    path = os.path.realpath(path)
    return folded(path) if sys.platform == "darwin" else path


def _inputs(options: Record, attached: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in INPUTS:
        value = options.values().get(name)
        if name == "attach":
            for path in attached:
                yield "--attach", os.path.expanduser(path)  # noqa: PTH111
        elif value is not None and value != "-":
            yield _flag(name), value


def _outputs(options: Record) -> Iterator[tuple[str, str]]:
    for name in OUTPUTS:
        path = options.values().get(name)
        if path is None:
            continue
        yield _flag(name), path
        if name == "results_file":
            from oaibg.many.results.results_table import lines_path

            if (lines := lines_path(path)) != path:
                yield f"{_flag(name)} ({lines})", lines


def _check_format(flag: str, path: str) -> None:
    """Raise `UsageError` for a results file that is named like one in a format we don't write."""
    extension = os.path.splitext(path)[1]  # noqa: PTH122
    if flag == "--results-file" and extension.lower() in _NO_TABLES:
        raise UsageError(
            f"{flag}: {path} can't be written as a file of type {extension}.",
            hint="A table ends in .csv or .tsv, which Excel opens; a file with any other name gets "
            "JSON Lines.",
        )


def _check_place(flag: str, path: str) -> None:
    """Raise `UsageError` if a path is a standard stream's file, or belongs to the local state."""
    for descriptor, stream in _STREAMS.items():
        if is_same_file(path, descriptor) and (descriptor < 2 or _is_regular(descriptor)):
            raise UsageError(f"{flag}: {path} is this command's {stream}; give another file.")

    from oaibg.state.own_files import is_own_file

    folder = environment.state_folder()
    if is_own_file(path, folder):
        raise UsageError(
            f"{flag}: {path} belongs to the local state in {folder}; give another path."
        )


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
