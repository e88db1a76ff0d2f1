"""The help: its layout, and its examples and notes."""

from __future__ import annotations

from shutil import get_terminal_size
from textwrap import fill, indent
from typing import Any

from oaibg.contract.errors import ExitCode

WIDTHS = (20, 79)
"""The narrowest and the widest help. The last column stays free: some terminals wrap full lines."""

EXAMPLES = {
    "oaibg": ['oaibg submit --prompt "Name three rivers." --output-text-file answer.md'],
    "submit": [
        'oaibg submit --prompt "Name three rivers." --output-text-file answer.md',
        (
            "oaibg submit --job-key report-7 --prompt-file task.md --events changes \\\n"
            "    --output-text-file report.md --max-wait-seconds 540"
        ),
        "oaibg submit --jobs-file jobs.jsonl --results-file results.jsonl",
        "oaibg submit --prompt-file task.md --json-schema-file schema.json",
        'oaibg submit --continue resp_123 --prompt "Say it in one sentence."',
        "oaibg submit --prompt-file task.md --dry-run",
    ],
    "monitor": [
        "oaibg monitor resp_123",
        "oaibg monitor report-7 --output-text-file report.md",
        "oaibg monitor resp_123 resp_456 --max-wait-seconds 540 --events changes",
        "oaibg monitor batch_123 --results-file results.jsonl",
    ],
    "cancel": [
        "oaibg cancel resp_123",
        "oaibg cancel report-7",
        "oaibg cancel resp_123 resp_456",
    ],
    "show": [
        "oaibg show",
        "oaibg show --output-text > answer.md",
        "oaibg show report-7",
        "oaibg show resp_123 --output-json-file response.json",
        "oaibg show resp_123 --artifacts-dir images",
        "oaibg show --list --limit 10",
    ],
}
"""Examples by command, most common first. A test runs each as written."""

NOTES = {
    "oaibg": [
        "Set the environment variable OPENAI_API_KEY to your API key.",
        "oaibg COMMAND --help lists the command's options, examples and exit codes.",
    ],
    "submit": [
        "Give exactly one input: a prompt, messages, the whole `input`, or a jobs file.",
        "EFFORT is none, minimal, low, medium, high, xhigh, max, or omit (not sent).",
        "WINDOW is soonest (the API's default), 2h, 8h, or 24h (needs --jobs-file).",
        "With --jobs-file, --events defaults to summary.",
    ],
}
"""Notes below the options, by command."""

_ID_NOTES = [
    "KEY is the key of a job or a run. The path of its jobs file also names a run.",
    "Put an ID or key that begins with a hyphen after --.",
]

_TYPER = {
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Print completion for the current shell.",
    "--help": "Print this help.",
}
"""Typer's own options, with texts that fit on one line."""

_LEAST = 24
"""The narrowest text column; with less room, each text goes below its option."""


def help_text(ctx: Any) -> str:
    """Return the help of the program or command of a Typer context."""
    command = ctx.command
    width = max(WIDTHS[0], min(get_terminal_size().columns - 1, WIDTHS[1]))
    usage = " ".join(["Usage:", ctx.command_path, *command.collect_usage_pieces(ctx)])
    options = _options(ctx, width)
    lines = NOTES.get(command.name, _ID_NOTES)
    notes = "\n".join(fill(line, width, subsequent_indent="  ") for line in lines)
    examples = "Examples:\n" + indent("\n".join(EXAMPLES[command.name]), "  ")
    if ctx.parent is None:
        commands = [(name, one.help) for name, one in command.commands.items()]
        parts = [_table("Commands", commands, width), examples, *options, notes]
    else:
        codes = [(str(int(code)), code.meaning) for code in ExitCode]
        parts = [*options, notes, examples, _table("Exit codes", codes, width)]
    about = fill(command.help, width, initial_indent="  ", subsequent_indent="  ")
    parts = [fill(usage, width, subsequent_indent="    "), about, *parts]
    return "\n\n".join(parts) + "\n"


def _options(ctx: Any, width: int) -> list[str]:
    """Return the arguments and options in groups, in the order of their declaration."""
    groups: dict[str, list[tuple[str, str]]] = {}
    other = "Options" if ctx.parent is None else "Other"
    for param in ctx.command.get_params(ctx):
        left = param.make_metavar(ctx)
        if param.param_type_name == "option":
            left = param.opts[0] if param.is_flag else f"{param.opts[0]} {left}"
        text = _TYPER.get(param.opts[0], param.help)
        groups.setdefault(param.rich_help_panel or other, []).append((left, text))
    widest = max(len(left) for rows in groups.values() for left, _ in rows)
    return [_table(heading, rows, width, widest) for heading, rows in groups.items()]


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
