"""The README's commands, run as they stand there against the sandbox, in the order of the page."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pages import exit_codes, shell_blocks
from places import README

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

BLOCKS = shell_blocks(README.read_text())

ELSEWHERE = (
    "uv tool install .",  # .ci/run installs the wheel
    "make demo",  # .ci/run runs both
    "make install-skill",  # test_skill.py
    "make install\n",
    "export OPENAI_BASE_URL=",  # servers that are not here
)
"""What the blocks begin with that are run elsewhere, or can't be."""

RUN = [block for block in BLOCKS if not block.startswith(ELSEWHERE)]


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
