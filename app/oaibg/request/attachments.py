"""Files that go along with a prompt: found, told apart by their content, and made message parts.

Everything wrong is a `UsageError` that names the file; sizes are checked before files are read.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from oaibg.base.record import Record
from oaibg.base.text import one_line
from oaibg.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BYTES_MAX = 256 << 20
"""What all files may have together. In Base64 that is 342 MiB: it keeps to the 512 MB of payload
that OpenAI's guide "Images and vision" gives as the limit of a request with images."""

IMAGES_MAX = 1500
"""Images in a request, by the same guide."""

PDF_BYTES_MAX = 50 << 20
"""What a PDF, and all PDFs of a request together, may have: 50 MB, by OpenAI's guide "File inputs".
That is read as the larger of its two meanings; what lies between them is the API's to judge."""

TEXT_CHARACTERS_MAX = 10_485_760
"""The longest text of a part, as the API's error `string_above_max_length` tells it."""

_HEAD = 1024
_PDF = "application/pdf"
_TEXT = "text/plain"
_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"%PDF-"), _PDF),
)
_LIMITS = {_PDF: PDF_BYTES_MAX, _TEXT: 4 * TEXT_CHARACTERS_MAX}
"""Bytes that a file of a type may have alone; a character has up to four of them."""
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
"""What no text has. It may have bell to carriage return, and the escape that colours a log."""


class Attachment(Record):
    """A file that goes along: its path as it was given, its size, and the part that it is."""

    path: str
    bytes: int
    part: dict[str, Any]


def read_attachments(patterns: Sequence[str]) -> list[Attachment]:
    """The files of some paths and patterns as parts of a message, in order, each file once.

    Args:
        patterns: paths, or patterns as `glob` has them (`**` goes down into all folders), in
            which `~` is a home folder. What exists under that very name is taken literally.

    Raises:
        UsageError: a file can't be read, is of no type that goes, or is too large; or a pattern
            has no match.
    """
    files: dict[str, _File] = {}
    for pattern in patterns:
        try:
            for name, path in _named(pattern):
                file = _examined(name, os.path.realpath(path))
                files.setdefault(file.path, file)
        except ValueError as error:
            raise UsageError(f"--attach {pattern!r}: no valid path ({error}).") from error
    _check_sizes(list(files.values()))
    return [_attachment(file) for file in files.values()]


class _File(Record):
    """A file before it is read: its path as it was given and as it is, size, and media type."""

    name: str
    path: str
    size: int
    media: str


def _named(pattern: str) -> list[tuple[str, str]]:
    """The files that a path or pattern names: each as it is told, and where it is."""
    from glob import glob, has_magic

    if pattern in ("", "-"):
        raise UsageError(
            f"--attach {pattern!r}: a file's path is needed; stdin can be the prompt "
            "(--prompt-file -)."
        )
    path = pattern if os.path.lexists(pattern) else os.path.expanduser(pattern)  # noqa: PTH111
    if os.path.lexists(path) or not has_magic(path):
        return [(pattern, path)]
    found = sorted(match for match in glob(path, recursive=True) if not os.path.isdir(match))  # noqa: PTH112, PTH207
    if not found:
        raise UsageError(
            f"--attach {pattern}: no file matches this pattern.",
            hint="Folders alone are no match, and names with a leading dot need one in the "
            "pattern; ** goes down into all folders.",
        )
    return [(match, match) for match in found]


