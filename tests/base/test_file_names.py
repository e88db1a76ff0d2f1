"""Names of files and folders that are made of untrusted text."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaibg.base.file_names import Folders, folded, numbered, safe_name

HOSTILE = {
    "chart.csv": "chart.csv",
    "Übersicht 2026.csv": "Übersicht 2026.csv",
    "U\u0308.csv": "Ü.csv",
    "📈.csv": "📈.csv",
    "../../etc/passwd": "passwd",
    "/mnt/data/chart.csv": "chart.csv",
    "a/b.csv": "b.csv",
    "a/b/": "b",
    "..\\..\\windows\\win.ini": "win.ini",
    "C:\\x.txt": "x.txt",
    ".bashrc": "bashrc",
    "...": "file",
    "": "file",
    "/": "file",
    " ": "file",
    "-rf": "rf",
    "a\nb.csv": "a_b.csv",
    "a\x00b\x1b[2J.csv": "a_b_[2J.csv",
    "gpj.\u202eexe": "gpj._exe",
    "\ud800.csv": "_.csv",
    'a<b>:"|?*.csv': "a_b______.csv",
    "name. . ": "name",
    "CON": "_CON",
    "con.txt": "_con.txt",
    "LPT1.tar.gz": "_LPT1.tar.gz",
    "console.txt": "console.txt",
    "x" * 300 + ".csv": "x" * 146 + ".csv",
    "é" * 300: "é" * 75,
    "x." + "y" * 300: "x." + "y" * 148,
}


@pytest.mark.parametrize(("text", "name"), HOSTILE.items())
def test_hostile_names(text: str, name: str) -> None:
    """A name keeps what is harmless, and loses the rest."""
    assert safe_name(text) == name


@given(st.text(st.characters(codec=None)))
def test_any_text(text: str) -> None:
    """Every text yields a name of one printable part that is safe to create, and stays the same."""
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 150
    assert name.isprintable()
    assert not set(name) & set("/\\:")
    assert not name.startswith((".", "-", " "))
    assert safe_name(name) == name


def test_first_text_that_yields_a_name() -> None:
    """If a name is missing or yields nothing, the next one is used."""
    assert safe_name(None, "../", 7, "b", "c") == "b"


def test_numbered_names() -> None:
    """A number goes before the extension."""
    assert list(islice(numbered("chart.csv"), 3)) == ["chart.csv", "chart-2.csv", "chart-3.csv"]
    assert list(islice(numbered("chart"), 2)) == ["chart", "chart-2"]


@given(st.lists(st.text(st.characters(codec=None), min_size=1, max_size=5), unique=True))
def test_jobs_never_share_a_folder(jobs: list[str]) -> None:
    """Different jobs have different folders, even if a file system ignores case."""
    folders = Folders()
    names = [folders.of(job) for job in jobs]
    assert len({folded(name) for name in names}) == len(jobs)
    assert [folders.of(job) for job in jobs] == names


def test_folders_of_a_run() -> None:
    """A folder has the job's own name if that is safe, and a hash in its name if it is not."""
    folders = Folders()
    assert folders.of("job-1") == "job-1"
    assert folders.of("Q1") == "Q1"
    assert folders.of("q1").startswith("q1-")
    assert folders.of("a/b").startswith("b-")
    assert len({folders.of(name) for name in ("b", "a/b", "c/b", folders.of("a/b"))}) == 4
