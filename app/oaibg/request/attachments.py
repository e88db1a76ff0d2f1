"""Attachments of a prompt: finds the files, detects their types and builds message parts.

Errors are `UsageError`s that name the file; sizes are checked before files are read.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from oaibg.base.record import Record
from oaibg.base.text import has_surrogates, one_line
from oaibg.contract.errors import UsageError
from oaibg.request.encodings import conversion, likely_encoding
from oaibg.request.json_files import open_regular, reading
from oaibg.request.patterns import Found, find_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BYTES_MAX = 256 << 20
"""Limit for all files of a request together. In Base64 this is 342 MiB, below the limit of 512 MB
for a request with images in OpenAI's guide "Images and vision"."""

IMAGES_MAX = 1500
"""Maximum number of images in a request, from the same guide."""

PDF_BYTES_MAX = 50 << 20
"""Limit for one PDF, and for all PDFs of a request together: 50 MB, from OpenAI's guide "File
inputs". MB is read as MiB, so that the API decides about sizes between the two."""

TEXT_CHARACTERS_MAX = 10_485_760
"""Maximum length of a text part, from the API's error `string_above_max_length`."""

_HEAD = 1024
_NAMED = 10
"""Maximum number of files or directories that a sentence about files left out names."""
_PDF = "application/pdf"
_TEXT = "text/plain"
_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"%PDF-"), _PDF),
)
_LATE_PDF = re.compile(rb"%PDF-\d")
"""How a PDF begins; ISO 32000 allows other bytes before it, within the first 1024."""
_PDF_END = re.compile(rb"startxref\s+\d+\s+%%EOF")
_LIMITS = {_PDF: PDF_BYTES_MAX, _TEXT: 4 * TEXT_CHARACTERS_MAX}
"""Maximum size of one file by type, in bytes; a character has up to four bytes."""
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
"""Bytes that text can't contain. Bell to carriage return and escape (colors) are allowed."""


class Attachment(Record):
    """An attached file: its path as given, its size in bytes, and its message part."""

    path: str
    bytes: int
    part: dict[str, Any]


class Attached(Record):
    """The attachments of a prompt, and a sentence about each pattern that left out files."""

    attachments: tuple[Attachment, ...]
    left_out: tuple[str, ...] = ()


def read_attachments(patterns: Sequence[str]) -> Attached:
    """Return the files of paths and patterns as parts of a message, in order, each file once.

    Patterns follow `glob` (`**` also matches in subdirectories); `~` is the home directory. A path
    that exists is never treated as a pattern. Patterns leave out what is ignored, and links that
    lead outside of the working directory and of the directory that the pattern names.
    """
    files: dict[str, _File] = {}
    left_out: list[str] = []
    for pattern in patterns:
        try:
            found = _found(pattern)
            for name, path in found.files:
                file = _examined(name, os.path.realpath(path))
                files.setdefault(file.path, file)
        except ValueError as error:
            raise UsageError(f"--attach {pattern!r}: not a valid path ({error}).") from error
        if found.ignored or found.outside:
            left_out.append(_left_out(pattern, found))
    _check_sizes(list(files.values()))
    attachments = tuple(_attachment(file) for file in files.values())
    return Attached(attachments=attachments, left_out=tuple(left_out))


class _File(Record):
    """A file before it is read: its path as given, its real path, size and media type."""

    name: str
    path: str
    size: int
    media: str
    limit: int


def _found(pattern: str) -> Found:
    if pattern in ("", "-"):
        message = "give a file's path; only a prompt can come from stdin (--prompt-file -)"
        raise UsageError(f"--attach {pattern!r}: {message}.")
    found = find_files(pattern)
    if found.files:
        return found
    if found.ignored or found.outside:
        raise UsageError(_left_out(pattern, found))
    hint = (
        "A pattern matches files, not directories; ** also searches subdirectories. A name "
        "with a leading dot only matches a pattern with a leading dot."
    )
    raise _refused(pattern, "no file matches this pattern.", hint)


def _left_out(pattern: str, found: Found) -> str:
    """Return a sentence about the files that a pattern left out."""
    places = [
        f"{one_line(place)} ({_files(number)})" if place.endswith("/") else one_line(place)
        for place, number in found.ignored.items()
    ]
    links = [one_line(link) for link in found.outside]
    reasons = [
        f"{why}: {', '.join(names[:_NAMED])}" + (", …" if len(names) > _NAMED else "")
        for names, why in (
            (places, "ignored by .gitignore or part of installed packages"),
            (links, "links that lead out of the directory"),
        )
        if names
    ]
    number = sum(found.ignored.values()) + len(links)
    mend = "To attach such a file, give its path."
    return (
        f"--attach {pattern}: {_files(number)} left out. {'; '.join(reasons).capitalize()}. {mend}"
    )


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number:,} files"


