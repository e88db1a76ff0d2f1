"""The life of a job as a pure function of time: its status, its payload, its stream of events.

Nothing runs in the background: whoever asks gives the time, in unix seconds. A third of a job's
time it is queued, then in progress, then it has ended. The request's `metadata` can say how:

- `sandbox_seconds`: how long it takes in all, such as "0.5"
- `sandbox_outcome`: completed, failed, incomplete, cancelled, expired, or stuck (never ends)
- `sandbox_text`: the exact output text
- `sandbox_bytes`: an output text of that many bytes
- `sandbox_empty`: any value but "false": it completes without an output text
- `sandbox_tools`: how often it searches the web before it answers, such as "3" (default: never)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .personality import DEFAULT, Personality
from .samples import sample

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTCOMES = ("completed", "failed", "incomplete", "cancelled", "expired", "stuck")

Event = dict[str, Any]

_Show = Callable[[str], dict[str, Any]]

_MOST_BYTES = 1_000_000_000
_MOST_TOOLS = 1000
_LONGEST_DELTA = 65_536
_REASONING_TOKENS = 64
_FILLER = "The sandbox repeats this line until the text is as long as was asked.\n"


@dataclass
class Job:
    """One response: what was asked, what it will become, and whether it was cancelled."""

    id: str
    request: Mapping[str, Any]
    """The body of the create."""
    created: float
    """Unix seconds."""
    seconds: float
    outcome: str
    text: str | None
    """The whole output text, even while it is not out yet; None where there will be none."""
    searches: int = 0
    """How many web searches come before the answer."""
    unstreamed: bool = False
    """Whether the server took no notice of `stream=true`."""
    cancelled: float | None = None
    """When it was cancelled, in unix seconds."""
    overtaken: bool = False
    """Whether the cancel does not hold: it ends all the same once its time is over."""
    watchers: set[Callable[[], None]] = field(default_factory=set, repr=False, compare=False)
    """Called after every change of a field, in the thread that made it."""

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field, and tell those who wait for the job."""
        super().__setattr__(name, value)
        for changed in tuple(self.__dict__.get("watchers", ())):
            changed()

    @property
    def background(self) -> bool:
        """Whether the create asked for background mode."""
        return self.request.get("background") is True

    @property
    def streamable(self) -> bool:
        """Whether its events can be read again later."""
        return self.background and self.request.get("stream") is True and not self.unstreamed

    @property
    def started(self) -> float:
        """When it leaves the queue, in unix seconds."""
        return self.created + (self.seconds / 3 if self.background else 0)

    @property
    def ended(self) -> float:
        """When it ends if nobody cancels it, in unix seconds; infinite for a stuck one."""
        return math.inf if self.outcome == "stuck" else self.created + self.seconds

    def status(self, now: float) -> str:
        """Return its status at `now`."""
        cancelled = self.cancelled is not None and now >= self.cancelled
        if cancelled and not (self.overtaken and now >= self.ended):
            return "cancelled"
        if now < self.started:
            return "queued"
        return "in_progress" if now < self.ended else self.outcome

    def cancel(self, now: float, *, overtaken: bool = False) -> bool:
        """Cancel it; False where it has ended otherwise, and stays as it is."""
        status = self.status(now)
        if status in ("queued", "in_progress"):
            self.overtaken = overtaken
            self.cancelled = now
        return status in ("queued", "in_progress", "cancelled")

    def payload_as(self, status: str) -> dict[str, Any]:
        """Return the response object as the API shows it while it has `status`."""
        done = status == "completed"
        partial = status == "incomplete"
        tier = self._settings["service_tier"]
        running = status in ("queued", "in_progress")
        return {
            "id": self.id,
            "object": "response",
            "created_at": int(self.created),
            "status": status,
            "background": self.background,
            "billing": {"payer": "developer"},
            "completed_at": int(self.ended) if done else None,
            "error": _FAILURE if status == "failed" else None,
            "frequency_penalty": 0.0,
            "incomplete_details": {"reason": "max_output_tokens"} if partial else None,
            **self._settings,
            "output": self._output(status, self.text) if done or partial else [],
            "presence_penalty": 0.0,
            "service_tier": "default" if tier == "auto" and not running else tier,
            "usage": self.usage if done or partial else None,
            "metadata": self.request.get("metadata") or {},
        }

    def partial_output(self) -> list[dict[str, Any]]:
        """Return the output as it may be seen while the job is in progress: half of the text."""
        text = self.text and self.text[: math.ceil(len(self.text) / 2)]
        return self._output("in_progress", text)

    def timeline(self, show: _Show | None = None) -> list[tuple[float, Event]]:
        """Return all its stream events with their time (unix seconds), in order.

        `show` gives the response of an event by its status, in place of `payload_as`.

        `sequence_number` counts from 0. A cancelled job's events end at the cancel, with a
        `response.failed`: the API has no event of its own for it.
        """
        show = show or self.payload_as
        steps = self._steps(show)
        if self.cancelled is not None:
            steps = [step for step in steps if step[0] <= self.cancelled]
            failed = _event("response.failed", response=show("cancelled"))
            steps.append((self.cancelled, failed))
        for number, (_, event) in enumerate(steps):
            event["sequence_number"] = number
        return steps

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """What the API echoes of the request, with its defaults filled in."""
        return settings(self.request)

    @cached_property
    def usage(self) -> dict[str, Any]:
        """The tokens that it will have used."""
        source = json.dumps([self.request.get("instructions"), self.request.get("input")])
        tokens_in = max(1, len(source) // 4)
        tokens_out = _REASONING_TOKENS + math.ceil(len(self.text or "") / 4)
        return {
            "input_tokens": tokens_in,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": tokens_out,
            "output_tokens_details": {"reasoning_tokens": _REASONING_TOKENS},
            "total_tokens": tokens_in + tokens_out,
        }

    def _output(self, status: str, text: str | None) -> list[dict[str, Any]]:
        items = [self._reasoning(), *(self._search(place) for place in range(self.searches))]
        if text is not None:
            items.append(self._message(status, [_part(text)]))
        return items

    def _reasoning(self) -> dict[str, Any]:
        return {"id": item_id("rs", self.id), "type": "reasoning", "summary": []}

    def _search(self, place: int, status: str = "completed") -> dict[str, Any]:
        query = f"sandbox {place + 1}"
        return {
            "id": item_id("ws", f"{self.id}{place}"),
            "type": "web_search_call",
            "status": status,
            "action": {"type": "search", "query": query, "queries": [query]},
        }

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": item_id("msg", self.id),
            "type": "message",
            "status": status,
            "content": content,
            "role": "assistant",
        }

    def _steps(self, show: _Show) -> list[tuple[float, Event]]:
        """Return the events of an undisturbed life, with their times."""
        first = "queued" if self.background else "in_progress"
        steps = [(self.created, _event("response.created", response=show(first)))]
        if self.background:
            steps.append((self.created, _event("response.queued", response=show(first))))
        progress = _event("response.in_progress", response=show("in_progress"))
        steps.append((self.started, progress))
        if self.outcome == "stuck":
            return steps
        items = self._item_events() if self.outcome in ("completed", "incomplete") else []
        gap = (self.ended - self.started) / (len(items) + 1)
        steps += [(self.started + gap * place, event) for place, event in enumerate(items, 1)]
        known = self.outcome in ("completed", "incomplete")
        name = f"response.{self.outcome}" if known else "response.failed"
        steps.append((self.ended, _event(name, response=show(self.outcome))))
        return steps

    def _item_events(self) -> list[Event]:
        thought = self._reasoning()
        events = [
            _event("response.output_item.added", output_index=0, item=thought),
            _event("response.output_item.done", output_index=0, item=thought),
        ]
        for place in range(self.searches):
            events += self._search_events(place)
        if self.text is None:
            return events
        index = 1 + self.searches
        where = {"item_id": item_id("msg", self.id), "output_index": index, "content_index": 0}
        begun, whole = _part(""), _part(self.text)
        return [
            *events,
            _event(
                "response.output_item.added",
                output_index=index,
                item=self._message("in_progress", []),
            ),
            _event("response.content_part.added", **where, part=begun),
            *(
                _event("response.output_text.delta", **where, delta=delta, logprobs=[])
                for delta in _pieces(self.text)
            ),
            _event("response.output_text.done", **where, text=self.text, logprobs=[]),
            _event("response.content_part.done", **where, part=whole),
            _event(
                "response.output_item.done",
                output_index=index,
                item=self._message(self.outcome, [whole]),
            ),
        ]

    def _search_events(self, place: int) -> list[Event]:
        begun, done = self._search(place, "in_progress"), self._search(place)
        index = 1 + place
        return [
            _event("response.output_item.added", output_index=index, item=begun),
            *(
                _event(f"response.web_search_call.{step}", output_index=index, item_id=done["id"])
                for step in ("in_progress", "searching", "completed")
            ),
            _event("response.output_item.done", output_index=index, item=done),
        ]


