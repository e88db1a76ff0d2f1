"""The README's commands, run as they stand there against the sandbox, in the order of the page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness import environment
from oaibg.sandbox import Sandbox
from places import README, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.process

PAGE = README.read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

ELSEWHERE = (
    "uv tool install .",  # .ci/run installs the wheel
    "make demo",  # .ci/run runs both
    "make install-skill",  # test_skill.py
    "make install\n",
    "export OPENAI_BASE_URL=",  # servers that are not here
)
"""What the blocks begin with that are run elsewhere, or can't be."""

RUN = [block for block in BLOCKS if not block.startswith(ELSEWHERE)]

NEWEST = """\
#!/bin/sh
# The id of the job that was submitted last.
{python} -m oaibg show --list --limit 1 | sed -n 's/.*"response_id":"\\([^"]*\\)".*/\\1/p'
"""

SHIM = """\
#!/bin/sh
# The command itself, but that it looks ten times a second; and a note of how it ended.
case $1 in submit | monitor) set -- "$@" --poll-seconds 0.1 ;; esac
{python} -m oaibg "$@"
code=$?
echo "$code $*" >> "$CALLS"
exit $code
"""


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A folder as a new user has it, and a sandbox."""
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(README, folder)
    (folder / "bin").mkdir()
    for name, script in (("oaibg", SHIM), ("newest", NEWEST)):
        path = folder / "bin" / name
        path.write_text(script.format(python=sys.executable))
        path.chmod(0o755)
    with Sandbox.running(seconds=0.5) as sandbox:
        settings = environment(sandbox.base_url, folder / "state")
        settings["PATH"] = f"{folder / 'bin'}{os.pathsep}{settings['PATH']}"
        settings["CALLS"] = str(folder / "calls")
        (folder / "environment.json").write_text(json.dumps(settings))
        yield folder


def exit_codes(block: str, folder: Path) -> list[tuple[int, str]]:
    """Run a block; gives its commands' exit codes, and what they were."""
    settings = json.loads((folder / "environment.json").read_text())
    script = block.replace("resp_…", "$(newest)").replace("sk-…", "sk-test")
    calls = folder / "calls"
    calls.write_text("")
    done = subprocess.run(
        ["bash", "-c", script],
        env=settings,
        capture_output=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 4), done.stderr.decode()
    found = (line.partition(" ") for line in calls.read_text().splitlines())
    return [(int(code), command) for code, _, command in found]


def test_the_blocks_are_there() -> None:
    """What is not run here is run elsewhere, and begins with what is named."""
    assert len(RUN) >= 10
    for start in ELSEWHERE:
        assert any(block.startswith(start) for block in BLOCKS), start


def test_commands(clone: Path) -> None:
    """Each ends as a new user would hope; what had ended already can't be cancelled (4).

    They are one test: what is submitted in one recipe is followed in another.
    """
    for block in RUN:
        if block.startswith("jq ") and shutil.which("jq") is None:
            continue
        wanted = sum(line.startswith("oaibg ") for line in block.splitlines())
        ended = exit_codes(block, clone)
        assert len(ended) >= wanted, block
        for code, command in ended:
            assert code in ((0, 4) if command.startswith("cancel") else (0,)), command
