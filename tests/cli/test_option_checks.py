"""The checks of single options: which values they accept, and how they refuse others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

SECONDS = "is not a number of seconds from 0.05 to 1,000,000,000."
LIMIT = f"{SECONDS[:-1]}, or 0 for no limit."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("submit --poll-seconds abc", f"'abc' {SECONDS}"),
        ("submit --poll-seconds 0", f"'0' {SECONDS}"),
        ("submit --poll-seconds 5e-324", f"'5e-324' {SECONDS}"),
        ("submit --poll-seconds 0.049", f"'0.049' {SECONDS}"),
        ("submit --poll-seconds 1e308", f"'1e308' {SECONDS}"),
        ("monitor x --max-wait-seconds nan", f"'nan' {LIMIT}"),
        ("monitor x --max-wait-seconds 1e-9", f"'1e-9' {LIMIT}"),
        ("submit --max-wait-seconds 1e10", f"'1e10' {LIMIT}"),
        ("submit --max-wait-seconds -1", f"'-1' {LIMIT}"),
        ("submit --max-output-tokens many", "'many' is not a whole number of 1 or more."),
        ("submit --max-output-tokens 0", "'0' is not a whole number of 1 or more."),
        ("submit --starting-after -1", "'-1' is not a whole number of 0 or more."),
        (
            "submit --max-in-flight 100001",
            "'100001' is not a whole number from 1 to 100,000, or auto.",
        ),
        ("show --list --limit 1.5", "'1.5' is not a whole number from 1 to 2,147,483,647."),
        ("submit --prompt", "--prompt needs a value: --prompt TEXT."),
        ("submit --dry-run=yes", "--dry-run takes no value."),
    ],
)
def test_invalid_values(run: Callable[..., Result], line: str, message: str) -> None:
    """The usage error for an invalid value says which values are allowed."""
    result = run(*line.split())
    last = result.last
    assert (result.code, result.events, last["code"]) == (2, ["error"], "usage")
    assert message in last["message"]
    assert result.err == f"Error: {last['message']}\n{last['hint']}\n"