def new_job(
    request: Mapping[str, Any], now: float, seconds: float, personality: Personality = DEFAULT
) -> Job:
    """Make the job of a valid create; `seconds` is how long it takes unless metadata says so.

    Its id is of the personality's shape, and where that ignores `stream`, so does the job.

    Raises `ValueError` where a `sandbox_` entry of the metadata makes no sense.
    """
    metadata: Mapping[str, str] = request.get("metadata") or {}
    outcome = metadata.get("sandbox_outcome", "completed")
    if outcome not in OUTCOMES:
        raise ValueError(f"sandbox_outcome must be one of {', '.join(OUTCOMES)}")
    if "sandbox_seconds" in metadata:
        seconds = as_number(metadata["sandbox_seconds"], "sandbox_seconds", math.inf)
    return Job(
        id=personality.new_id(),
        request=request,
        created=now,
        seconds=seconds,
        outcome=outcome,
        text=_text(request, metadata, outcome),
        searches=_count(metadata.get("sandbox_tools", "0"), "sandbox_tools", _MOST_TOOLS),
        unstreamed=personality.stream == "ignored",
    )


def settings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a response object that echoes its request."""

    def given(key: str, default: object = None) -> Any:
        value = request.get(key)
        return default if value is None else value

    tier = given("service_tier", "auto")
    return {
        "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"),
        "max_tool_calls": given("max_tool_calls"),
        "model": given("model", "gpt-5.2"),
        "parallel_tool_calls": given("parallel_tool_calls", True),
        "previous_response_id": given("previous_response_id"),
        "prompt_cache_key": given("prompt_cache_key"),
        "prompt_cache_retention": given("prompt_cache_retention"),
        "reasoning": {"effort": "medium", "summary": None, **given("reasoning", {})},
        "safety_identifier": given("safety_identifier"),
        "service_tier": "priority" if tier == "fast" else tier,
        "store": given("store", True),
        "temperature": given("temperature", 1.0),
        "text": {
            "verbosity": "medium",
            **given("text", {}),
            "format": _format(given("text", {}).get("format")),
        },
        "tool_choice": given("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in given("tools", [])],
        "top_logprobs": given("top_logprobs", 0),
        "top_p": given("top_p", 1.0),
        "truncation": given("truncation", "disabled"),
        "user": given("user"),
        **{key: request[key] for key in ("prompt", "image") if request.get(key) is not None},
    }


def input_items(job: Job) -> list[dict[str, Any]]:
    """Return the input of a job as the items that the API lists, oldest first."""
    given = job.request.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_item(one, item_id("msg", f"{job.id}{place}")) for place, one in enumerate(given or [])]


def item_id(prefix: str, seed: str) -> str:
    """Return the id of an item: the prefix and 50 hex characters that depend on `seed` alone."""
    return f"{prefix}_{hashlib.sha256(seed.encode()).hexdigest()[:50]}"


def as_number(value: str, name: str, highest: float) -> float:
    """Read a number of the metadata; raise `ValueError` that names it where it is none."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (0 <= number <= highest and number < math.inf):
        raise ValueError(f"{name} must be a number, 0 or more")
    return number


