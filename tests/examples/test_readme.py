"""The README is short."""

from __future__ import annotations

from places import README

BYTES_MAX = 12_000


def test_size() -> None:
    """The README has at most 12 KB; details belong in the guide."""
    assert README.stat().st_size <= BYTES_MAX
