"""Names of files and folders, made of untrusted text.

A name is harmless on every system: one part of a path, printable, and neither hidden nor reserved.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTES_MAX = 150
"""Maximum length of a name in UTF-8; file systems allow 255, or 143 if they encrypt names."""

_EXTENSION_BYTES_MAX = 20
_FALLBACK = "file"
_FORBIDDEN = frozenset('<>:"|?*')  # on Windows, and on its file systems anywhere
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE)
_DIGEST_LENGTH = 12
_HAS_DIGEST = re.compile(rf".*-[0-9a-f]{{{_DIGEST_LENGTH}}}")


def safe_name(*texts: object) -> str:
    """Return a file name from the first of these names or paths that yields one.

    Of a path, only the last part counts. The extension is kept if a long name is cut.
    """
    for text in texts:
        if isinstance(text, str) and (name := _safe(text)):
            return name
    return _FALLBACK


def numbered(name: str) -> Iterator[str]:
    """Yield a file name, and then the same name with numbers: `a.csv`, `a-2.csv`, and so on."""
    yield name
    stem, extension = _split(name)
    for number in count(2):
        yield f"{stem}-{number}{extension}"


def folded(name: str) -> str:
    """Return what two names have in common if some file system takes them for the same."""
    return unicodedata.normalize("NFC", name.casefold())


class Folders:
    """Gives each job of a run a folder of its own, named like the job.

    A hash is appended if the name had to be changed, or if another job's differs only in case.
    """

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        """From a folded name to the job whose folder has it."""

    def of(self, job: str) -> str:
        """Return the name of a job's folder."""
        name = safe_name(job)
        is_plain = name == job and not _HAS_DIGEST.fullmatch(name)
        if is_plain and self._owners.setdefault(folded(name), job) == job:
            return name

        import hashlib

        digest = hashlib.sha256(job.encode(errors="surrogatepass")).hexdigest()
        return f"{name}-{digest[:_DIGEST_LENGTH]}"


def _safe(text: str) -> str:
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    composed = unicodedata.normalize("NFC", last)
    kept = (char if char.isprintable() and char not in _FORBIDDEN else "_" for char in composed)
    # A leading hyphen would look like an option; Windows drops dots and spaces at the end.
    name = "".join(kept).lstrip(" .-").rstrip(" .")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    stem, extension = _split(name)
    return _cut(stem, _BYTES_MAX - len(extension.encode())) + extension


def _split(name: str) -> tuple[str, str]:
    """Split a name into its stem and its extension, which may be empty."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) >= _EXTENSION_BYTES_MAX:
        return name, ""
    return stem, dot + extension


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
