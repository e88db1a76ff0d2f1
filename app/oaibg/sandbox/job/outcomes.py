"""The output of each outcome: which items a job has when it ends.

To add an outcome, add it to `OUTCOMES` in `oaibg.sandbox.job.metadata`, and its output to
`_OUTPUTS` here. If it has a new type of item, `oaibg.sandbox.job.item_events` has its stream
events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.job.container import Container
from oaibg.sandbox.job.items import item_id, message, reasoning, search, text_part
from oaibg.sandbox.job.text import FILENAME, PATH
from oaibg.sandbox.schema_sample import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from oaibg.sandbox.job.items import Item
    from oaibg.sandbox.job.job import Job

CODE_OUTPUTS = "code_interpreter_call.outputs"
"""The value of `include` that shows the outputs of the code interpreter."""

_COMMENTARY = "I'll check the data first."
_SUMMARY = (
    "**Reading the question**\n\nThe user wants an answer from a server without a model.",
    "**Choosing an answer**\n\nThe sandbox repeats what it was asked.",
)
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mOQL98CAAIDAUsVACGhAAAAAElFTkSuQmCC"
)
"""A PNG image of one pixel, in Base64."""


@dataclass(frozen=True, slots=True)
class View:
    """What one reply shows of a job."""

    job: Job
    status: str
    text: str | None
    """The text of its message; None if it has none."""
    include: Collection[str] = field(default=())
    """The `include` of the request, which adds fields to some items."""


def output_items(view: View) -> list[Item]:
    """Return the output of a job."""
    return _OUTPUTS.get(view.job.outcome, _answer)(view)


def output_at(job: Job, now: float) -> list[Item]:
    """Return the output of a job at `now`; nothing unless it has completed."""
    done = job.status(now) == "completed"
    return output_items(View(job, "completed", job.text)) if done else []


def _start(view: View, summary: Iterable[str] = ()) -> list[Item]:
    """Return the items with which every output starts."""
    searches = range(view.job.searches)
    return [
        reasoning(view.job, summary),
        *(search(view.job, place, view.include) for place in searches),
    ]


def _end(
    view: View, *annotations: Mapping[str, Any], refuses: bool = False, phase: str | None = None
) -> list[Item]:
    """Return the message with the text; nothing without a text."""
    if view.text is None:
        return []
    refusal = {"type": "refusal", "refusal": view.text}
    part = refusal if refuses else text_part(view.text, *annotations)
    return [message(view.job, view.status, part, phase)]


def _answer(view: View) -> list[Item]:
    return [*_start(view), *_end(view)]


def _function_call(view: View) -> list[Item]:
    tool = _first_tool(view.job, "function")
    arguments = {"city": "Paris"} if tool is None else sample(tool.get("parameters"))
    call = {
        "id": item_id("fc", view.job.id),
        "type": "function_call",
        "status": view.status,
        "arguments": json.dumps(arguments or {}, ensure_ascii=False),
        "call_id": _call_id(view.job),
        "name": "get_weather" if tool is None else tool["name"],
    }
    return [*_start(view), call]


def _custom_tool_call(view: View) -> list[Item]:
    call = {
        "id": item_id("ctc", view.job.id),
        "type": "custom_tool_call",
        "call_id": _call_id(view.job),
        "input": "print(1 + 1)",
        "name": (_first_tool(view.job, "custom") or {}).get("name", "run_code"),
    }
    return [*_start(view), call]


def _approval(view: View) -> list[Item]:
    request = {
        "id": item_id("mcpr", view.job.id),
        "type": "mcp_approval_request",
        "arguments": '{"path":"notes.txt"}',
        "name": "delete_file",
        "server_label": (_first_tool(view.job, "mcp") or {}).get("server_label", "files"),
    }
    return [*_start(view), request]


def _refusal(view: View) -> list[Item]:
    return [*_start(view), *_end(view, refuses=True)]


def _image(view: View) -> list[Item]:
    done = view.status == "completed"
    image = {
        "id": item_id("ig", view.job.id),
        "type": "image_generation_call",
        "status": "completed" if done else "generating",
        "output_format": "png",
        "result": _PNG if done else None,
    }
    return [*_start(view), image]


def _commentary(view: View) -> list[Item]:
    first = message(view.job, "completed", text_part(_COMMENTARY), "commentary")
    return [*_start(view), first, *_end(view, phase="final_answer")]


def _summary(view: View) -> list[Item]:
    return [*_start(view, _SUMMARY), *_end(view)]


def _file(view: View) -> list[Item]:
    container = Container(view.job)
    call = {
        "id": item_id("ci", view.job.id),
        "type": "code_interpreter_call",
        "status": "completed",
        "code": f"open({PATH!r}, 'w').write('x,y\\n1,2\\n')",
        "container_id": container.id,
        "outputs": [{"type": "logs", "logs": "8"}] if CODE_OUTPUTS in view.include else None,
    }
    text = view.text or ""
    link = f"sandbox:{PATH}"
    start = max(text.find(link), 0)
    citation = {
        "type": "container_file_citation",
        "container_id": container.id,
        "file_id": container.file_id,
        "filename": FILENAME,
        "start_index": start,
        "end_index": start + len(link) if link in text else len(text),
    }
    return [*_start(view), call, *_end(view, citation)]


_OUTPUTS: Mapping[str, Callable[[View], list[Item]]] = {
    "function_call": _function_call,
    "custom_tool_call": _custom_tool_call,
    "approval": _approval,
    "refusal": _refusal,
    "image": _image,
    "commentary": _commentary,
    "summary": _summary,
    "file": _file,
}
"""The output of each outcome that has more or less than an answer."""


def _call_id(job: Job) -> str:
    return item_id("call", job.id, 24)


def _first_tool(job: Job, kind: str) -> Mapping[str, Any] | None:
    tools: list[Mapping[str, Any]] = job.request.get("tools") or []
    return next((tool for tool in tools if tool["type"] == kind), None)
