"""Recognizes a result line that was cut off, by kill -9 or a full disk.

It is removed from the file, so it must not be anything else, such as a text of the user's.
"""

from __future__ import annotations

import json
import re

_OWN = b'{"id":"batch_req_'
"""The start of a line, without spaces, as oaibg and the Batch API write it."""

_HEAD = re.compile(rb'\{"id": ?(?:null|"[^"\\]*"), ?"custom_id": ?"')
"""The start of a line of other servers."""

_KEYS = (b'{"id"', b'{"custom_id"', b'{"response"', b'{"error"')


def is_cut_off(raw: bytes, *, is_first: bool) -> bool:
    """Return whether a last line without a line end is the start of a result.

    The first line of a file must be one without doubt. After other results, a part of the first key
    is enough, and so are the zeros that a crash can leave in place of a line.
    """
    text = raw.rstrip(b"\0")
    if not text:
        return not is_first
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return False
    compact = text[: 2 * len(_OWN)].replace(b" ", b"")
    if compact.startswith(_OWN) or _OWN.startswith(compact) or _HEAD.match(text):
        return True
    return not is_first and any(text.startswith(key) or key.startswith(text) for key in _KEYS)