def _examined(name: str, path: str) -> _File:
    """What a file's entry and its beginning tell."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"--attach {name}: the name is not UTF-8, so that it can't be sent; rename the file."
        ) from error
    with _opened(name, path) as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(_HEAD)
    media = next((media for magic, media in _MAGIC if magic.match(head)), _TEXT)
    if media == _TEXT:
        _check_control(name, head)
    return _File(name=name, path=path, size=size, media=media)


@contextmanager
def _opened(name: str, path: str) -> Iterator[BinaryIO]:
    """A regular file, open; on a pipe or device nothing is waited for."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(
                    f"--attach {name}: a pipe or a device; save what it gives to a file first."
                )
            yield file
    except IsADirectoryError as error:
        inside = os.path.join(name, "*")  # noqa: PTH118
        raise UsageError(f"--attach {name}: a folder; '{inside}' are its files.") from error
    except OSError as error:
        raise UsageError(f"--attach {name}: {os.strerror(error.errno or 0)}.") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _check_sizes(files: Sequence[_File]) -> None:
    for file in files:
        _check_size(file, file.size)
    pdfs = [file for file in files if file.media == _PDF]
    for some, limit, what in ((pdfs, PDF_BYTES_MAX, "PDFs"), (files, BYTES_MAX, "attachments")):
        size = sum(file.size for file in some)
        if size > limit:
            raise UsageError(
                f"--attach {some[-1].name}: all {what} together have {size:,} bytes; a request "
                f"may have {limit:,}. Leave some out, or make several jobs of them."
            )
    images = [file for file in files if file.media.startswith("image/")]
    if len(images) > IMAGES_MAX:
        raise UsageError(
            f"--attach {images[IMAGES_MAX].name}: there are {len(images):,} images; a request may "
            f"have {IMAGES_MAX:,}. Leave some out, or make several jobs of them."
        )


def _check_size(file: _File, size: int) -> None:
    limit = _LIMITS.get(file.media, BYTES_MAX)
    if size > limit:
        most = f"{limit:,}" if file.media != _TEXT else f"{TEXT_CHARACTERS_MAX:,} characters"
        raise UsageError(
            f"--attach {file.name}: it has {size:,} bytes; a file of its type ({file.media}) may "
            f"have {most}. Split it, or make it smaller."
        )


def _attachment(file: _File) -> Attachment:
    """Read a file, which may have grown meanwhile, and make a part of it."""
    with _opened(file.name, file.path) as opened:
        data = opened.read(_LIMITS.get(file.media, BYTES_MAX) + 1)
    _check_size(file, len(data))
    return Attachment(path=file.name, bytes=len(data), part=_part(file, data))


def _part(file: _File, data: bytes) -> dict[str, Any]:
    if file.media == _TEXT:
        return {"type": "input_text", "text": _text(file.name, data)}
    url = _data_url(file.media, data)
    if file.media == _PDF:
        return {"type": "input_file", "filename": os.path.basename(file.name), "file_data": url}  # noqa: PTH119
    return {"type": "input_image", "detail": "auto", "image_url": url}


def _text(name: str, data: bytes) -> str:
    """A text file under its heading; a byte order mark is no part of the text."""
    _check_control(name, data)
    try:
        text = f"File: {one_line(name)}\n\n{data.decode('utf-8-sig')}"
    except UnicodeDecodeError as error:
        raise _no_type(name, f"byte {error.start} is not UTF-8: {error.reason}") from error
    if len(text) > TEXT_CHARACTERS_MAX:
        raise UsageError(
            f"--attach {name}: with its heading it has {len(text):,} characters; a text may have "
            f"{TEXT_CHARACTERS_MAX:,}. Split it."
        )
    return text


def _data_url(media: str, data: bytes) -> str:
    from base64 import b64encode

    return (b"data:%b;base64," % media.encode() + b64encode(data)).decode("ascii")


def _check_control(name: str, data: bytes) -> None:
    found = _CONTROL.search(data)
    if found:
        raise _no_type(name, f"byte {found.start()} is 0x{found[0].hex()}, which no text has")


def _no_type(name: str, why: str) -> UsageError:
    return UsageError(
        f"--attach {name}: neither a text in UTF-8, nor a PNG, JPEG, WEBP or GIF image, nor a PDF "
        f"({why}).",
        hint="Convert it to one of these; or upload it with the Files API, and give its id in an "
        "--input-json-file.",
    )
