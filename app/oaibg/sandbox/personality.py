"""Personalities: servers that speak the same API and differ in how. Standard library only."""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.errors import ApiError, FieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """How a server differs from OpenAI's. Raises `ValueError` if its fields make no sense.

    The defaults are OpenAI's API. What is not a field of this is the same on all servers: the life
    of a job, what a create checks, the order of a stream's events, and the headers.
    """

    ids: str = "openai"
    """`openai`: `resp_` and 50 hex characters; `uuid`; `long`: some 430 of base64."""
    changing_ids: bool = False
    """Whether every retrieve gives the job another id; it is found by all of its ids."""
    statuses: str = "usual"
    """The status of a running job: `usual`, `queued` until its end, or `in_progress` at once."""
    sparse: bool = False
    """Whether payloads have only `id` and `status`, and `output` at the end."""
    null_output: bool = False
    """Whether `output` is null while a job runs, and not an empty list."""
    partial: bool = False
    """Whether a job that is `in_progress` shows a part of its output."""
    stream: str = "usual"
    """What the server makes of `stream=true`. `refused`: a create and a retrieve give 400, and the
    create makes no job; `ignored`: it answers as if it had not been there; `resume_refused`: a
    create streams, a retrieve gives 400; `cut`: every stream ends, without any error, after 3
    events; `mute`: once a job is cancelled its streams stay open, and their end never comes;
    `gaps`: a stream with `starting_after` repeats the last 2 events before it, and leaves out the 2
    after them, but never the job's last one."""
    incomplete_reason: str = "max_output_tokens"
    errors: str = "envelope"
    """The shape of error bodies. `envelope`: OpenAI's; `number`: the same, with the HTTP status
    as its code; `text`: `{"error": "…"}`; `detail`: `{"detail": "…"}`, and for the fields of a
    create a list of objects with the status 422, as FastAPI has it; `plain`: text/plain."""
    not_found: int = 404
    """The status for an unknown response: 404 or 400."""
    cancel: str = "usual"
    """`refused`: a cancel gives `cancel_status`, and the job continues; `overtaken`: it succeeds,
    and the job ends all the same once its time is over."""
    cancel_status: int = 400
    """The status of a cancel that is `refused`: 400, 404, 409 or 501."""
    batches: bool = True
    """Whether it has the Files and the Batch API; without them their paths are unknown."""

    def __post_init__(self) -> None:
        """Refuse a value that is not a choice of its field, with a message that names the field."""
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                listed = ", ".join(str(choice) for choice in choices)
                raise ValueError(f"{name} must be one of {listed}, not {value!r}")

    def new_id(self) -> str:
        """Return a response id of this server's shape, never the same twice."""
        return _NEW_IDS[self.ids]()

    def error(self, error: ApiError) -> tuple[int, dict[str, Any] | str]:
        """Return an error's status and body as this server sends them: JSON, or plain text."""
        listed = self.errors == "detail" and isinstance(error, FieldError)
        return 422 if listed else error.status, _ERRORS[self.errors](error)


def find_personality(value: Personality | str) -> Personality:
    """Return the personality of that name; a personality is returned as it is.

    Raises `ValueError` for a name that is not in `PERSONALITIES`.
    """
    if isinstance(value, Personality):
        return value
    if value not in PERSONALITIES:
        raise ValueError(f"personality must be one of {', '.join(PERSONALITIES)}, not {value!r}")
    return PERSONALITIES[value]


def _long_id() -> str:
    # As an encrypted token: a byte of version, so that it begins with a letter, then anything.
    return base64.urlsafe_b64encode(b"\x80" + secrets.token_bytes(319)).decode()


def _numbered(error: ApiError) -> dict[str, Any]:
    return {"error": {**error.envelope()["error"], "code": error.status}}


def _detail(error: ApiError) -> dict[str, Any]:
    if not isinstance(error, FieldError):
        return {"detail": error.message}
    steps = re.findall(r"[^.\[\]]+", error.param or "")
    place = [int(step) if step.isdecimal() else step for step in steps]
    kind = error.code or "value_error"
    return {"detail": [{"loc": ["body", *place], "msg": error.message, "type": kind}]}


_NEW_IDS: Mapping[str, Callable[[], str]] = {
    "openai": lambda: f"resp_{secrets.token_hex(25)}",
    "uuid": lambda: str(uuid.uuid4()),
    "long": _long_id,
}

_ERRORS: Mapping[str, Callable[[ApiError], dict[str, Any] | str]] = {
    "envelope": ApiError.envelope,
    "number": _numbered,
    "text": lambda error: {"error": error.message},
    "detail": _detail,
    "plain": lambda error: error.message,
}

CHOICES: Mapping[str, tuple[str | int, ...]] = {
    "ids": tuple(_NEW_IDS),
    "statuses": ("usual", "queued", "in_progress"),
    "stream": ("usual", "refused", "ignored", "resume_refused", "cut", "mute", "gaps"),
    "errors": tuple(_ERRORS),
    "not_found": (404, 400),
    "cancel": ("usual", "refused", "overtaken"),
    "cancel_status": (400, 404, 409, 501),
}
"""The values that the fields of a `Personality` may have, if they are not free."""

PERSONALITIES: Mapping[str, Personality] = {
    "openai": Personality(),
    "gateway": Personality(ids="long", changing_ids=True, errors="text", stream="ignored"),
    "minimal": Personality(
        ids="uuid",
        stream="refused",
        sparse=True,
        null_output=True,
        statuses="queued",
        errors="detail",
        not_found=400,
        batches=False,
    ),
    "eager": Personality(
        statuses="in_progress", partial=True, errors="number", cancel="overtaken", stream="gaps"
    ),
    "stubborn": Personality(
        errors="plain",
        cancel="refused",
        cancel_status=501,
        incomplete_reason="token_limit",
        stream="cut",
    ),
    "forgetful": Personality(stream="resume_refused"),
    "mute": Personality(stream="mute"),
}
"""Personalities by their names; the first is the default. Each difference occurs in one."""

DEFAULT = PERSONALITIES["openai"]
