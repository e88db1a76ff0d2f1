"""Attachments for the tests: files by type, and what a dry run shows of them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Result

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
MAGIC = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/webp": b"RIFF\x0a\x00\n\x00WEBP",
    "image/gif": b"GIF89a",
    "application/pdf": b"%PDF-",
}


def parts_of(result: Result) -> list[dict[str, Any]]:
    """Return the parts of the user's message after the prompt."""
    assert result.code == 0
    message = result.last["body"]["input"][-1]
    assert (message["role"], message["content"][0]["text"]) == ("user", "hi")
    return list(message["content"][1:])


def names_of(result: Result) -> list[str]:
    """Return the attachments' paths in a dry run."""
    assert result.code == 0
    return [file["path"] for file in result.last["attachments"]]


def refusal(result: Result) -> str:
    """Return the message of a usage error, which is the only event."""
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert result.last["outcome"] == "not_created"
    return str(result.last["message"])


def write(path: Path, content: bytes = b"x", size: int | None = None) -> None:
    """Write a file and its parent directories; a hole extends it to `size` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        if size is not None:
            file.truncate(size)
