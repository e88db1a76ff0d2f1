"""The input options: prompts from files and stdin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oaibg.contract.errors import UsageError
from oaibg.request import sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_unreadable_file(tmp_path: Path) -> None:
    """The error for an unreadable prompt file has the path and the system's message."""
    with pytest.raises(UsageError, match=r"nothere: No such file or directory\."):
        sources.read_prompt(str(tmp_path / "nothere"))
    with pytest.raises(UsageError, match="Is a directory"):
        sources.read_prompt(str(tmp_path))
    with pytest.raises(UsageError, match="not a valid path"):
        sources.read_prompt("a\0b")


def test_stdin(stdin: Callable[[bytes | None], None]) -> None:
    """`-` reads stdin, with or without a byte order mark; an empty or closed stdin is an error."""
    for content in (b"hello", b"\xef\xbb\xbfhello"):
        stdin(content)
        assert sources.read_prompt("-") == "hello"
    stdin(b"")
    with pytest.raises(UsageError, match="stdin: the prompt is empty"):
        sources.read_prompt("-")
    stdin(None)
    with pytest.raises(UsageError, match="stdin is closed"):
        sources.read_prompt("-")
