"""Settings and input → the exact body of `responses.create`, and its hash."""

from __future__ import annotations

import hashlib
import json
from math import isinf
from typing import Any

from oaibg.base.json_text import value_at
from oaibg.base.record import Record
from oaibg.contract.errors import UsageError

OMIT = "omit"
"""The value of a setting that leaves its field out of the request."""

_OURS = ("background", "stream")


class Settings(Record):
    """What goes into a request beside its input; None leaves a field out."""

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
    body: dict[str, Any] | None = None


class Request(Record):
    """A request that can be sent: its body, and the hash of the body's canonical JSON.

    Whether the answer is streamed is a matter of transport, and in neither of them: a job key
    finds its job with `--stream` and without.
    """

    body: dict[str, Any]
    sha256: str

    def sent_body(self, *, stream: bool) -> dict[str, Any]:
        """The body as it goes out."""
        return {**self.body, "stream": True} if stream else self.body

    def text_of(self, *path: str) -> str | None:
        """The text at a path of keys in the body; None where there is none."""
        value = value_at(self.body, *path)
        return value if isinstance(value, str) else None


def build_request(given: str | list[Any], settings: Settings) -> Request:
    """The request that a submit sends.

    Args:
        given: the `input` field, validated.
        settings: the rest; `body` is merged over the request last (RFC 7396).

    Raises:
        UsageError: the body file sets what this tool decides, or something can't be sent as JSON.
    """
    return _request({"input": given}, settings)


def fill_request(body: dict[str, Any], settings: Settings, *, background: bool = True) -> Request:
    """The request that a line of a jobs file is.

    Args:
        body: what stands in the line. It goes out as it stands, but for `background`.
        settings: fill what it lacks, also inside of `text`, `reasoning` and `metadata`.
        background: whether it is to run in background mode; a batch's lines are not.

    Raises:
        UsageError: as `build_request`, for either of the two bodies.
    """
    _check_ours(body, "body", allowed=("background", True))
    return _request({key: body[key] for key in body if key not in _OURS}, settings, background)


def _request(body: dict[str, Any], settings: Settings, background: bool = True) -> Request:
    text: dict[str, Any] = {"format": settings.text_format or {"type": "text"}}
    if settings.verbosity != OMIT:
        text["verbosity"] = settings.verbosity
    fill: dict[str, Any] = {"model": settings.model, "text": text}
    if settings.reasoning_effort != OMIT:
        fill["reasoning"] = {"effort": settings.reasoning_effort}
    window = settings.completion_window
    optional = {
        "background": background or None,
        "instructions": settings.instructions,
        "max_output_tokens": settings.max_output_tokens,
        "background_options": window and {"completion_window": window},
        "previous_response_id": settings.previous_response_id,
        "tools": settings.tools,
        "metadata": settings.metadata or None,
    }
    fill |= {key: value for key, value in optional.items() if value is not None}
    patch = settings.body or {}
    _check_ours(patch, "--body-json-file")
    body = merge_patch(_filled(body, fill), patch)
    return Request(body=body, sha256=hashlib.sha256(canonical_json(body)).hexdigest())


def _filled(body: dict[str, Any], fill: dict[str, Any]) -> dict[str, Any]:
    """`body` with what it lacks; a null stays one."""
    filled = fill | body
    for key in ("text", "reasoning", "metadata"):
        if isinstance(body.get(key), dict) and key in fill:
            filled[key] = fill[key] | body[key]
    return filled


def _check_ours(
    body: dict[str, Any], where: str, *, allowed: tuple[str, Any] | None = None
) -> None:
    for key in _OURS:
        if key in body and (key, body[key]) != allowed:
            raise UsageError(
                f"{where}: `{key}` can't be set there: every job runs in background mode."
            )


def merge_patch(target: Any, patch: Any) -> Any:
    """`patch` merged over `target`, both left as they are (RFC 7396)."""
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
    """Sorted keys, no white space, UTF-8: the same bytes for the same value.

    Raises:
        UsageError: a lone surrogate, a number beyond the range of JSON's readers, or nesting
            too deep to be written.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except UnicodeEncodeError as error:
        where = _path_to(value, _has_surrogate)
        raise UsageError(
            f"The request can't be sent: {where} has text that is not Unicode (a lone surrogate)."
        ) from error
    except ValueError as error:
        where = _path_to(value, _is_infinite)
        raise UsageError(
            f"The request can't be sent: {where}: a number is out of range."
        ) from error
    except RecursionError as error:
        raise UsageError("The request can't be sent: it is nested too deeply.") from error


def _is_infinite(leaf: object) -> bool:
    return isinstance(leaf, float) and isinf(leaf)


def _has_surrogate(leaf: object) -> bool:
    return isinstance(leaf, str) and any("\ud800" <= char <= "\udfff" for char in leaf)


def _path_to(value: Any, wanted: Any, path: str = "") -> str:
    """Where the first wanted leaf stands, as `input[0].content`; empty where there is none."""
    if isinstance(value, dict):
        for key, entry in value.items():
            inner = f"{path}.{key}".lstrip(".").encode("ascii", "backslashreplace").decode()
            found = inner if wanted(key) else _path_to(entry, wanted, inner)
            if found:
                return found
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            if found := _path_to(entry, wanted, f"{path}[{index}]"):
                return found
    elif wanted(value):
        return path
    return ""
