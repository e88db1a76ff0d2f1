"""Every code block of the README, the guide and the skill works as it stands.

The language of a block decides how it is checked. A block that this module doesn't check is in
`ELSEWHERE` or `NOT_RUN`, by its first words.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from pages import Block, code_blocks, exit_codes, make_clone
from places import GUIDE, README, ROOT, SKILL

if TYPE_CHECKING:
    from pathlib import Path

    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

PAGES = [README, *sorted(GUIDE.glob("*.md")), *sorted(SKILL.rglob("*.md"))]

ELSEWHERE = {
    "make demo": ".ci/run",
    "uv tool install .": ".ci/run",
    "make install-skill": "tests/examples/test_skill_installer.py",
    "cat > weather.json": "tests/examples/test_answers_page.py",
    'echo \'[{"type": "mcp"': "tests/examples/test_answers_page.py",
    "oaibg submit --jobs-file reviews.csv": "tests/examples/test_from_a_table_page.py",
    "oaibg show reviews": "tests/examples/test_from_a_table_page.py",
    'import csv\n\nwith open("answers.csv"': "tests/examples/test_from_a_table_page.py",
    ".venv/bin/pytest": "tests/examples/test_guide.py",
}
"""What the blocks begin with that another file checks."""

NOT_RUN = {
    "make bench": "it takes ten minutes",
    'export PATH="$PWD/.venv/bin:$PATH"\npython -m oaibg.sandbox': "it runs until it is stopped",
}
"""What the blocks begin with that nothing checks, and why."""

_CALL = """
echo '[{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}]' > tools.json
oaibg submit --prompt x --tools-json-file tools.json --metadata sandbox_outcome=function_call \\
    > call.jsonl || true
tail -n 1 call.jsonl | jq '[{type: "function_call_output", call_id: .calls[0].id, output: "18"}]' \\
    > results.json
"""
_RESULTS = "oaibg submit --jobs-file jobs.jsonl --results-file results.jsonl"

BEFORE = {
    "oaibg show resp_123 | jq": _CALL,
    "jq -s -r 'group_by(.custom_id)": _RESULTS,
    'eval "$(tail -n 1 run.jsonl': f"echo '{json.dumps({'next': _RESULTS.split()})}' > run.jsonl",
}
"""What to run before the blocks that begin with these words."""

CODES = {
    "export OPENAI_API_KEY=": [0, 0, 0, 0, 4],  # the job had ended before `cancel`
    "oaibg monitor --job-key review-1": [0, 0, 0, 4],
    "oaibg show resp_123 | jq": [10, 0],  # the response has a call that waits
}
"""The exit codes of the `oaibg` commands in blocks that begin with these words, unless all 0."""

_AGENT = """
cp examples/jobs.jsonl . && echo "Review this." > prompt.md
oaibg submit --job-key review-1 --prompt-file prompt.md
"""
"""What to run before each block of the skill: the files and the job that its pages speak of."""

BLOCKS = [(page, block) for page in PAGES for block in code_blocks(page.read_text())]


def begins(block: Block, table: dict[str, str]) -> bool:
    """Whether a block is in a table."""
    return block.text.startswith(tuple(table))


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(page, block, id=f"{page.relative_to(ROOT)}:{block.line}")
        for page, block in BLOCKS
        if not begins(block, ELSEWHERE | NOT_RUN)
    ],
)
def test_block(page: Path, block: Block, slow: Sandbox, tmp_path: Path) -> None:
    """A block works in a new clone, without anything that the page doesn't mention."""
    before = [text for start, text in BEFORE.items() if block.text.startswith(start)]
    if page.is_relative_to(SKILL):
        before.insert(0, _AGENT)
    if shutil.which("jq") is None and "jq " in "".join([block.text, *before]):
        pytest.skip("needs jq")
    clone = tmp_path / "here"
    make_clone(clone, slow.base_url)
    for text in before:
        exit_codes(text, clone, "-e")
    CHECKS[block.language](block.text, clone)


def test_tables_are_of_blocks() -> None:
    """Each entry of the tables belongs to a block, and each file that checks blocks exists."""
    entries = [*ELSEWHERE, *NOT_RUN, *BEFORE, *CODES]
    assert [
        one for one in entries if not any(block.text.startswith(one) for _, block in BLOCKS)
    ] == []
    assert [one for one in ELSEWHERE.values() if not (ROOT / one).is_file()] == []


def check_shell(text: str, clone: Path) -> None:
    """Each command ends with 0; the `oaibg` commands of a block in `CODES` with these codes."""
    for start, codes in CODES.items():
        if text.startswith(start):
            assert [code for code, _ in exit_codes(text, clone)] == codes
            return
    ended = exit_codes(text, clone, "-euo", "pipefail")
    assert len(ended) >= len(re.findall(r"^oaibg (?!-)", text, re.MULTILINE))
    assert [command for code, command in ended if code != 0] == []


def check_console(text: str, clone: Path) -> None:
    """The command prints lines such as those that are shown, in this order; `…` is the rest."""
    command, *shown = text.removeprefix("$ ").splitlines()
    check_shell(command, clone)
    printed = iter((clone / "stdout").read_text().splitlines())
    for line in shown:
        pattern = "".join(map(_pattern, re.findall(_PARTS, line)))
        assert any(re.fullmatch(pattern, one) for one in printed), f"not printed: {line}"


_PARTS = r'"(?:\d{4}-|resp_|/)[^"]*"|\d+(?:\.\d+)?|…|[^"\d…]+|"'
"""Times, IDs and paths; numbers; what is left out; all else."""


def _pattern(part: str) -> str:
    if part == "…":
        return ".*"
    if re.fullmatch(r"\d+(\.\d+)?", part):
        return r"\d+(\.\d+)?"
    if len(part) > 1 and part[0] == '"':
        return r'"(?:\d{4}-|resp_|/)[^"]*"'
    return re.escape(part)


def check_json(text: str, clone: Path) -> None:
    """The text is a file of input that `submit` accepts, or a line of a results file."""
    text = re.sub(r",? …(?=})", "", text)
    first = json.loads(text if text.startswith("[") else text.splitlines()[0])
    if "response" in first:
        exit_codes("oaibg submit --jobs-file examples/jobs.jsonl --results-file r.jsonl", clone)
        real = json.loads((clone / "r.jsonl").read_text().splitlines()[0])
        assert [*first] == [*real]
        assert [*first["response"]] == [*real["response"]]
        return
    kind, name = ("input-json", "i.json") if isinstance(first, list) else ("jobs", "i.jsonl")
    (clone / name).write_text(text)
    check_shell(f"oaibg submit --{kind}-file {name} --dry-run", clone)


def check_csv(text: str, clone: Path) -> None:
    """The text is a table of jobs."""
    (clone / "table.csv").write_text(text)
    check_shell("oaibg submit --jobs-file table.csv --dry-run", clone)


def check_python(text: str, clone: Path) -> None:
    """The program runs."""
    (clone / "program.py").write_text(text)
    check_shell("python program.py", clone)


CHECKS = {
    "sh": check_shell,
    "console": check_console,
    "json": check_json,
    "csv": check_csv,
    "python": check_python,
}
"""How the blocks of a language are checked."""
