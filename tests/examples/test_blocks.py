"""The generated blocks of Markdown pages."""

from __future__ import annotations

import pytest

from blocks import replace_block

PAGE = "# A\n\n<!-- generated: a -->\nold\n<!-- end -->\n\n<!-- generated: a b -->\n<!-- end -->\n"


def test_replaces_only_the_named_block() -> None:
    """A block gets its new content; everything else on the page stays."""
    page = replace_block(PAGE, "a", "new\n")
    assert page == PAGE.replace("old", "new")
    assert replace_block(page, "a b", "x") == page.replace("a b -->\n", "a b -->\nx\n")


@pytest.mark.parametrize(
    "page",
    [
        "no block",
        PAGE + PAGE,
        "<!-- generated: a -->\nwithout an end",
        PAGE.replace("old\n<!-- end -->", "old"),
    ],
)
def test_refuses_a_page_without_the_block(page: str) -> None:
    """A page that lacks the block, repeats it or doesn't close it is a ValueError."""
    with pytest.raises(ValueError, match="generated: a"):
        replace_block(page, "a", "new")
