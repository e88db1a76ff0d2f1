"""The README: its size, and its commands, which run as written against the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pages import exit_codes, shell_blocks
from places import README

if TYPE_CHECKING:
    from pathlib import Path

BYTES_MAX = 12_000
BLOCKS = shell_blocks(README.read_text())

ELSEWHERE = {
    "make demo": ".ci/run runs both commands",
    "uv tool install .": ".ci/run installs the wheel",
    "make install-skill": "test_skill_installer.py",
}
"""The first words of the blocks that run elsewhere, and where."""

RUN = [block for block in BLOCKS if not block.startswith(tuple(ELSEWHERE))]


def test_size() -> None:
    """The README has at most 12 KB; details belong in the guide."""
    assert README.stat().st_size <= BYTES_MAX


def test_blocks_that_run_elsewhere() -> None:
    """Each exception belongs to exactly one block."""
    assert len(RUN) == len(BLOCKS) - len(ELSEWHERE)


@pytest.mark.process
@pytest.mark.parametrize("block", RUN, ids=[block.split("\n# ")[0][:40] for block in RUN])
def test_commands(clone: Path, block: str) -> None:
    """A block works in a new clone: its commands exit with 0, `cancel` of an ended job with 4."""
    ended = exit_codes(block, clone)
    assert len(ended) == sum(line.startswith("oaibg ") for line in block.splitlines())
    for code, command in ended:
        assert code == (4 if command.startswith("cancel ") else 0), command
