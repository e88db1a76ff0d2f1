"""The guide: its links, paths and figures are right."""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

import guide
from agent_shell import call
from oaibg.many.tally import WORST
from oaibg.request.attachments import (
    BYTES_MAX,
    IMAGES_MAX,
    PDF_BYTES_MAX,
    TEXT_CHARACTERS_MAX,
)
from oaibg.request.jobs_file import BATCH_BYTES_MAX, BATCH_LINES_MAX
from oaibg.request.json_files import INPUT_BYTES_MAX
from pages import anchors, exit_codes, relative_links, shell_blocks
from places import APP, GUIDE, README, ROOT, SKILL

if TYPE_CHECKING:
    from pathlib import Path


PAGES = sorted(GUIDE.glob("*.md"))
LINKING = [README, *PAGES, *sorted(SKILL.rglob("*.md"))]

NO_PROSE = r"<!-- generated.*?<!-- end -->|^```json.*?^```|^\|.*?$"
"""Generated blocks, JSON and tables, whose lines may be long."""


def names(path: Path) -> str:
    """A page's name in the repository."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", guide.pages(), ids=names)
def test_generated_blocks_are_current(path: Path) -> None:
    """A page's generated blocks are what `make guide` writes."""
    assert guide.update(path.read_text()) == path.read_text()


def test_every_block_is_on_a_page() -> None:
    """The generator writes no block that no page has."""
    text = "".join(path.read_text() for path in guide.pages())
    assert [name for name in guide.BLOCKS if f"<!-- generated: {name} -->" not in text] == []


@pytest.mark.parametrize("path", LINKING, ids=names)
def test_relative_links_lead_somewhere(path: Path) -> None:
    """Every relative link and picture is a file, and an anchor is one of its headings."""
    broken = []
    for link in relative_links(path.read_text()):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        found = target.exists() and target.is_relative_to(ROOT)
        if not found or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=names)
def test_a_page_says_what_it_is_for(path: Path) -> None:
    """A page begins with its title and a paragraph, and its lines have at most 120 characters."""
    text = path.read_text()
    assert re.match(r"# \S[^\n]*\n\n[A-Z`]", text)
    prose = re.sub(NO_PROSE, "", text, flags=re.MULTILINE | re.DOTALL)
    assert max(map(len, prose.splitlines())) <= 120


def test_paths_of_the_developing_page_exist() -> None:
    """Every module and every folder of tests that the page names is there."""
    text = (GUIDE / "developing.md").read_text()
    paths = set(re.findall(r"`((?:\w+/)+\w*(?:\.py)?)(?:\W[^`]*)?`", text))
    assert len(paths) >= 30
    missing = [
        path for path in paths if not any((base / path).exists() for base in (ROOT, APP / "oaibg"))
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("events", f"in this order: {', '.join(map(str, WORST))};"),
        ("options", f"at most {TEXT_CHARACTERS_MAX:,} characters"),
        ("options", f"at most {IMAGES_MAX:,} in a request"),
        ("options", f"at most {PDF_BYTES_MAX >> 20} MiB for all PDFs together"),
        ("options", f"All attachments together may have at most {BYTES_MAX >> 20} MiB."),
        ("guarantees", f"| an input file | {INPUT_BYTES_MAX >> 20} MiB;"),
        ("many-jobs", f"at most {BATCH_LINES_MAX:,} lines and {BATCH_BYTES_MAX // 10**6} MB"),
    ],
)
def test_figures_are_those_of_the_code(page: str, text: str) -> None:
    """The order of the exit codes and the limits in the prose are the code's."""
    assert text in " ".join((GUIDE / f"{page}.md").read_text().split())


@pytest.mark.process
def test_named_tests_exist() -> None:
    """The tests and folders of tests that the developing page runs are there."""
    (block,) = [
        one for one in shell_blocks((GUIDE / "developing.md").read_text()) if "pytest" in one
    ]
    for line in block.splitlines():
        program, *argv = line.split()
        assert program == ".venv/bin/pytest"
        done = call(sys.executable, "-m", "pytest", "--collect-only", *argv, cwd=ROOT)
        assert done.code == 0, argv


@pytest.mark.process
@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_failed_jobs_are_retried(clone: Path) -> None:
    """The recipe submits only the failed jobs again, and keeps the last line of each job."""
    page = (GUIDE / "many-jobs.md").read_text()
    (recipe,) = [block for block in shell_blocks(page) if "map(last)" in block]
    jobs = clone / "examples" / "jobs.jsonl"
    line, *others = jobs.read_text().splitlines(keepends=True)
    failing = line.replace('"body": {', '"body": {"metadata": {"sandbox_failures": "1"}, ')
    jobs.write_text("".join([*others, failing]))
    assert [code for code, _ in exit_codes(recipe, clone)] == [4, 0]
    number = len(others) + 1
    assert (clone / "results.jsonl").read_text().count("\n") == number + 1
    latest = map(json.loads, (clone / "latest.jsonl").read_text().splitlines())
    assert [one["response"]["body"]["status"] for one in latest] == ["completed"] * number
