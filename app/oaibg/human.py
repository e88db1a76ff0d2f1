"""The Rich renderer: progress on stderr, the answer on stdout. The only importer of `rich`."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from oaibg import events
from oaibg.text import inert, utf8

if TYPE_CHECKING:
    from oaibg.events import Event
    from oaibg.output import Stdout


class _Stderr(Console):
    """A console whose broken pipe ends nothing: the run does not depend on stderr."""

    def on_broken_pipe(self) -> None:
        """Go on."""


class Human:
    """Shows events to a person. Text from elsewhere is never read as markup or control."""

    def __init__(self, stdout: Stdout) -> None:
        self._stdout = stdout
        self._console = _Stderr(stderr=True, highlight=False, soft_wrap=True)

    def write(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, events.OutputText):
            text = inert(event.text)
            self._stdout.write(utf8(text if text.endswith("\n") else f"{text}\n"))
            return
        if isinstance(event, events.OutputTextDelta):
            return  # the whole text comes at the end
        if isinstance(event, events.DryRun):
            self._stdout.write(json.dumps(event.body, indent=2).encode() + b"\n")
        style, line = _line(event)
        self._say(line, style)
        hint = getattr(event, "hint", None)
        if hint:
            self._say(hint)
        command = getattr(event, "next", None)
        if command:
            self._say(f"Next: {shlex.join(command)}", "bold")

    def _say(self, line: str, style: str = "") -> None:
        try:
            self._console.print(Text(inert(line), style=style))
        except OSError:
            return  # stderr is gone; the run does not depend on it


def _line(event: Event) -> tuple[str, str]:
    """The style and the words for an event."""
    match event:
        case events.SubmitStart():
            return "", f"Submitting to {event.model or 'the default model'} …"
        case events.Submitted():
            how = "Reattached to" if event.reattached else "Submitted"
            return "bold", f"{how} {event.response_id}: {event.status}"
        case events.Poll():
            following = event.next_poll_seconds
            more = "" if following is None else f", next look in {_seconds(following)}"
            return "", f"{_seconds(event.elapsed_seconds)}  {event.status}{more}"
        case events.SubmitError() | events.PollError():
            return "yellow", (
                f"{_seconds(event.elapsed_seconds)}  {event.error.message}; "
                f"trying again in {_seconds(event.retry_in_seconds)}"
            )
        case events.Progress():
            step = event.type.removeprefix("response.").replace("_", " ").replace(".", " ")
            told = event.item_type is None or "_call." in event.type
            return "", step if told else f"{step} ({event.item_type})"
        case events.WroteJson() | events.WroteText():
            return "", f"Wrote {event.path} ({event.bytes:,} bytes)"
        case events.OutputTextMissing():
            return "yellow", "The response has no output text."
        case events.Warning():
            return "yellow", f"Warning: {event.message}"
        case events.Final():
            return _final(event)
        case events.Timeout():
            return "yellow", f"Still {event.status or 'running'} when the wait was over."
        case events.Interrupted():
            return "yellow", f"Interrupted by {event.signal}; {_fate(event)}."
        case events.Error():
            return "bold red", f"Error: {event.message}"
        case events.Detached():
            return "", f"{event.response_id} is left to run."
        case events.CancelResult():
            fate = "is cancelled" if event.cancelled else f"is not cancelled: {event.status}"
            return "bold", f"{event.response_id} {fate}"
        case events.Response():
            shown = event.response or {}
            reason = _reason(shown.get("error")) or _reason(shown.get("incomplete_details"))
            return "bold", f"{event.response_id}: {event.status}{reason}"
        case events.ListedJob():
            return "", (
                f"{event.created_at}  {event.status or '-':<16} {event.model or '-':<12} "
                f"{event.response_id or '-'}  {event.job_key or ''}"
            )
        case events.Summary():
            counted = ", ".join(f"{number} {status}" for status, number in event.counts.items())
            return "bold", counted or "No jobs."
        case events.DryRun():
            return "", f"Would send {event.method} {event.url} ({event.request_sha256})"
        case _:
            return "", event.event


def _final(event: events.Final) -> tuple[str, str]:
    reason = _reason(event.error) or _reason(event.incomplete_details)
    tokens = (event.usage or {}).get("output_tokens")
    told = f", {tokens:,} output tokens" if isinstance(tokens, int) else ""
    line = f"{event.response_id}: {event.status} after {_seconds(event.elapsed_seconds)}{told}"
    return ("bold green" if event.ok else "bold red"), f"{line}{reason}"


def _fate(event: events.Interrupted) -> str:
    if event.job_cancelled:
        return "the job is cancelled"
    if event.outcome == "unknown":
        return "a job may have been created, and may be billed"
    return "the job goes on" if event.response_id else "nothing was sent"


def _reason(detail: Any) -> str:
    if not isinstance(detail, dict):
        return ""
    told = detail.get("message") or detail.get("reason") or detail.get("code")
    return f" ({told})" if told else ""


def _seconds(seconds: float) -> str:
    """`12 s`, `3 min 05 s` or `2 h 03 min`."""
    whole = int(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
