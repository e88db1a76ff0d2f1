"""Files of the Files API: uploads, and the result files of batches."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_SECONDS = 30 * 86400
"""Seconds for which the API keeps files of batches by default."""

_ALPHABET = string.ascii_letters + string.digits


@dataclass
class StoredFile:
    """One file; its content is generated on first use."""

    id: str
    filename: str
    purpose: str
    created: float
    """Unix seconds."""
    write: Callable[[], bytes]
    expires_after: int | None = None
    """Seconds after `created`; None if the file never expires."""

    @cached_property
    def content(self) -> bytes:
        """The content of the file."""
        return self.write()

    def payload(self) -> dict[str, Any]:
        """Return the file object, as the API shows it."""
        created = int(self.created)
        kept = self.expires_after
        return {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": len(self.content),
            "created_at": created,
            "expires_at": None if kept is None else created + kept,
            "status": "processed",
            "status_details": None,
        }


def new_file_id() -> str:
    """Return a new file ID in the API's format."""
    return "file-" + "".join(secrets.choice(_ALPHABET) for _ in range(22))
