"""Builds the exact body of `responses.create` from settings and input, and hashes it."""

from __future__ import annotations

import hashlib
import json
from math import isinf
from typing import TYPE_CHECKING, Any

from oaibg.base.json_text import string, value_at
from oaibg.base.record import Record
from oaibg.base.text import has_surrogates
from oaibg.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

OMIT = "omit"
"""The value of an option that leaves its field out of the request."""

_OURS = {
    "background": (True, "every job runs in background mode"),
    "stream": (False, "use --stream instead"),
}
"""The fields that a body can't set, with the only value that it may contain, and why."""

WITHOUT_INPUT = ("previous_response_id", "conversation", "prompt")
"""Fields of which one allows a request without an input, or with an empty one."""


class Settings(Record):
    """The fields of a request other than its input; None leaves a field out."""

    model: str
    reasoning_effort: str
    verbosity: str
    instructions: str | None = None
    max_output_tokens: int | None = None
    completion_window: str | None = None
    previous_response_id: str | None = None
    tools: list[Any] | None = None
    text_format: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    include: list[str] | None = None
    body: dict[str, Any] | None = None


class Request(Record):
    """A request that can be sent: its body, and the hash of the body's canonical JSON.

    Neither contains `stream`, so that a job key finds its job with and without `--stream`.
    """

    body: dict[str, Any]
    sha256: str

    def sent_body(self, *, stream: bool) -> dict[str, Any]:
        """Return the body that is sent."""
        return {**self.body, "stream": True} if stream else self.body

    @property
    def include(self) -> tuple[str, ...]:
        """The values of `include`, which retrieves have to send, too."""
        values = self.body.get("include")
        given = values if isinstance(values, list) else []
        return tuple(value for value in given if isinstance(value, str))

    @property
    def completion_window(self) -> str | None:
        """The completion window of the job, whether an option or the body set it."""
        return self.text_of("background_options", "completion_window")

    def text_of(self, *path: str) -> str | None:
        """Return the string at a path of keys in the body, or None."""
        return string(value_at(self.body, *path))


def build_request(given: str | list[Any] | None, settings: Settings) -> Request:
    """Return the request for a validated `input`; `settings.body` is merged over it last.

    Without an input, that body has it. Raises `UsageError` if the body sets a field that oaibg
    sets, if the input is empty, or if JSON can't carry a value.
    """
    return _request({} if given is None else {"input": given}, settings)


def fill_request(body: dict[str, Any], settings: Settings, *, background: bool = True) -> Request:
    """Return the request of a line of a jobs file; raises as `build_request`, for either body.

    The line's body is sent unchanged, except that `background` is set, or removed for a batch.
    `settings` fill in missing fields, also inside `text`, `reasoning` and `metadata`.
    """
    return _request(_without_ours(body, "body"), settings, background)


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `patch` merged over `target` (RFC 7396); neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys, without white space, in UTF-8: equal values give equal bytes.

    Raises `UsageError` for a lone surrogate, an infinite number, and too deep nesting.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except UnicodeEncodeError as error:
        cause: Exception = error
        place = _path_to(value, lambda leaf: isinstance(leaf, str) and has_surrogates(leaf))
        why = f"{place} contains a lone surrogate, which is not valid Unicode"
    except ValueError as error:
        cause = error
        place = _path_to(value, lambda leaf: isinstance(leaf, float) and isinf(leaf))
        why = f"{place} is a number that is out of range"
    except RecursionError as error:
        cause, why = error, "it is nested too deeply"
    raise UsageError(f"The request can't be sent: {why}.") from cause


def _request(body: dict[str, Any], settings: Settings, background: bool = True) -> Request:
    text: dict[str, Any] = {"format": settings.text_format or {"type": "text"}}
    if settings.verbosity != OMIT:
        text["verbosity"] = settings.verbosity
    effort, window = settings.reasoning_effort, settings.completion_window
    fields = {
        "model": settings.model,
        "text": text,
        "reasoning": None if effort == OMIT else {"effort": effort},
        "background": background or None,
        "instructions": settings.instructions,
        "max_output_tokens": settings.max_output_tokens,
        "background_options": window and {"completion_window": window},
        "previous_response_id": settings.previous_response_id,
        "tools": settings.tools,
        "metadata": settings.metadata or None,
        "include": settings.include,
    }
    fill = {key: value for key, value in fields.items() if value is not None}
    patch = _without_ours(settings.body or {}, "--body-json-file")
    body = merge_patch(_filled(body, fill), patch)
    if body.get("input") in (None, "", []) and not any(body.get(key) for key in WITHOUT_INPUT):
        raise UsageError(
            "The request can't be sent: input is missing or empty, which is only allowed with "
            "`previous_response_id`, `conversation` or `prompt`."
        )
    return Request(body=body, sha256=hashlib.sha256(canonical_json(body)).hexdigest())


def _filled(body: dict[str, Any], fill: dict[str, Any]) -> dict[str, Any]:
    """Return `body` with its missing fields filled in; a null counts as present."""
    filled = fill | body
    for key in ("text", "reasoning", "metadata"):
        if isinstance(body.get(key), dict) and key in fill:
            filled[key] = fill[key] | body[key]
    return filled


def _without_ours(body: dict[str, Any], place: str) -> dict[str, Any]:
    """Return a body without the fields that oaibg sets; raises `UsageError` for other values."""
    for key, (allowed, reason) in _OURS.items():
        if key in body and body[key] is not allowed:
            raise UsageError(f"{place}: remove `{key}`; {reason}.")
    return {key: value for key, value in body.items() if key not in _OURS}


def _path_to(value: Any, is_wanted: Callable[[object], bool], path: str = "") -> str:
    """Return the path of the first wanted leaf, such as `input[0].content`; empty if none."""
    if isinstance(value, dict):
        for key, entry in value.items():
            inner = f"{path}.{key}".lstrip(".").encode("ascii", "backslashreplace").decode()
            found = inner if is_wanted(key) else _path_to(entry, is_wanted, inner)
            if found:
                return found
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            if found := _path_to(entry, is_wanted, f"{path}[{index}]"):
                return found
    elif is_wanted(value):
        return path
    return ""
