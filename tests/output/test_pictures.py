"""The pictures of human mode in the README are up to date."""

from __future__ import annotations

import pytest

from screenshots import FOLDER, NAMES, comparable, described, pictures

pytestmark = pytest.mark.process


def test_pictures_show_the_current_output() -> None:
    """The pictures show the output of today, except for IDs, times and numbers.

    `make screenshots` draws them again.
    """
    for name, (text, _) in pictures(poll_seconds=1).items():
        kept = described((FOLDER / f"{name}.svg").read_text())
        assert comparable(text) == comparable(kept), name


def test_readme_shows_the_pictures() -> None:
    """The README shows every picture."""
    readme = (FOLDER.parent / "README.md").read_text()
    assert [name for name in NAMES if f"(examples/{name}.svg)" not in readme] == []
