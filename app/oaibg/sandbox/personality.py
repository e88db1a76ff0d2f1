"""Personalities: how servers with the same API differ. Standard library only."""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.errors import ApiError, FieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """How a server differs from OpenAI's API. Raises `ValueError` if its fields are invalid.

    The defaults are OpenAI's API. All servers share everything else: the life of a job, the checks
    of a create, the order of stream events, and the headers.
    """

    ids: str = "openai"
    """`openai`: `resp_` and 50 hex characters; `uuid`; `long`: 428 characters of Base64."""
    changing_ids: bool = False
    """Whether every later reply shows the job with a new ID. All of its IDs remain valid."""
    statuses: str = "usual"
    """The status of a running job: `usual` (queued, then in progress), or always `queued` or
    `in_progress`."""
    sparse: bool = False
    """Whether responses contain only `id`, `status` and, once there is some, `output`."""
    null_output: bool = False
    """Whether `output` is null, not an empty list, while a job runs."""
    partial: bool = False
    """Whether a job that is `in_progress` shows part of its output."""
    stream: str = "usual"
    """How the server handles `stream=true`. `refused`: a create or a retrieve gets 400, and no job
    is created; `ignored`: the reply is JSON; `resume_refused`: a create streams, a retrieve gets
    400; `cut`: every stream ends without an error after 3 events; `mute`: once a job is cancelled,
    its streams stay open without a last event; `gaps`: a stream with `starting_after` repeats the
    previous 2 events and leaves out the next 2, but never the last event of the job."""
    incomplete_reason: str = "max_output_tokens"
    errors: str = "envelope"
    """The format of errors. `envelope`: OpenAI's; `number`: OpenAI's, with the HTTP status as
    `code`; `text`: `{"error": "…"}`; `detail`: FastAPI's `{"detail": "…"}`, with status 422 and a
    list of objects for invalid fields; `plain`: text/plain."""
    not_found: int = 404
    """The HTTP status for an unknown response: 404 or 400."""
    cancel: str = "usual"
    """`refused`: a cancel gets `cancel_status`, and the job keeps running; `overtaken`: a cancel
    succeeds, but the job still ends with its own status at its usual time."""
    cancel_status: int = 400
    """The HTTP status of a `refused` cancel: 400, 404, 409 or 501."""
    background: bool = True
    """Whether the server has background mode; if not, a create replies when the job has ended."""
    restart: str = "keeps"
    """What a restart (the fault `restart`) does to running jobs. `keeps`: nothing; `forgets`: they
    are unknown afterwards; `orphans`: they never end."""
    batches: bool = True
    """Whether the server has the Files API and the Batch API; if not, their paths get 404."""
    batch_ids: str = "openai"
    """`openai`: `batch_` and 32 hex characters; `dash`: `batch-` and a UUID; `uuid`."""
    batch_lines: str = "usual"
    """The lines of result files: `usual`, or `sparse`: without the keys that are null, and the body
    is a string of JSON."""
    summary: str = field(default="", compare=False)
    """What sets the server apart, in one line."""

    def __post_init__(self) -> None:
        """Raise `ValueError` with a message that names the invalid field."""
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                listed = ", ".join(str(choice) for choice in choices)
                raise ValueError(f"{name} must be one of {listed}, not {value!r}")

    def new_id(self) -> str:
        """Return a new response ID in the format of this server."""
        return _NEW_IDS[self.ids]()

    def new_batch_id(self) -> str:
        """Return a new batch ID in the format of this server."""
        return _NEW_BATCH_IDS[self.batch_ids]()

    def error(self, error: ApiError) -> tuple[int, dict[str, Any] | str]:
        """Return the HTTP status and the body, JSON or plain text, that this server sends."""
        listed = self.errors == "detail" and isinstance(error, FieldError)
        return 422 if listed else error.status, _ERRORS[self.errors](error)


def find_personality(value: Personality | str) -> Personality:
    """Return the personality with this name; a `Personality` is returned unchanged.

    Raises `ValueError` for a name that is not in `PERSONALITIES`.
    """
    if isinstance(value, Personality):
        return value
    if value not in PERSONALITIES:
        raise ValueError(f"personality must be one of {', '.join(PERSONALITIES)}, not {value!r}")
    return PERSONALITIES[value]


def _long_id() -> str:
    # Like an encrypted token: a version byte, which encodes as a letter, then random bytes.
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

_NEW_BATCH_IDS: Mapping[str, Callable[[], str]] = {
    "openai": lambda: f"batch_{secrets.token_hex(16)}",
    "dash": lambda: f"batch-{uuid.uuid4()}",
    "uuid": lambda: str(uuid.uuid4()),
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
    "restart": ("keeps", "forgets", "orphans"),
    "batch_ids": tuple(_NEW_BATCH_IDS),
    "batch_lines": ("usual", "sparse"),
}
"""The valid values of those fields of a `Personality` that have a fixed set of values."""

# fmt: off
PERSONALITIES: Mapping[str, Personality] = {
    "openai": Personality(summary="OpenAI's API"),
    "gateway": Personality(
        summary="long IDs that change with every reply; `stream=true` is ignored; batch IDs are "
        "UUIDs",
        ids="long", changing_ids=True, errors="text", stream="ignored", batch_ids="uuid",
    ),
    "minimal": Personality(
        summary="UUIDs, few keys, FastAPI errors, 400 for unknown IDs; no streams, no Batch API",
        ids="uuid", stream="refused", sparse=True, null_output=True, statuses="queued",
        errors="detail", not_found=400, batches=False,
    ),
    "eager": Personality(
        summary="partial output; a cancelled job still completes; resumed streams have gaps",
        statuses="in_progress", partial=True, errors="number", cancel="overtaken", stream="gaps",
    ),
    "stubborn": Personality(
        summary="plain-text errors; no cancel; streams end after 3 events",
        errors="plain", cancel="refused", cancel_status=501, incomplete_reason="token_limit",
        stream="cut",
    ),
    "forgetful": Personality(summary="streams can't be resumed", stream="resume_refused"),
    "batcher": Personality(
        summary="batch IDs with a dash; result lines without null keys, and with a string as body",
        batch_ids="dash", batch_lines="sparse",
    ),
    "synchronous": Personality(
        summary="no background mode: a create replies when the job has ended", background=False
    ),
    "volatile": Personality(summary="a restart loses the running jobs", restart="forgets"),
    "orphaning": Personality(
        summary="a restart leaves running jobs `in_progress` forever", restart="orphans"
    ),
    "mute": Personality(
        summary="streams of cancelled jobs stay open without a last event", stream="mute"
    ),
}
# fmt: on
"""Personalities by name; the first is the default. Every difference occurs in one of them."""

DEFAULT = PERSONALITIES["openai"]
