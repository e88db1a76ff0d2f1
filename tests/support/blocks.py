"""Replace the generated blocks of a Markdown page.

A block is what is between the lines `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

END = "<!-- end -->"


def replace_block(page: str, name: str, content: str) -> str:
    """Return the page with `content` as the block of that name.

    Raises:
        ValueError: the page has no block of that name, or several.
    """
    begin = f"<!-- generated: {name} -->"
    if page.count(begin) != 1:
        raise ValueError(f"the page needs exactly one line `{begin}`")
    before, _, rest = page.partition(begin)
    old, end, after = rest.partition(END)
    if not end or "<!-- generated:" in old:
        raise ValueError(f"no line `{END}` closes the block `{begin}`")
    text = content.strip("\n")
    return f"{before}{begin}\n{text}\n{END}{after}"
