"""The `id` of a result line in background mode: it identifies the job and the request."""

from __future__ import annotations

import hashlib

_PREFIX = "batch_req_"
_HALF = 16
"""The number of digits that identify the job; as many identify the request."""


def id_of(base_url: str, run_key: str, custom_id: str, sha256: str) -> str:
    """Return the `id` of a result line: half of it identifies the job, half the request."""
    job = digest(base_url, run_key, custom_id)
    return _PREFIX + job[:_HALF] + digest(base_url, run_key, custom_id, sha256)[:_HALF]


def is_id_of_job(id_: object, own: str | None) -> bool:
    """Return whether a line's `id` belongs to the job whose lines have `own`; None is any."""
    half = len(_PREFIX) + _HALF
    is_own = isinstance(id_, str) and own is not None and id_[:half] == own[:half]
    return is_own or is_id_of_request(id_, own)


def is_id_of_request(id_: object, own: str | None) -> bool:
    """Return whether a line's `id` belongs to the same request as `own`; None is any.

    Version 0.4 wrote another form, which begins with the digits of the request.
    """
    if own is None or id_ == own:
        return True
    earlier = _PREFIX + own[len(_PREFIX) + _HALF :]
    return isinstance(id_, str) and len(id_) == len(own) and id_.startswith(earlier)


def digest(*texts: str) -> str:
    """Return the SHA-256 of texts, in hexadecimal."""
    return hashlib.sha256("\n".join(texts).encode(errors="replace")).hexdigest()