def _examined(name: str, path: str) -> _File:
    """Return a file with its size and media type, which its first bytes show."""
    if has_surrogates(name):
        raise _refused(name, "the name is not UTF-8 and can't be sent; rename the file.")
    with _opened(name, path) as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(_HEAD)
        file.seek(max(size - _HEAD, 0))
        tail = file.read(_HEAD)
    media = next((media for magic, media in _MAGIC if magic.match(head)), _TEXT)
    if media == _TEXT and _LATE_PDF.search(head) and _PDF_END.search(tail):
        media = _PDF
    if media == _TEXT:
        _check_control(name, head)
    limit = _LIMITS.get(media, BYTES_MAX)
    return _File(name=name, path=path, size=size, media=media, limit=limit)


@contextmanager
def _opened(name: str, path: str) -> Iterator[BinaryIO]:
    pipe = f"--attach {name}: this is a pipe or a device; save its content to a file first."
    with reading(f"--attach {name}"):
        try:
            with open_regular(path, pipe) as file:
                yield file
        except IsADirectoryError as error:
            inside = os.path.join(name, "*")  # noqa: PTH118
            raise _refused(name, f"this is a directory; use '{inside}' for its files.") from error


def _check_sizes(files: Sequence[_File]) -> None:
    for file in files:
        _check_size(file, file.size)
    pdfs = [file for file in files if file.media == _PDF]
    images = [file for file in files if file.media.startswith("image/")]
    pdf_size, size = (sum(file.size for file in some) for some in (pdfs, files))
    for found, limit, what, some in (
        (pdf_size, PDF_BYTES_MAX, "all PDFs together have {:,} bytes", pdfs),
        (size, BYTES_MAX, "all attachments together have {:,} bytes", files),
        (len(images), IMAGES_MAX, "there are {:,} images", images[: IMAGES_MAX + 1]),
    ):
        if found > limit:
            most = f"the limit for a request is {limit:,}. Attach fewer files, or use several jobs."
            raise _refused(some[-1].name, f"{what.format(found)}; {most}")


def _check_size(file: _File, size: int) -> None:
    if size > file.limit:
        is_text = file.media == _TEXT
        most = f"{TEXT_CHARACTERS_MAX:,} characters" if is_text else f"{file.limit:,} bytes"
        limit = f"the limit for its type ({file.media}) is {most}"
        why = f"the file has {size:,} bytes; {limit}. Split it, or make it smaller."
        raise _refused(file.name, why)


def _attachment(file: _File) -> Attachment:
    """Read a file, which may have grown since it was examined."""
    with _opened(file.name, file.path) as opened:
        data = opened.read(file.limit + 1)
    _check_size(file, len(data))
    return Attachment(path=file.name, bytes=len(data), part=_part(file, data))


def _part(file: _File, data: bytes) -> dict[str, Any]:
    if file.media == _TEXT:
        return {"type": "input_text", "text": _text(file.name, data)}

    from base64 import b64encode

    url = (b"data:%b;base64," % file.media.encode() + b64encode(data)).decode("ascii")
    if file.media == _PDF:
        return {"type": "input_file", "filename": os.path.basename(file.name), "file_data": url}  # noqa: PTH119
    return {"type": "input_image", "detail": "auto", "image_url": url}


def _text(name: str, data: bytes) -> str:
    """Return a text file under a heading, without a byte order mark."""
    _check_control(name, data)
    try:
        text = f"File: {one_line(name)}\n\n{data.decode('utf-8-sig')}"
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8: {error.reason}"
        raise _unsupported(name, why, data) from error
    if len(text) > TEXT_CHARACTERS_MAX:
        most = f"the limit is {TEXT_CHARACTERS_MAX:,}. Split the file."
        raise _refused(name, f"with its heading, the text has {len(text):,} characters; {most}")
    return text


def _check_control(name: str, data: bytes) -> None:
    found = _CONTROL.search(data)
    if found:
        why = f"byte {found.start()} is 0x{found[0].hex()}, which is not text"
        raise _unsupported(name, why, data)


def _unsupported(name: str, why: str, data: bytes) -> UsageError:
    encoding = likely_encoding(data)
    hint = (
        "Convert the file to one of these types, or upload it with the Files API and use its ID "
        "in --input-json-file."
        if encoding is None
        else f"The text looks like {encoding}. {conversion(encoding, name)}"
    )
    kinds = "neither UTF-8 text nor a PNG, JPEG, WEBP, GIF or PDF file"
    return _refused(name, f"{kinds} ({why}).", hint)


def _refused(name: str, why: str, hint: str | None = None) -> UsageError:
    return UsageError(f"--attach {name}: {why}", hint=hint)
