"""Decodes text in UTF-8, and says what any other content looks like and how to convert it."""

from __future__ import annotations

import os
import re
import shlex
from codecs import (
    BOM_UTF16_BE,
    BOM_UTF16_LE,
    BOM_UTF32_BE,
    BOM_UTF32_LE,
    getincrementaldecoder,
)

from oaibg.request.mend import Mend

HEAD = 4096
"""The number of bytes by which an encoding is judged."""
_MARKS = {
    BOM_UTF32_LE: "UTF-32",
    BOM_UTF32_BE: "UTF-32",
    BOM_UTF16_LE: "UTF-16",
    BOM_UTF16_BE: "UTF-16",
}
"""The marks at the beginning of a text; a mark precedes any mark that it begins with."""
_ZEROS = (
    ({1, 3}, "UTF-16LE"),
    ({0, 2}, "UTF-16BE"),
    ({1, 2, 3}, "UTF-32LE"),
    ({0, 1, 2}, "UTF-32BE"),
)
"""Which of each four bytes can be zero in a text without a mark."""
_ATTACH = "Attach images and PDFs to a prompt with --attach."
_SAVE = "Save its content as text in UTF-8, and give that file."
_FILES = {
    b"%PDF-": ("a PDF file", _ATTACH),
    b"\x89PNG": ("a PNG image", _ATTACH),
    b"\xff\xd8\xff": ("a JPEG image", _ATTACH),
    b"GIF8": ("a GIF image", _ATTACH),
    b"PK\x03\x04": ("a ZIP archive or an Office document", _SAVE),
    b"\xd0\xcf\x11\xe0": ("an Office document", _SAVE),
    b"PAR1": ("a Parquet file", _SAVE),
    b"\x1f\x8b": ("a file compressed with gzip", "Decompress it with gunzip."),
}
"""How files that are not text begin, what they are, and what to do with one."""
_SCRIPTS = (
    ("euc_jp", "EUC-JP", "\u3040-\u30ff", 0.3),
    ("shift_jis", "SHIFT_JIS", "\u3040-\u30ff", 0.3),
    ("euc_kr", "EUC-KR", "\uac00-\ud7a3", 0.8),
    ("gb18030", "GB18030", "\u4e00-\u9fff\u3000-\u3017\uff00-\uff5e", 0.9),
    ("cp1251", "WINDOWS-1251", "\u0430-\u044f", 0.7),
    ("koi8_r", "KOI8-R", "\u0430-\u044f", 0.7),
)
"""Encodings whose text has long runs of bytes above 0x7f, with the characters that are frequent in
such a text, and their minimum share of all characters beyond ASCII."""


def decode(raw: bytes, path: str = "") -> str:
    """Decode UTF-8 without a byte order mark.

    Raises `ValueError` for anything else, and for NUL characters; `path` is for the hint of how to
    convert the content, and is `-` for stdin.
    """
    check_head(raw, path)
    return decode_part(raw, path)


def check_head(head: bytes, path: str, hint: str | None = None) -> None:
    """Raise `Mend` if a file begins like another kind of file, or like UTF-16 or UTF-32.

    `hint` says what to do with a file that is not text, if that depends on the option.
    """
    encoding, magic = _of_head(head[:HEAD])
    if magic is not None:
        kind, what_to_do = _FILES[magic]
        raise Mend(f"this is {kind}, not text", hint or what_to_do)
    if encoding is not None:
        raise Mend(f"the text looks like {encoding}, not UTF-8", conversion(encoding, path))


def decode_part(raw: bytes, path: str) -> str:
    """Decode a part of a file whose head was checked; otherwise like `decode`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(raw, error, path) from error
    if "\0" in text:
        raise ValueError(f"byte {raw.index(0)} is NUL, which is not text")
    return text


def likely_encoding(raw: bytes) -> str | None:
    """Return the likely encoding of a text that is not UTF-8, as iconv spells it; None if unclear.

    The text may be cut off at its end.
    """
    encoding, magic = _of_head(raw[:HEAD])
    if encoding is None and magic is None and not _is_utf8(raw):
        return _of_bytes(raw)
    return encoding


def conversion(encoding: str, path: str) -> str:
    """Return how to convert a file to UTF-8; `-` is stdin."""
    if path == "-":
        return f"Convert it in the pipe: … | iconv -f {encoding} -t UTF-8 | oaibg …"
    return f"Convert it: {iconv(encoding, path)}"


def iconv(encoding: str, path: str) -> str:
    """Return the command that converts a file to UTF-8; the new file has the same extension."""
    stem, extension = os.path.splitext(path or "FILE")  # noqa: PTH122
    names = (shlex.quote(name) for name in (stem + extension, f"{stem}.utf8{extension}"))
    return f"iconv -f {encoding} -t UTF-8 {' > '.join(names)}"


def _of_head(head: bytes) -> tuple[str | None, bytes | None]:
    """Return the encoding of a text that is not UTF-8, or the key in `_FILES` of another file."""
    found = next((magic for magic in _FILES if head.startswith(magic)), None)
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if encoding is None and b"\0" in head:
        places = {at % 4 for at, byte in enumerate(head) if not byte}
        is_frequent = head.count(0) * 4 >= len(head)
        if is_frequent or not _is_utf8(head):
            encoding = next((name for zeros, name in _ZEROS if places <= zeros), None)
    return encoding, found


def _is_utf8(head: bytes) -> bool:
    try:
        getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _not_utf8(raw: bytes, error: UnicodeDecodeError, path: str) -> ValueError:
    found = f"byte {error.start} is not UTF-8"
    if error.end == len(raw) and error.reason == "unexpected end of data" and error.start:
        hint = "The file ends in the middle of a character. Check whether it is complete."
        return Mend(f"{found} ({error.reason})", hint)
    encoding = _of_bytes(raw)
    if encoding is None:
        return ValueError(f"{found} ({error.reason}); convert the file to UTF-8")
    return Mend(f"{found}; the text looks like {encoding}", conversion(encoding, path))


def _of_bytes(raw: bytes) -> str | None:
    """Return the likely encoding of a text in one of the encodings before Unicode."""
    if re.search(rb"[\x00-\x08\x0e-\x1a]", raw):
        return None
    if re.search(rb"[\x80-\xff]{3}", raw):
        for codec, name, characters, share in _SCRIPTS:
            try:
                beyond = "".join(re.findall(r"[^\x00-\x7f]", raw.decode(codec)))
            except UnicodeDecodeError:
                continue
            if len(re.findall(f"[{characters}]", beyond)) >= share * len(beyond):
                return name
    return "WINDOWS-1252"
