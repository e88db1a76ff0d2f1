"""Files that go with a prompt: found, recognized by their content, and made message parts.

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
from oaibg.request.json_files import open_regular, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BYTES_MAX = 256 << 20
"""Limit for all files together. In Base64 it is 342 MiB, which stays below the 512 MB of payload
that OpenAI's guide "Images and vision" gives as the limit of a request with images."""

IMAGES_MAX = 1500
"""Images in a request, by the same guide."""

PDF_BYTES_MAX = 50 << 20
"""Limit for one PDF, and for all PDFs of a request together: 50 MB, by OpenAI's guide "File
inputs". MB is read as MiB; sizes between the two are left to the API to judge."""

TEXT_CHARACTERS_MAX = 10_485_760
"""The longest text of a part, according to the API's error `string_above_max_length`."""

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
"""The most bytes of one file of a type; a character has up to four of them."""
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
"""What no text has. Bell to carriage return are allowed, and the escape that colours a log."""


class Attachment(Record):
    """A file that goes with the prompt: its path as it was given, its size, and its part."""

    path: str
    bytes: int
    part: dict[str, Any]


def read_attachments(patterns: Sequence[str]) -> list[Attachment]:
    """The files of some paths and patterns as parts of a message, in order, each file once.

    Patterns are those of `glob` (`**` descends into all folders), and `~` is a home folder. A path
    that exists under that very name is not a pattern.
    """
    files: dict[str, _File] = {}
    for pattern in patterns:
        try:
            for name, path in _found(pattern):
                file = _examined(name, os.path.realpath(path))
                files.setdefault(file.path, file)
        except ValueError as error:
            raise UsageError(f"--attach {pattern!r}: no valid path ({error}).") from error
    _check_sizes(list(files.values()))
    return [_attachment(file) for file in files.values()]


class _File(Record):
    """A file before it is read: its path as it was given, its real path, size and media type."""

    name: str
    path: str
    size: int
    media: str
    limit: int


def _found(pattern: str) -> list[tuple[str, str]]:
    """The files of a path or pattern: the name for messages, and the path to open."""
    from glob import glob, has_magic

    if pattern in ("", "-"):
        message = "a file's path is needed; stdin can be the prompt (--prompt-file -)"
        raise UsageError(f"--attach {pattern!r}: {message}.")
    path = pattern if os.path.lexists(pattern) else os.path.expanduser(pattern)  # noqa: PTH111
    if os.path.lexists(path) or not has_magic(path):
        return [(pattern, path)]
    matches = sorted(match for match in glob(path, recursive=True) if not os.path.isdir(match))  # noqa: PTH112, PTH207
    if not matches:
        hint = (
            "Folders alone are no match, and names with a leading dot need one in the pattern; "
            "** goes down into all folders."
        )
        raise _refused(pattern, "no file matches this pattern.", hint)
    return [(match, match) for match in matches]


def _examined(name: str, path: str) -> _File:
    """The size and the media type of a file, by its beginning."""
    if has_surrogates(name):
        raise _refused(name, "the name is not UTF-8, so that it can't be sent; rename the file.")
    with _opened(name, path) as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(_HEAD)
    media = next((media for magic, media in _MAGIC if magic.match(head)), _TEXT)
    if media == _TEXT:
        _check_control(name, head)
    limit = _LIMITS.get(media, BYTES_MAX)
    return _File(name=name, path=path, size=size, media=media, limit=limit)


@contextmanager
def _opened(name: str, path: str) -> Iterator[BinaryIO]:
    pipe = f"--attach {name}: a pipe or a device; save what it gives to a file first."
    with reading(f"--attach {name}"):
        try:
            with open_regular(path, pipe) as file:
                yield file
        except IsADirectoryError as error:
            inside = os.path.join(name, "*")  # noqa: PTH118
            raise _refused(name, f"a folder; '{inside}' are its files.") from error


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
            may = f"a request may have {limit:,}. Leave some out, or make several jobs of them."
            raise _refused(some[-1].name, f"{what.format(found)}; {may}")


def _check_size(file: _File, size: int) -> None:
    if size > file.limit:
        is_text = file.media == _TEXT
        most = f"{TEXT_CHARACTERS_MAX:,} characters" if is_text else f"{file.limit:,}"
        may = f"a file of its type ({file.media}) may have {most}"
        why = f"it has {size:,} bytes; {may}. Split it, or make it smaller."
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
    """A text file under its heading, without a byte order mark."""
    _check_control(name, data)
    try:
        text = f"File: {one_line(name)}\n\n{data.decode('utf-8-sig')}"
    except UnicodeDecodeError as error:
        raise _unsupported(name, f"byte {error.start} is not UTF-8: {error.reason}") from error
    if len(text) > TEXT_CHARACTERS_MAX:
        may = f"a text may have {TEXT_CHARACTERS_MAX:,}. Split it."
        raise _refused(name, f"with its heading it has {len(text):,} characters; {may}")
    return text


def _check_control(name: str, data: bytes) -> None:
    found = _CONTROL.search(data)
    if found:
        raise _unsupported(name, f"byte {found.start()} is 0x{found[0].hex()}, which no text has")


def _unsupported(name: str, why: str) -> UsageError:
    hint = (
        "Convert it to one of these; or upload it with the Files API, and give its id in an "
        "--input-json-file."
    )
    kinds = "neither a text in UTF-8, nor a PNG, JPEG, WEBP or GIF image, nor a PDF"
    return _refused(name, f"{kinds} ({why}).", hint)


def _refused(name: str, why: str, hint: str | None = None) -> UsageError:
    return UsageError(f"--attach {name}: {why}", hint=hint)
