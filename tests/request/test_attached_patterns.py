"""Patterns of `--attach`: literal brackets, and what a pattern leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attaching import PDF, names_of, parts_of, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("app/[id]/*.tsx", ["app/[id]/page.tsx"]),
        ("app/**/[id]/*.tsx", ["app/[id]/page.tsx"]),
        ("*/[id]/p*", ["app/[id]/page.tsx"]),
        ("app/[...slug]/*", ["app/[...slug]/page.tsx"]),
        ("app/[id]/page.tsx", ["app/[id]/page.tsx"]),
        ("app/[id]", []),
        ("app/[di]/*.tsx", ["app/d/page.tsx"]),
        ("app/[[]id]/[op]*", ["app/[id]/page.tsx"]),
    ],
)
def test_brackets(
    attach: Callable[..., Result], folder: Path, pattern: str, names: list[str]
) -> None:
    """Brackets are literal if a file or a directory has them in its name."""
    for name in ("[id]", "[...slug]", "d"):
        write(folder / f"app/{name}/page.tsx")
    if names:
        assert names_of(attach(pattern)) == names
    else:
        assert "this is a directory" in attach(pattern).last["message"]


IGNORE = """# comment
/build/
*.log
!keep.log
docs/*.tmp
**/cache
data[0-9].txt
"""


def test_ignored_files(attach: Callable[..., Result], sandbox: Sandbox, folder: Path) -> None:
    """A pattern leaves out what `.gitignore` names and installed packages, and says so."""
    (folder / ".gitignore").write_text(IGNORE)
    kept = ("a.txt", "docs/a.txt", "keep.log", "src/build/a.txt", "src/deep/b.tmp", "src/own.log")
    left = ("a.log", "build/x/y.txt", "data1.txt", "docs/a.tmp", "src/deep/cache/z.txt")
    packages = ("node_modules/p/index.js", "env/lib/m.py", "src/__pycache__/a.txt")
    for name in (*kept, *left, *packages, "env/pyvenv.cfg"):
        write(folder / name)
    write(folder / "src/.gitignore", b"!own.log\n")
    result = attach("**")
    assert sorted(names_of(result)) == sorted(kept)
    warning = result.lines[0]
    assert (warning["event"], warning["code"]) == ("warning", "files_left_out")
    for place in ("a.log", "build/ (1 file)", "node_modules/", "env/", "docs/a.tmp", "data1.txt"):
        assert place in warning["message"]
    assert "9 files left out" in warning["message"]
    assert names_of(attach("build/**", "a.log")) == ["build/x/y.txt", "a.log"]
    assert not sandbox.requests


def test_a_pattern_that_matches_only_ignored_files(
    attach: Callable[..., Result], folder: Path
) -> None:
    """If all matches of a pattern are ignored, nothing is sent, and the error names them."""
    (folder / ".git").mkdir()
    (folder / ".gitignore").write_text("*.log\n")
    write(folder / "sub/a.log")
    result = attach("sub/*.log")
    assert (result.code, result.last["code"]) == (2, "usage")
    assert "1 file left out. Ignored by .gitignore" in result.last["message"]
    assert "sub/a.log" in result.last["message"]


def test_links_that_lead_outside(
    attach: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    """A pattern leaves out links to files elsewhere, and names them; a path follows its link."""
    write(tmp_path / "elsewhere/secret.txt")
    write(folder / "a.txt")
    (folder / "link.txt").symlink_to(tmp_path / "elsewhere/secret.txt")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "same.txt").symlink_to("a.txt")
    result = attach("**")
    assert names_of(result) == ["a.txt"]
    message = result.lines[0]["message"]
    assert (
        "2 files left out. Links that lead out of the directory: link.txt, linked/secret.txt"
        in message
    )
    assert names_of(attach("link.txt")) == ["link.txt"]
    assert names_of(attach(f"{tmp_path}/elsewhere/*")) == [f"{tmp_path}/elsewhere/secret.txt"]


REST = b"trailer\n<<>>\nstartxref\n0\n%%EOF\n"


@pytest.mark.parametrize("junk", [b"\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000, b"\xef\xbb\xbf"])
def test_a_pdf_with_bytes_before_it(
    attach: Callable[..., Result], folder: Path, junk: bytes
) -> None:
    """A PDF may have other bytes before its header, within the first 1024 bytes."""
    write(folder / "a.pdf", junk + PDF.replace(b"%%EOF\n", b"") + REST)
    (part,) = parts_of(attach("a.pdf"))
    assert part["type"] == "input_file"


def test_a_text_about_pdfs(attach: Callable[..., Result], folder: Path) -> None:
    """A text that only mentions the header of a PDF is a text."""
    write(folder / "a.md", b"A PDF begins with %PDF-1.7, and ends with %%EOF.\n")
    (part,) = parts_of(attach("a.md"))
    assert part["type"] == "input_text"
