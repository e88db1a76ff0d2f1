"""The pictures of human mode in the README and the guide are up to date."""

from __future__ import annotations

import pytest

from places import GUIDE, README
from screenshots import FOLDER, NAMES, comparable, described, pictures

pytestmark = pytest.mark.process


def test_pictures_show_the_current_output() -> None:
    """The pictures show the output of today, except for IDs, times and numbers.

    `make screenshots` draws them again.
    """
    for name, (text, _) in pictures(poll_seconds=1).items():
        kept = described((FOLDER / f"{name}.svg").read_text())
        assert comparable(text) == comparable(kept), name


def test_every_picture_is_shown() -> None:
    """The README or a page of the guide shows each picture."""
    pages = "".join(path.read_text() for path in (README, *GUIDE.glob("*.md")))
    assert [name for name in NAMES if f"/{name}.svg)" not in pages] == []
