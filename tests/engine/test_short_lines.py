"""How much an agent reads of a job of one hour."""

from __future__ import annotations

from short_lines import rows


def test_changes_are_short() -> None:
    """With `--events changes`, an hour's stdout is under a quarter of `all`; slices add little."""
    every, changes, sliced = rows()
    assert changes.kilobytes < every.kilobytes / 4
    assert changes.lines < every.lines / 4
    assert 0 < sliced.kilobytes - changes.kilobytes < 5
