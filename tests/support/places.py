"""Paths of the repository's files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"
EXAMPLES = ROOT / "examples"
GUIDE = EXAMPLES / "guide"
README = ROOT / "README.md"
SKILL = EXAMPLES / "skill" / "openai-api-background-mode"
