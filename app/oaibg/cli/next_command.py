"""The argv of `next`, spelt from the options of this run: here, and nowhere else."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from oaibg.engine.run_options import Output, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

    from oaibg.base.record import Record

_NEXT_BYTES = 1 << 20
"""What a command line takes on every system."""

_DROPPED_IN_RERUN = ("detach", "resubmit_unknown")
"""Options that a rerun drops: it has to wait, and does not repeat a decision."""


class NextCommand:
    """Builds the argv of `next`, which repeats the wait and output options of this run.

    `rerun` is the argv of this run once more, if that is how to go on with it.
    """

    def __init__(
        self, wait: Wait | None = None, output: Output | None = None, rerun: list[str] | None = None
    ) -> None:
        self._wait, self._output, self._rerun = wait or Wait(), output or Output(), rerun

    def monitor(
        self, response_ids: Sequence[str], starting_after: int | None = None
    ) -> list[str] | None:
        """The argv that follows these jobs; None if there are none, or it would be too long."""
        if not response_ids or sum(len(one) + 1 for one in response_ids) > _NEXT_BYTES:
            return None
        wait = self._wait.but(
            starting_after=starting_after,
            stream=self._wait.stream and not self._wait.stream_text,  # the text asks for it, too
        )
        return _command("monitor", [wait, self._output], response_ids)

    def show(self, response_id: str) -> list[str]:
        """The argv that shows a job."""
        return _command("show", [self._output.but(show_output_text=False)], [response_id])

    def rerun(self) -> list[str] | None:
        """The argv of this run once more; None if it can't be repeated."""
        return self._rerun


def rerun_of(context: typer.Context) -> list[str] | None:
    """The argv of the command that is running, with absolute paths and without `_DROPPED_IN_RERUN`.

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
    return [*program(), str(context.info_name), *ids, *words]


def program() -> list[str]:
    """How this program was started, so that `next` can be run as it stands."""
    started = sys.argv[0] if sys.argv else ""
    if os.path.basename(started) == "__main__.py":  # noqa: PTH119
        return [sys.executable, "-m", "oaibg"]
    if os.path.basename(started) == "oaibg" != started:  # noqa: PTH119
        from shutil import which

        path = os.path.abspath(started)  # noqa: PTH100
        return ["oaibg"] if which("oaibg") == path else [path]
    return ["oaibg"]


def _command(name: str, options: list[Record], response_ids: Sequence[str]) -> list[str]:
    """A command with the options that are not at their defaults, in the order of their records."""
    words = [*program(), name]
    for record in options:
        for field, value in record.values().items():
            if value != getattr(type(record), field):
                flag = f"--{field.replace('_', '-')}"
                words += [flag] if value is True else [flag, _word(value)]
    # An id may begin with a hyphen, and would be read as an option.
    guard = ["--"] if any(one.startswith("-") for one in response_ids) else []
    return [*words, *guard, *response_ids]


def _word(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