_FAILURE = {"code": "server_error", "message": "The model failed to generate a response."}


def _event(kind: str, **fields: Any) -> Event:
    return {"type": kind, "sequence_number": 0, **fields}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _pieces(text: str) -> list[str]:
    size = min(max(4, math.ceil(len(text) / 16)), _LONGEST_DELTA)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _text(request: Mapping[str, Any], metadata: Mapping[str, str], outcome: str) -> str | None:
    """Return what the job will say; half of it where it ends incomplete."""
    if metadata.get("sandbox_empty", "false") != "false":
        return None
    text = metadata.get("sandbox_text")
    if "sandbox_bytes" in metadata:
        size = int(as_number(metadata["sandbox_bytes"], "sandbox_bytes", _MOST_BYTES))
        text = (_FILLER * (size // len(_FILLER) + 1))[:size]
    elif text is None:
        text = _answer(request)
    return text[: math.ceil(len(text) / 2)] if outcome == "incomplete" else text


def _answer(request: Mapping[str, Any]) -> str:
    wanted = (request.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(sample(wanted["schema"]), ensure_ascii=False)
    if wanted.get("type") == "json_object":
        return '{"answer": "sandbox"}'
    asked = _last_user_text(request.get("input"))
    if len(asked) > 200:
        asked = f"{asked[:200]}…"
    return f'The sandbox has no model to ask. You said: "{asked}"'


def _last_user_text(given: object) -> str:
    if isinstance(given, str):
        return given
    for item in reversed(given if isinstance(given, list) else []):
        if isinstance(item, dict) and item.get("role") == "user":
            content = item.get("content")
            if isinstance(content, str):
                return content
            parts = [part for part in content or [] if isinstance(part, dict)]
            return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return ""


def _count(value: str, name: str, highest: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 16 and int(value) <= highest):
        raise ValueError(f"{name} must be a whole number, 0 to {highest}")
    return int(value)


def _format(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {"type": "text"}
    if given.get("type") == "json_schema":
        return {"description": None, "strict": True, **given}
    return dict(given)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    return dict(tool)


def _item(given: Mapping[str, Any], new_id: str) -> dict[str, Any]:
    if given.get("type", "message") != "message":
        return {"id": new_id, **given}
    content = given.get("content")
    role = given.get("role")
    if isinstance(content, str):
        part = {"type": "input_text", "text": content}
        content = [_part(content) if role == "assistant" else part]
    return {"id": new_id, "status": "completed", **given, "type": "message", "content": content}
