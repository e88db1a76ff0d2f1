"""Markdown pages: their links and shell blocks, and a clone in which the blocks run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from harness import environment
from places import EXAMPLES, README, SKILL

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = """\
#!/bin/sh
# Print the ID of the job that was submitted last.
{python} -m oaibg show --list --limit 1 | sed -n 's/.*"response_id":"\\([^"]*\\)".*/\\1/p'
"""

SHIM = """\
#!/bin/sh
# Run the command itself, polling ten times a second, and note how it ended.
case $1 in submit | monitor) name=$1; shift; set -- "$name" --poll-seconds 0.1 "$@" ;; esac
{python} -m oaibg "$@"
code=$?
echo "$code $*" >> "$CALLS"
exit $code
"""

PYTHON = """\
#!/bin/sh
exec {python} "$@"
"""

COMMANDS = {"oaibg": SHIM, "newest": NEWEST, "python": PYTHON}

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|\b(?:src|srcset)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A code block of a page."""

    language: str
    text: str
    line: int
    """The number of its first line in the page."""


def code_blocks(page: str) -> list[Block]:
    """The code blocks of a page."""
    fences = re.finditer(r"^```(.*)\n((?s:.*?))^```$", page, re.MULTILINE)
    return [Block(one[1], one[2], page.count("\n", 0, one.start(2)) + 1) for one in fences]


def shell_blocks(page: str) -> list[str]:
    """The `sh` blocks of a page."""
    return [block.text for block in code_blocks(page) if block.language == "sh"]


def relative_links(page: str) -> list[str]:
    """The targets of a page's links and pictures that are not URLs."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    links = (one or other for one, other in _LINK.findall(prose))
    return [link for link in links if "://" not in link]


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the page's headings."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(prose)]
    return {title.strip().replace(" ", "-") for title in titles}


def make_clone(folder: Path, base_url: str) -> None:
    """Create a directory as a new user has it, for the blocks, and a sandbox's `base_url`."""
    folder.mkdir()
    shutil.copytree(EXAMPLES, folder / "examples")
    shutil.copy(README, folder)
    (folder / "bin").mkdir()
    for name, script in COMMANDS.items():
        path = folder / "bin" / name
        path.write_text(script.format(python=sys.executable))
        path.chmod(0o755)
    settings = environment(base_url, folder / "state")
    settings["PATH"] = f"{folder / 'bin'}{os.pathsep}{settings['PATH']}"
    settings["CALLS"] = str(folder / "calls")
    (folder / "environment.json").write_text(json.dumps(settings))


def exit_codes(block: str, folder: Path, *flags: str) -> list[tuple[int, str]]:
    """Run a block in a clone; returns the exit codes of its `oaibg` commands, and their arguments.

    `flags` are bash's. What the block prints is in the file `stdout` afterwards. Processes that the
    block started in the background are killed.
    """
    settings = json.loads((folder / "environment.json").read_text())
    calls, stdout, stderr = folder / "calls", folder / "stdout", folder / "stderr"
    calls.write_text("")
    with (
        stdout.open("wb") as out,
        stderr.open("wb") as errors,
        subprocess.Popen(
            ["bash", *flags, "-c", _REPLACED.sub(_replaced, block)],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            cwd=folder,
            start_new_session=True,
        ) as shell,
    ):
        try:
            code = shell.wait(120)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert code in (0, 4), stderr.read_text()
    found = (line.partition(" ") for line in calls.read_text().splitlines())
    return [(int(code), command) for code, _, command in found]


_PLACEHOLDERS = {
    r"resp_…|resp_123": "$(newest)",
    r"sk-…": "sk-test",
    r"/path/to/workspace": ".",
    r"/path/to/skill": str(SKILL),
    r"^export OPENAI_BASE_URL=https?://.*\n": "",
}
"""What a reader replaces in a block, and its replacement here."""

_REPLACED = re.compile("|".join(f"({one})" for one in _PLACEHOLDERS), re.MULTILINE)


def _replaced(found: re.Match[str]) -> str:
    assert found.lastindex is not None
    return [*_PLACEHOLDERS.values()][found.lastindex - 1]
