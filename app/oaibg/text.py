"""Text from elsewhere, made safe to hand on."""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\n\t\u200c\u200d")  # the last two join letters and emoji, and steer nothing


def inert(text: str) -> str:
    """The text with all that could steer a terminal or reorder what is read made visible.

    That is control characters, bidirectional marks and lone surrogates; line ends and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escaped(char) for char in text)


def utf8(text: str) -> bytes:
    """The text's bytes; lone surrogates, which have none, become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _is_harmless(char: str) -> bool:
    return char.isprintable() or char in _KEPT or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
