"""Paths of the repository's files."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"
EXAMPLES = ROOT / "examples"
GUIDE = EXAMPLES / "guide"
README = ROOT / "README.md"
SKILL = EXAMPLES / "skill" / "openai-background-mode"


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading of the README."""
    section = re.split(rf"\n##+ {heading}\n", README.read_text(), maxsplit=1)[1]
    rows = re.search(r"(?m)(^\|.*\n)+", section)
    assert rows
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[0].splitlines()]
    return cells[2:]
