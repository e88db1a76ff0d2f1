"""Builds the argv of `next` from the options of this run."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from oaibg.base.text import has_surrogates
from oaibg.cli import environment
from oaibg.engine.run_options import Output, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

    from oaibg.base.record import Record

_NEXT_BYTES = 1 << 20
"""Maximum size of the IDs in bytes; every system accepts command lines of this length."""

_DROPPED_IN_RERUN = ("detach", "resubmit_unknown", "retry_failed")
"""Options that a rerun drops: it must wait, and must not repeat the user's decision."""


class NextCommand:
    """Builds the argv of `next`, which repeats the wait and output options of this run.

    `rerun` is the argv that repeats this run, if a rerun continues it.
    """

    def __init__(
        self, wait: Wait | None = None, output: Output | None = None, rerun: list[str] | None = None
    ) -> None:
        self._wait, self._output, self._rerun = wait or Wait(), output or Output(), rerun

    def monitor(
        self, response_ids: Sequence[str], starting_after: int | None = None, folder: str = ""
    ) -> list[str] | None:
        """Return the argv that follows these jobs; None if there are none, or it is too long.

        `folder` is as for `show`.
        """
        if not response_ids or sum(len(one) + 1 for one in response_ids) > _NEXT_BYTES:
            return None
        wait = self._wait.but(
            starting_after=starting_after,
            stream=self._wait.stream and not self._wait.stream_text,  # which implies --stream
        )
        return _command("monitor", [wait, self._output_in(folder)], response_ids)

    def cancel(self, names: Sequence[str]) -> list[str] | None:
        """Return the argv that cancels these jobs, or the jobs of a run; None as for `monitor`."""
        if not names or sum(len(one) + 1 for one in names) > _NEXT_BYTES:
            return None
        return _command("cancel", [], names)

    def show(self, response_id: str, folder: str = "") -> list[str]:
        """Return the argv that shows a job; `folder` is its folder in `artifacts_dir`."""
        output = self._output_in(folder).but(show_output_text=False)
        return _command("show", [output], [response_id])

    def rerun(self) -> list[str] | None:
        """Return the argv that repeats this run; None if it can't be repeated."""
        return self._rerun

    def _output_in(self, folder: str) -> Output:
        directory = self._output.artifacts_dir
        if directory is None or not folder:
            return self._output
        return self._output.but(artifacts_dir=os.path.join(directory, folder))  # noqa: PTH118


def rerun_of(context: typer.Context) -> list[str] | None:
    """Return the argv of this command, with absolute paths and without `_DROPPED_IN_RERUN`.

    It is None if it would contain a prompt, or would read stdin again.
    """
    params = {param.name: param for param in context.command.params}
    ids: list[str] = []
    words: list[str] = []
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in _DROPPED_IN_RERUN:
            continue
        param: Any = params[name]
        if name == "instructions" or (value == "-" and param.metavar == "PATH"):
            return None
        if param.param_type_name == "argument":
            ids += value
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            word = os.path.abspath(one) if param.metavar == "PATH" else _word(one)  # noqa: PTH100
            words += [param.opts[0]] if one is True else [param.opts[0], word]
    return _runnable([*program(), str(context.info_name), *ids, *words])


def program() -> list[str]:
    """Return the words that start this program, so that `next` runs unchanged in a shell."""
    started = sys.argv[0] if sys.argv else ""
    if os.path.basename(started) == "__main__.py":  # noqa: PTH119
        return [sys.executable, "-m", "oaibg"]
    # A symbolic link to the program may have another name.
    if "/" in started and os.path.basename(os.path.realpath(started)) == "oaibg":  # noqa: PTH119
        from shutil import which

        path = os.path.abspath(started)  # noqa: PTH100
        return ["oaibg"] if which("oaibg") == path else [path]
    return ["oaibg"]


def _command(name: str, options: list[Record], response_ids: Sequence[str]) -> list[str]:
    """Return a command with its non-default options, in the order of their records."""
    words = [*program(), name]
    for record in options:
        for field, value in record.values().items():
            is_default = value == getattr(type(record), field)
            if is_default or (field == "human" and environment.human()):
                continue
            flag = f"--{field.replace('_', '-')}"
            for one in value if isinstance(value, tuple) else [value]:
                words += [flag] if one is True else [flag, _word(one)]
    # An ID can begin with a hyphen, and would be parsed as an option.
    guard = ["--"] if any(one.startswith("-") for one in response_ids) else []
    return _runnable([*words, *guard, *response_ids])


def _runnable(argv: list[str]) -> list[str]:
    """Return an argv that stays the same in JSON: a shell writes the bytes that are not UTF-8."""
    words = [_shell_word(word) if has_surrogates(word) else None for word in argv]
    if not any(words):
        return argv
    quoted = [word or shlex.quote(plain) for word, plain in zip(words, argv, strict=True)]
    return ["sh", "-c", f"exec {' '.join(quoted)}"]


def _shell_word(word: str) -> str:
    octal = "".join(f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"\"$(printf '{octal}')\""


def _word(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
