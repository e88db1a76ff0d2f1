"""Untrusted text, made safe to print and to encode."""

from __future__ import annotations

import time
import unicodedata

_KEPT = frozenset("\n\t\u200c\u200d")  # the last two only join letters and emoji


def inert(text: str) -> str:
    """Escape all characters that could control a terminal or reorder a line.

    These are control characters, bidirectional marks and lone surrogates; line ends and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escaped(char) for char in text)


def one_line(text: str) -> str:
    """Make a text inert and put it on one line, so that it can't imitate lines of oaibg."""
    return inert(" ".join(text.split("\n")).replace("\t", " "))


def has_surrogates(text: str) -> bool:
    """Whether the text contains lone surrogates, which UTF-8 can't encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def utf8(text: str) -> bytes:
    """Encode the text in UTF-8; lone surrogates become U+FFFD."""
    if has_surrogates(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.encode()


def timestamp(seconds: float) -> str:
    """Format Unix seconds as ISO 8601 in UTC, with milliseconds and `Z`."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"


def host_of(url: str | None) -> str:
    """Return the host of a URL, with its port if it has one, without credentials; or empty."""
    from urllib.parse import urlsplit

    return urlsplit(url or "").netloc.rpartition("@")[2]


def dollars(amount: float) -> str:
    """Format US dollars with cents; small amounts with the digits that they need, at most 6."""
    return f"${amount:,.2f}" if amount >= 1 else "$" + f"{amount:.6f}".rstrip("0").rstrip(".")


def _is_harmless(char: str) -> bool:
    return char.isprintable() or char in _KEPT or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
