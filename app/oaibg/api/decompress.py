"""Decompresses a reply's body piece by piece, as tolerantly as other HTTP clients do."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from oaibg.contract.errors import CallFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIECE_BYTES = 1 << 20
"""Maximum size of a decompressed piece: a few compressed bytes may expand to very many."""

_GZIP = ("gzip", "x-gzip")
_GZIP_START = b"\x1f\x8b"
_UNSUPPORTED = ("br", "zstd", "compress", "x-compress")

_PLAIN = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{|data:|event:)")
"""The start of JSON or of events; no format without magic bytes begins with it in practice."""
_ENOUGH = 16
"""Bytes that suffice to recognize a plain body."""


async def decompressed(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Yield a decompressed body; one that is not compressed, whatever its headers say, as it is.

    Encodings that don't exist, such as `utf-8`, change nothing. Raises `CallFailed` if the body is
    invalid or cut off, or if its format is not supported.
    """
    known = encoding in ("deflate", *_GZIP, *_UNSUPPORTED)
    pieces, head = await _begun(pieces, _ENOUGH if known else 0)
    if not known or _is_plain(head, encoding):
        async for piece in pieces:
            yield piece
        return
    if encoding in _UNSUPPORTED:
        message = f"the reply has the unsupported content encoding {encoding!a}"
        raise CallFailed("bad_reply", message)
    async for piece in _inflated(pieces, encoding):
        yield piece


async def _begun(pieces: AsyncIterator[bytes], least: int) -> tuple[AsyncIterator[bytes], bytes]:
    """Return a body that can still be read in full, and its first bytes: at least so many."""
    head = b""
    while len(head) < least and (piece := await anext(pieces, None)) is not None:
        head += piece

    async def whole() -> AsyncIterator[bytes]:
        if head:
            yield head
        async for piece in pieces:
            yield piece

    return whole(), head


def _is_plain(head: bytes, encoding: str) -> bool:
    if encoding in _GZIP:
        return not head.startswith(_GZIP_START[: len(head)])
    return not head or _PLAIN.match(head) is not None


async def _inflated(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Yield a body in gzip or deflate.

    A gzip body may have several members, one after the other; what follows the last one is ignored.
    Deflate may lack the header of zlib.
    """
    member, packed, ended = None, b"", False  # the current member, unused bytes, if one has ended
    try:
        async for piece in pieces:
            packed += piece
            while True:
                if member is None:
                    packed = packed.lstrip(b"\0") if ended else packed  # padding between members
                    if len(packed) < len(_GZIP_START):
                        break
                    if ended and not packed.startswith(_GZIP_START):
                        packed = b""
                        break
                    member = zlib.decompressobj(_window(packed, encoding))
                data = member.decompress(packed, PIECE_BYTES)
                packed = member.unconsumed_tail
                yield data
                if member.eof:
                    packed, member, ended = member.unused_data, None, True
                elif not packed and len(data) < PIECE_BYTES:
                    break
    except zlib.error as error:
        raise CallFailed("bad_reply", f"the compressed reply is invalid ({error})") from error
    if member is not None or (packed and not ended):
        raise CallFailed("bad_reply", "the compressed reply is cut off")


def _window(start: bytes, encoding: str) -> int:
    """Return the window size that makes zlib read the format with these first bytes."""
    if encoding != "deflate" or start.startswith(_GZIP_START):
        return zlib.MAX_WBITS | 16
    has_header = start[0] & 0x0F == zlib.DEFLATED and int.from_bytes(start[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
