"""The page about answers: its loop of tool calls and its approval work against the sandbox."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from pages import exit_codes, shell_blocks
from places import GUIDE

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq"),
]


def block(words: str) -> str:
    """Return the page's block with these words."""
    blocks = shell_blocks((GUIDE / "answers.md").read_text())
    (found,) = [one for one in blocks if words in one]
    return found


def test_the_tool_loop(clone: Path, slow: Sandbox) -> None:
    """The loop runs the called function, sends its result, and ends with an answer."""
    loop = block("get_weather")
    assert loop.count("\n") <= 15
    assert [code for code, _ in exit_codes(loop, clone)] == [10, 0]
    first, second = slow.posts
    calls = json.loads((clone / "run.jsonl").read_text().splitlines()[-1])["calls"]
    (result,) = second.body["input"]
    assert result["output"].startswith("18 degrees in ")
    assert second.body["previous_response_id"] == first.response_id
    assert second.body["tools"] == first.body["tools"]
    assert (calls, (clone / "answer.md").stat().st_size > 0) == ([], True)
    rerun = exit_codes(loop, clone)
    assert ([code for code, _ in rerun], len(slow.posts)) == ([10, 0], 2)


def test_the_approval(clone: Path, slow: Sandbox) -> None:
    """The approval refers to the request, and the second job ends with an answer."""
    assert [code for code, _ in exit_codes(block("approve: true"), clone)] == [10, 0]
    (approval,) = slow.posts[1].body["input"]
    assert (approval["type"], approval["approve"]) == ("mcp_approval_response", True)
