"""Notices that a user sees once: each leaves an empty file in the directory of the state."""

from __future__ import annotations

import os

from oaibg.state.own_files import NOTICES


def is_first_time(folder: str, notice: str) -> bool:
    """Return whether a notice has not been shown yet, and note that it is shown now.

    It counts as shown if the directory of the state is missing or can't be written.
    """
    path = os.path.join(folder, f"{NOTICES}{notice}")  # noqa: PTH118
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return False
    return True
