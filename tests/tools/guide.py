"""Write the generated blocks of the README, the guide and the skill: their tables, from the code.

`make guide` writes them. With `--check`, nothing is written, and the exit code is 1 if a page is
stale. The performance page's tables come from `make bench`, so this leaves them alone.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import getdoc
from typing import TYPE_CHECKING, Any

import typer.main

from blocks import replace_block
from fault_table import ROWS
from oaibg.cli.app import app
from oaibg.cli.environment import VARIABLES
from oaibg.contract import codes
from oaibg.contract.errors import ExitCode
from oaibg.contract.events import EVENTS
from oaibg.sandbox.faults import KINDS, OPERATIONS
from oaibg.sandbox.job.metadata import ENTRIES, OUTCOMES
from oaibg.sandbox.personality import PERSONALITIES
from places import APP, GUIDE, README, ROOT, SKILL
from short_lines import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

BLOCK = re.compile(r"<!-- generated: (.+) -->")
MEASURED = ("performance start", "performance files", "performance many")
"""The blocks that `make bench` writes."""


def main() -> int:
    """Run the command; return its exit code."""
    checks = "--check" in sys.argv
    code = 0
    for path in pages():
        old = path.read_text()
        new = update(old)
        if new == old:
            continue
        if checks:
            print(f"{path.relative_to(ROOT)} is stale. Run `make guide`.", file=sys.stderr)
            code = 1
        else:
            path.write_text(new)
            print(f"Wrote {path.relative_to(ROOT)}")
    return code


def pages() -> list[Path]:
    """Return the pages that may have generated blocks."""
    return [README, *sorted(GUIDE.glob("*.md")), *sorted(SKILL.rglob("*.md"))]


def update(page: str) -> str:
    """Return the page with current blocks. Raises `KeyError` for a block that has no writer."""
    for name in BLOCK.findall(page):
        if name not in MEASURED:
            page = replace_block(page, name, BLOCKS[name]())
    return page


def table(head: str, lines: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; the cells of its head are separated by |."""
    titles = head.split("|")
    cells = [titles, ["---"] * len(titles), *([cell(one) for one in line] for line in lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def cell(value: object) -> str:
    """Return the text of a table's cell, on one line."""
    return " ".join(str(value).split()).replace("|", "\\|")


def code(names: Iterable[str]) -> str:
    """Return names as a list of Markdown code."""
    return ", ".join(f"`{name}`" for name in names)


def capitalized(text: str) -> str:
    """Return a phrase of the help as a sentence."""
    return text[0].upper() + text[1:] + "."


def exit_codes() -> str:
    """Return the exit codes, with what to do next."""
    lines = ((int(one), f"`{one.name}`", capitalized(one.meaning), one.action) for one in ExitCode)
    return table("code|name|meaning|what to do next", lines)


def exit_codes_short() -> str:
    """Return what to do next after each exit code; codes that refer to another share its line."""
    lines = []
    for one in ExitCode:
        same = [other for other in ExitCode if other.action == f"See {int(one)}."]
        if not one.action.startswith("See "):
            group = [one, *same]
            numbers = ", ".join(str(int(other)) for other in group)
            lines.append((numbers, code(other.name for other in group), one.action))
    return table("code|name|what to do next", lines)


def environment() -> str:
    """Return the environment variables."""
    lines = ((code(name.split(", ")), meaning) for name, meaning in VARIABLES.items())
    return table("variable|meaning", lines)


def options(command: str) -> str:
    """Return the arguments and options of a command as its help has them, in groups."""
    program: Any = typer.main.get_command(app)
    parameters = program.commands[command].params
    groups = list(dict.fromkeys(one.rich_help_panel for one in parameters))
    lines = []
    last = ""
    for one in sorted(parameters, key=lambda one: groups.index(one.rich_help_panel)):
        is_flag = getattr(one, "is_flag", False)
        name = one.opts[0] if one.param_type_name == "option" else ""
        spelled = name if is_flag else f"{name} {one.metavar}".strip()
        group = "" if one.rich_help_panel == last else one.rich_help_panel
        lines.append((group, f"`{spelled}`", one.help))
        last = one.rich_help_panel
    return table("group|option|meaning", lines)


def events() -> str:
    """Return the events, with their keys."""
    lines = (
        (f"`{name}`", one.by, code(key for key in one.fields if key != "response_id"), getdoc(one))
        for name, one in EVENTS.items()
    )
    return table("event|emitted by|keys|meaning", lines)


def last_lines() -> str:
    """Return what the last line has for each exit code, and what to do next."""
    lines = (
        (int(one), code(codes.LAST_LINES[one][0]), codes.LAST_LINES[one][1], one.action)
        for one in ExitCode
    )
    return table("code|last line|what it says, besides `hint`|what to do next", lines)


def meanings(head: str, found: Mapping[str, str]) -> str:
    """Return names with their meanings."""
    return table(head, ((f"`{name}`", meaning) for name, meaning in found.items()))


def errors() -> str:
    """Return the codes of errors, with their exit codes."""
    lines = ((f"`{name}`", int(exit_), text) for name, (exit_, text) in codes.ERRORS.items())
    return table("code|exit code|meaning", lines)


def short_lines() -> str:
    """Return how much an hour-long job writes to stdout."""
    lines = ((name, f"{count:,}", f"{size:.1f} KB") for name, count, size in rows())
    return table("stdout of an hour-long job|lines|size", lines)


def personalities() -> str:
    """Return the sandbox's personalities."""
    return meanings(
        "personality|how it differs", {name: one.summary for name, one in PERSONALITIES.items()}
    )


def layout() -> str:
    """Return the folders of the package, with what each owns."""
    folders = sorted(path.parent.name for path in (APP / "oaibg").glob("*/__init__.py"))
    names = ("entry.py", *(f"{name}/" for name in folders))
    lines = []
    for name in names:
        module = import_module(f"oaibg.{name.removesuffix('.py').rstrip('/')}")
        lines.append((f"`{name}`", (getdoc(module) or "").partition("\n\n")[0]))
    return table("folder|what it owns", lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "exit-codes": exit_codes,
    "exit-codes short": exit_codes_short,
    "environment": environment,
    **{
        f"options {name}": lambda name=name: options(name)  # type: ignore[misc]
        for name in ("submit", "monitor", "cancel", "show")
    },
    "events": events,
    "last-lines": last_lines,
    "warnings": lambda: meanings("code|meaning", codes.WARNINGS),
    "errors": errors,
    "failures": lambda: meanings("code|meaning", codes.FAILURES),
    "counts": lambda: meanings("key|meaning", codes.COUNTS),
    "faults": lambda: table("fault|what happens", ROWS.items()),
    "short-lines": short_lines,
    "sandbox metadata": lambda: meanings("entry|what it does", ENTRIES),
    "sandbox outcomes": lambda: meanings("outcome|what the job ends with", OUTCOMES),
    "sandbox operations": lambda: code(OPERATIONS),
    "sandbox faults": lambda: meanings("kind|what happens", KINDS),
    "sandbox personalities": personalities,
    "layout": layout,
}
"""The writer of each block."""


if __name__ == "__main__":
    sys.exit(main())
