"""The pictures of human mode in the README and the guide are up to date."""

from __future__ import annotations

import re

import pytest

from places import GUIDE, README
from screenshots import NAMES, THEMES, comparable, described, path, pictures

pytestmark = pytest.mark.process

_PICTURE = (
    r"<picture>\n"
    r'<source media="\(prefers-color-scheme: dark\)" srcset="[^"]*/([\w-]+)-dark\.svg">\n'
    r'<img alt="[^"]{20,}" src="[^"]*/([\w-]+)-light\.svg">\n'
    r"</picture>"
)


def test_pictures_show_the_current_output() -> None:
    """The pictures show the output of today, except for IDs, times and numbers.

    `make screenshots` draws them again.
    """
    for name, (text, _) in pictures(poll_seconds=1).items():
        for theme in THEMES:
            kept = described(path(name, theme).read_text())
            assert comparable(text) == comparable(kept), (name, theme)


def test_every_picture_is_shown() -> None:
    """The README or a page of the guide shows each picture, for light and for dark pages."""
    pages = "".join(page.read_text() for page in (README, *GUIDE.glob("*.md")))
    shown = re.findall(_PICTURE, pages)
    assert sorted(shown) == sorted((name, name) for name in NAMES)
