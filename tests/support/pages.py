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
from typing import TYPE_CHECKING

from harness import environment
from places import EXAMPLES, README

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
case $1 in submit | monitor) set -- "$@" --poll-seconds 0.1 ;; esac
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


def shell_blocks(page: str) -> list[str]:
    """The `sh` blocks of a page."""
    return re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


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

    `flags` are bash's. Processes that the block started in the background are killed.
    """
    settings = json.loads((folder / "environment.json").read_text())
    script = block.replace("resp_…", "$(newest)").replace("sk-…", "sk-test")
    calls, stderr = folder / "calls", folder / "stderr"
    calls.write_text("")
    with (
        stderr.open("wb") as errors,
        subprocess.Popen(
            ["bash", *flags, "-c", script],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
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
