"""The step that a streamed job has reached, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from oaibg.output.human.names import is_status, job_name, status_words

if TYPE_CHECKING:
    from oaibg.contract.events import Progress

_STEPS = {
    "code_interpreter_call": "running code",
    "apply_patch_call": "editing files",
    "compaction": "compacting the conversation",
    "computer_call": "using a computer",
    "file_search_call": "searching files",
    "image_generation_call": "generating an image",
    "local_shell_call": "running a command",
    "mcp_approval_request": "waiting for approval",
    "reasoning": "thinking",
    "shell_call": "running a command",
    "tool_search_call": "looking for tools",
    "web_search_call": "searching the web",
}
"""What a job does, by the type of the output item. Types that are missing are shown as they are."""

_STEP_LENGTH = 100

_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)")
"""Markdown's asterisks around words."""


def progress_words(event: Progress) -> str:
    """Return the step that a streamed job has reached, such as `searching the web: rivers`."""
    text = event.text or ""
    is_prose = event.item_type in ("reasoning", "message")
    about = _first_line(_EMPHASIS.sub(r"\2", text) if is_prose else text)
    has_failed = event.type.endswith(".failed")
    match event.item_type:
        case None:
            state = event.type.removeprefix("response.")
            return status_words(state) if is_status(state) else "working"
        case "message":
            verb = "refused" if event.type == "response.refusal.done" else "says"
            return f"{verb}: {about}" if about else "writing the answer"
        case "mcp_list_tools":
            server, _, error = about.partition(": ")
            words = f"listing the tools of {server or 'a server'}"
            about, has_failed = error, has_failed or error != ""
        case "function_call" | "custom_tool_call" | "mcp_call":
            words, about = f"calling {about or 'a tool'}", ""
        case item_type:
            words = _STEPS.get(item_type, status_words(item_type))
    words = f"{words} failed" if has_failed else words
    return f"{words}: {about}" if about else words


def is_news(event: Progress, last: Progress | None) -> bool:
    """Whether a step says more than the last one; the end of the same item may say less."""
    if last is None or job_name(event) != job_name(last) or event.item_type != last.item_type:
        return True
    ends = event.type == "response.output_item.done" and event.text is None
    return not ends and progress_words(event) != progress_words(last)


def _first_line(text: str) -> str:
    """Return the first line of a text, cut to a readable length; `…` stands for the rest."""
    whole = text.strip()
    first = whole.partition("\n")[0].strip()[:_STEP_LENGTH]
    return first if first == whole else f"{first} …"
