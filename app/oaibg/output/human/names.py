"""The names and the statuses of jobs, in their styles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from oaibg.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oaibg.contract.events import Event

GOOD, BAD, CAUTION, STRONG, FAINT = "green", "red", "yellow", "bold", "dim"
"""Styles: names are strong, statuses have a color, and IDs and details are faint.

The words alone say everything, so all other text has the terminal's own color.
"""

_STATUS_STYLES = {
    "in_progress": "cyan",
    "queued": "cyan",
    "completed": GOOD,
    "needs_action": CAUTION,
    **dict.fromkeys(("cancelled", "not_submitted", "outcome_unknown", "unknown"), CAUTION),
    **dict.fromkeys(("failed", "expired", "incomplete"), BAD),
    **dict.fromkeys(("refused", "not_found", "missing"), BAD),
}


def plain(text: str, style: str = "") -> Text:
    """Return untrusted text on one line, never read as markup or control."""
    return Text().append(one_line(text), style)


def job_name(event: Event) -> str | None:
    """Return the job's name: its `custom_id` in a jobs file, its key or label, or its ID."""
    return event.of or (event.response_id and (event.known_as or event.response_id))


def title(event: Event) -> Text:
    """Return the job's key or label, if it has one, and its ID."""
    name = event.of or event.known_as
    id_ = plain(event.response_id or "", FAINT)
    return id_ if name is None else plain(name, STRONG).append("  ").append(id_)


def status_words(status: str | None, unknown: str = "not known yet") -> str:
    """Return a status in words: `in progress`."""
    return unknown if status is None else status.replace("_", " ")


def status_text(status: str | None, unknown: str = "not known yet") -> Text:
    """Return a status in its color."""
    return plain(status_words(status, unknown), status_style(status))


def status_style(status: str | None) -> str:
    """Return the color of a status."""
    return _STATUS_STYLES.get(str(status), "")


def is_status(name: str) -> bool:
    """Whether oaibg knows the status."""
    return name in _STATUS_STYLES


def status_count(status: str | None, count: int) -> Text:
    """Return a count such as `3 completed` in the color of the status."""
    return plain(f"{count:,} {_counted(status, count)}", status_style(status))


def counted(counts: Iterable[tuple[str, int]]) -> Text:
    """Return counts such as `3 completed, 1 failed`, in the colors of the statuses."""
    return Text(", ").join(status_count(*one) for one in counts if one[1]) or Text("No jobs")


def _counted(status: str | None, count: int) -> str:
    return "need action" if status == "needs_action" and count > 1 else status_words(status)
