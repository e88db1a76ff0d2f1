"""The layout of the help. What users need first fits on the first screen; the rest follows."""

from __future__ import annotations

import textwrap
from functools import partial
from shutil import get_terminal_size
from typing import Any

from oaibg.cli import help_texts as texts
from oaibg.contract.errors import ExitCode

fill = partial(textwrap.fill, break_on_hyphens=False)  # no option is broken

WIDTHS = (20, 79)
"""The narrowest and the widest help. The last column stays free: some terminals wrap full lines."""

_LEAST = 24
"""The narrowest text column; with less room, each text goes below its option."""


def help_text(ctx: Any) -> str:
    """Return the help of the program or command of a Typer context."""
    command = ctx.command
    name = command.name
    width = max(WIDTHS[0], min(get_terminal_size().columns - 1, WIDTHS[1]))
    about = fill(command.help, width, initial_indent="  ", subsequent_indent="  ")
    examples = _examples("Examples", texts.EXAMPLES[name])
    groups = _groups(ctx)
    rows = [row for group in groups.values() for row in group]
    widest = max(len(left) for left, _ in rows)
    options = [_table(heading, group, width, widest) for heading, group in groups.items()]
    notes = "\n".join(fill(line, width, subsequent_indent="  ") for line in texts.NOTES[name])
    if ctx.parent is None:
        commands = [(name, one.help) for name, one in command.commands.items()]
        parts = [_table("Commands", commands, width), examples, *options, notes]
    else:
        first = {row[0].partition(" ")[0]: row for row in rows}
        common = [first[one] for one in texts.COMMON[name]]
        parts = [
            examples,
            _table("Common options", common, width, widest),
            _table("Exit codes", exit_codes(name), width),
            *options,
            _examples("More examples", texts.MORE_EXAMPLES.get(name, [])),
            notes,
        ]
    return "\n\n".join([_usage(name, width), about, *filter(None, parts)]) + "\n"


def exit_codes(command: str) -> list[tuple[str, str]]:
    """Return the exit codes that a command can have, and what they mean for it."""
    meanings, never = texts.MEANINGS[command], texts.NEVER.get(command, ())
    codes = [code for code in ExitCode if code not in never]
    return [(str(int(code)), meanings.get(code, code.meaning)) for code in codes]


def _usage(name: str, width: int) -> str:
    first, *others = texts.USAGE[name]
    lines = [f"Usage: {first}", *(f"       {other}" for other in others)]
    return "\n".join(fill(line, width, subsequent_indent=" " * 11) for line in lines)


def _examples(heading: str, examples: list[str]) -> str:
    return f"{heading}:\n" + textwrap.indent("\n".join(examples), "  ") if examples else ""


def _groups(ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the arguments and options in groups, in the order of their declaration."""
    groups: dict[str, list[tuple[str, str]]] = {}
    other = "Options" if ctx.parent is None else "Other"
    for param in ctx.command.get_params(ctx):
        left, text = param.make_metavar(ctx), param.help
        if param.name == "help":
            left, text = "--help, -h", "Print this help."
        elif param.param_type_name == "option":
            left = param.opts[0] if param.is_flag else f"{param.opts[0]} {left}"
        groups.setdefault(param.rich_help_panel or other, []).append((left, text))
    return groups


def _table(heading: str, rows: list[tuple[str, str]], width: int, widest: int = 0) -> str:
    # In a narrow terminal Typer's write_dl would put a text next to a short exit code.
    column = 4 + (widest or max(len(left) for left, _ in rows))
    lines = [f"{heading}:"]
    for left, text in rows:
        head = f"  {left}".ljust(column)
        if width - column < _LEAST:
            lines.append(f"  {left}")
            head = " " * 6
        lines.append(fill(text, width, initial_indent=head, subsequent_indent=" " * len(head)))
    return "\n".join(lines)
